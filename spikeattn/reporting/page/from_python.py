"""`sa.report`: the page of a profile from Python, with attention as `sa.attend` gives it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.boundary import arguments
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.figures.attention_drawing import Seen
from spikeattn.reporting.figures.attention_panels import panel
from spikeattn.reporting.figures.drawing import to_png
from spikeattn.reporting.figures.input_pictures import is_events, picture_of
from spikeattn.reporting.page.gallery import MOST, Gallery, read_gallery, shown
from spikeattn.reporting.page.report_page import Report, write_report
from spikeattn.reporting.tables.attention_tables import rule_of, significant
from spikeattn.storage import csv_text

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

DPI = 220  # of a panel, as `spikeattn report` draws them
BLANK = 0.92  # light grey, where the image was not given


def report(
    profile: Profile,
    attention: Attention | str | Path | None = None,
    out: str | Path = "spikeattn-report",
    *,
    images: Any = None,
    ids: Sequence[str] | None = None,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
) -> Report:
    """Write tables, figures and the HTML page of a profile; what `spikeattn report` writes.

    >>> sa.report(profile, attention=sa.attend(model, images), images=images, out="report")

    Args:
        profile: of `sa.profile`, `sa.record(...).profile()`, or read from a run.
        attention: of `sa.attend` on the same model, or the folder that `spikeattn attend` wrote; shown as a gallery.
        out: folder, made where it is missing; files of an earlier report there are replaced, all others stay.
        images: with an `Attention`, the batch that was attended, [B, C, H, W] or [B, T, C, H, W], for its pictures.
        ids: names of these images; by default "image 0", "image 1", ...
        costs, convention: as of `profile.energy`.

    Returns:
        Report: its files and its summary; in a notebook it shows the page.

    Raises:
        SpikeattnError: attention of another model, other images than were attended, what `write_report` raises.
    """
    gallery: Gallery | None = None
    if isinstance(attention, Attention):
        gallery = gallery_of(attention, images, ids, profile)
    elif attention is not None:
        where = arguments.path("attention", attention)
        if images is not None or ids is not None:
            raise SpikeattnError("images and ids go with what sa.attend returned; a folder holds its own")
        gallery = read_gallery(where, profile.ledger.model.get("name"))
    return write_report(profile, arguments.path("out", out), costs, convention, gallery)


def gallery_of(attention: Attention, images: Any, ids: Sequence[str] | None, profile: Profile) -> Gallery:
    """Attention in memory as the page shows it: a panel of every image, of several layers the last."""
    name, model = attention.provenance["model"]["name"], profile.ledger.model.get("name")
    if name != model:
        raise SpikeattnError(
            f"attention is of {name}, and the profile of {model}; give the attention of the same model"
        )
    n = len(attention.maps)
    names = _names(ids, n)
    pictures = _pictures(attention, images, n)
    details = _details(attention)
    rows, drawn = [], []
    each = len(attention.significance) // n
    h, w = attention.maps.shape[-2:]
    title = name if attention.provenance["model"].get("trained") is not False else f"{name} (UNTRAINED)"
    for i, image in enumerate(names):
        found = attention.significance[i * each : (i + 1) * each]
        layers = _layers(attention, each, len(profile.structure.attention))
        rows += [
            {
                "model": title, "image": image, "layer": layer, "tokens": int(one.z.size), "pi0": float(one.pi0),
                "significant": float(significant(one).mean()), "largest_z": float(one.z.max()),
            }
            for layer, one in zip(layers, found, strict=True)
        ]  # fmt: skip
        if i < MOST:
            seen = Seen(
                image, title, picture_of(pictures[i]), "score", attention.maps[i].reshape(-1, h, w)[-1],
                attention.regularized()[i].reshape(-1, h, w)[-1], significant(found[-1]), rule_of(), details,
                is_events(pictures[i]), placement=attention.placement,
            )  # fmt: skip
            drawn.append((image, io.BytesIO(to_png(panel(seen), DPI))))
    table = pd.DataFrame(rows)
    untrained = attention.provenance["model"].get("trained") is False
    network = {"title": title, "details": details, "rule": rule_of(), "model": dict(attention.provenance["model"])}
    summary = {"untrained": untrained, "networks": [network], "files": [], "images": rows}
    summary |= {"provenance": attention.provenance}
    made = tuple(shown(image, file, table) for image, file in drawn)
    return Gallery(None, summary, made, table, csv_text.write(attention.frame()).encode())


def _names(ids: Sequence[str] | None, n: int) -> list[str]:
    names = [f"image {i}" for i in range(n)] if ids is None else [str(name) for name in ids]
    if len(names) != n or len(set(names)) != n:
        raise SpikeattnError(f"ids are {len(names)} names of {n} attended images; give one for each, no two the same")
    return names


def _pictures(attention: Attention, images: Any, n: int) -> list[np.ndarray]:
    """The inputs as pictures can be made of them; photographs are brought to 0..1, whatever their normalisation was."""
    if images is None:
        return [np.full((3, *attention.image_size), BLANK) for _ in range(n)]
    values = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images, dtype=np.float64)
    if values.ndim not in (4, 5) or len(values) != n or tuple(values.shape[-2:]) != tuple(attention.image_size):
        raise SpikeattnError(
            f"images are {tuple(values.shape)}; give the {n} that were attended, of {attention.image_size[0]} x "
            f"{attention.image_size[1]} pixels"
        )
    return [x if is_events(x) else (x - x.min()) / max(float(x.max() - x.min()), 1e-12) for x in values]


def _details(attention: Attention) -> str:
    known = attention.provenance
    return f"{known['statistic']}; null: {known['null']}, B = {known['replicates']}; {known['estimator']} p"


def _layers(attention: Attention, each: int, depth: int) -> list[float]:
    """The block of each map of an image among the `depth` that have attention; NaN where that is not known."""
    if "layer" not in attention.axes:
        layer = attention.provenance.get("layer")
        if not isinstance(layer, int) or (layer < 0 and not depth):
            return [float("nan")] * each
        return [layer % depth if layer < 0 else layer] * each
    axis = attention.axes.index("layer")
    return [int(i) for i in np.indices(attention.maps.shape[1:-2])[axis - 1].ravel()]
