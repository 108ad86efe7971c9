"""Every number of attended images as arrays and as one row per token; which tokens a method keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.attention.questions import HOW_MUCH, WHERE, answers
from spikeattn.attention.regularize import METHOD, METHODS, THRESHOLD, WITH_THRESHOLD, regularize

if TYPE_CHECKING:
    from spikeattn.attention.bootstrap_test import Attention
    from spikeattn.attention.significance import Significance

Arrays = dict[str, NDArray[Any]]

PREFIXES = {HOW_MUCH: "", WHERE: "where_"}  # of the names of arrays and columns, by question
QUANTILES = {"null_5": 0.05, "null_50": 0.5, "null_95": 0.95}


def rule_of(method: str = METHOD, threshold: float | None = None) -> str:
    """When a token is called significant by a method, in words; "soft" keeps all, so its lfdr is asked."""
    if method == "pi0":
        return "lowest p, 1 − π₀"
    kind, limit = (method, threshold) if method in WITH_THRESHOLD else ("lfdr", None)
    return f"{kind} ≤ {THRESHOLD if limit is None else limit:g}"


def significant(found: Significance, method: str = METHOD, threshold: float | None = None) -> NDArray[np.bool_]:
    """Tokens [h, w] above the null's mean that a method keeps; see `rule_of`."""
    hard, limit = (method, threshold) if method in WITH_THRESHOLD else ("pi0" if method == "pi0" else "lfdr", None)
    return regularize(np.ones_like(found.z), found, hard, limit) > 0


def token_arrays(attentions: Sequence[Attention], method: str = METHOD, threshold: float | None = None) -> Arrays:
    """Arrays [image, layer, h, w] of images that were attended one by one; pi0 is [image, layer].

    maps, z, p, q (NaN where its estimator gives none), lfdr, significant, regularized_<method> for every method at the
    threshold given or its default, and of the null maps their mean, standard deviation (null_sd) and quantiles. Maps
    with a second answer have where_z, where_p, where_q, where_lfdr and where_significant; others have no such arrays.
    """
    rows = [_one(each, method, threshold) for each in attentions]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def token_table(arrays: Mapping[str, NDArray[Any]], ids: Sequence[str], layers: Sequence[int], model: str) -> Any:
    """One row per model, image, layer and token; layers, rows and columns are counted from 0."""
    places = np.indices(arrays["maps"].shape).reshape(4, -1)
    columns: dict[str, Any] = {
        "model": model,
        "image": np.array(ids, dtype=object)[places[0]],
        "layer": np.array(layers)[places[1]],
        "row": places[2],
        "column": places[3],
        "score": arrays["maps"].ravel(),
        "pi0": arrays["pi0"][places[0], places[1]],
    }
    shape = arrays["maps"].shape
    columns |= {k: v.ravel() for k, v in arrays.items() if k != "maps" and v.shape == shape}
    return pd.DataFrame(columns)


def grid_table(
    grids: NDArray[Any], ids: Sequence[str], layers: Sequence[int], columns: Sequence[str], model: str
) -> Any:
    """One row per image, layer, step or head, and token of grids [image, layer, column, h, w]."""
    places = np.indices(grids.shape).reshape(5, -1)
    return pd.DataFrame(
        {
            "model": model,
            "image": np.array(ids, dtype=object)[places[0]],
            "layer": np.array(layers)[places[1]],
            "part": np.array(columns, dtype=object)[places[2]],
            "row": places[3],
            "column": places[4],
            "score": grids.ravel(),
        }
    )


def _one(attention: Attention, method: str, threshold: float | None) -> Arrays:
    """Arrays [layer, h, w] of one image."""
    h, w = attention.maps.shape[-2:]
    maps = attention.maps.reshape(-1, h, w)
    found = attention.significance
    pairs = list(zip(maps, found, strict=True))
    nothing = np.full((h, w), np.nan)
    arrays: Arrays = {"maps": maps, "pi0": np.array([each.pi0 for each in found])}
    for question, answer in answers(attention).items():
        prefix = PREFIXES[question]
        measures = _measures(answer.significance, method, threshold)
        arrays |= {f"{prefix}{name}": array for name, array in measures.items()}
    for name in METHODS:
        limit = threshold if name == method else None
        kept = [
            nothing if name == "q" and one.q is None else regularize(scores, one, name, limit) for scores, one in pairs
        ]
        arrays[f"regularized_{name}"] = np.stack(kept)
    if attention.null_maps is not None:
        null = attention.null_maps.reshape(attention.null_maps.shape[1], -1, h, w)
        arrays |= {"null_mean": null.mean(0), "null_sd": null.std(0)}
        arrays |= {name: np.quantile(null, share, axis=0) for name, share in QUANTILES.items()}
    return arrays


def _measures(significance: Sequence[Significance], method: str, threshold: float | None) -> Arrays:
    """z, p, q (NaN where there is none), lfdr and what is significant, [layer, h, w]."""
    columns: dict[str, list[NDArray[Any]]] = {
        "z": [each.z for each in significance],
        "p": [each.p for each in significance],
        "q": [np.full_like(each.z, np.nan) if each.q is None else each.q for each in significance],
        "lfdr": [each.lfdr for each in significance],
        "significant": [significant(each, method, threshold) for each in significance],
    }
    return {name: np.stack(layers) for name, layers in columns.items()}
