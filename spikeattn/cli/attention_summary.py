"""What `spikeattn attend` found, for its summary.json and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spikeattn.attention.regularize import THRESHOLD
from spikeattn.cli.attention_energy import describe, sentence
from spikeattn.cli.attention_run import Network, record
from spikeattn.cli.output import records, text
from spikeattn.reporting.figures.attention_grids import agreement
from spikeattn.reporting.tables.attention_tables import significant
from spikeattn.reporting.tables.number_format import percent

if TYPE_CHECKING:
    from spikeattn.data.dataset import Skipped


def summarise(
    networks: Sequence[Network], skipped: Sequence[Skipped], evaluations: Sequence[Any], command: str
) -> dict[str, Any]:
    """Everything but the tokens: networks with their provenance, a row per image, what was left out, the command."""
    summary: dict[str, Any] = {
        "command": command,
        "untrained": any(not network.model.provenance["trained"] for network in networks),
        "networks": [record(network) for network in networks],
        "images": [row for network in networks for row in _image_rows(network)],
        "skipped": [{"image": each.id, "reason": each.reason} for each in skipped],
    }
    if len(networks) == 2:
        summary["agreement"] = _agreements(*networks)
    if networks[0].energy is not None:
        summary["energy"] = describe(networks[0].energy, networks[0].ids)
    if evaluations:
        tables = [found.summary().assign(model=n.title) for n, found in zip(networks, evaluations, strict=True)]
        summary["evaluation"] = records(pd.concat(tables))
    return summary


def as_text(summary: dict[str, Any], out: Path) -> str:
    """The summary as aligned tables."""
    images = pd.DataFrame(summary["images"])
    lines = []
    for network in summary["networks"]:
        chosen = images[images["model"] == network["title"]]
        lines += [f"{network['title']}: {network['details']}, {_number(chosen['image'].nunique(), 'image')}", ""]
        lines += [_image_table(chosen, network["rule"]), ""]
    if "agreement" in summary:
        means = pd.DataFrame(summary["agreement"]).mean(numeric_only=True)
        lines += [
            f"agreement  rank correlation of the maps {_or_missing(means['rank_correlation'])}, significant to both "
            f"{percent(means['both'])} of the image, to either {percent(means['either'])} (means)",
            "",
        ]
    if "energy" in summary:
        lines += [sentence(summary["energy"]), *(f"note       {each}" for each in summary["energy"]["notes"]), ""]
    if "evaluation" in summary:
        lines += ["squares of noise in the images, and the attention they keep", "", _evaluation(summary), ""]
    if summary["skipped"]:
        first = summary["skipped"][0]
        lines += [f"skipped    {_number(len(summary['skipped']), 'image')}, first {first['image']}: {first['reason']}"]
    if summary["untrained"]:
        lines += ["warning    UNTRAINED: random weights, these maps describe nothing"]
    folders = dict.fromkeys(name.partition("/")[0] for name in summary["files"] if "/" in name)
    lines += [f"pictures   {out}: overview, {', '.join(folders)} (svg, pdf, png)"] if folders else []
    tables = [name for name in summary["files"] if name.endswith((".npz", ".csv", ".json"))]
    return "\n".join([*lines, f"tables     {out}: {', '.join(tables)}"])


def _image_rows(network: Network) -> list[dict[str, Any]]:
    """Per image and layer: tokens, share significant, share with q <= 0.1, pi0."""
    s, rows = network.settings, []
    warned = {name for name, _ in network.warnings}
    for name, found in zip(network.ids, network.attentions, strict=True):
        for layer, one in zip(network.layers, found.significance, strict=True):
            q = one.q
            rows.append(
                {
                    "model": network.title,
                    "image": name,
                    "layer": layer,
                    "tokens": int(one.z.size),
                    "significant": float(significant(one, s.method, s.threshold).mean()),
                    "significant_q": None if q is None else float(((q <= THRESHOLD) & (one.z >= 0)).mean()),
                    "pi0": float(one.pi0),
                    "largest_z": float(one.z.max()),
                    "warned": name in warned,
                }
            )
    return rows


def _agreements(first: Network, second: Network) -> list[dict[str, Any]]:
    return [
        {"image": name, **agreement(one, other)}
        for name, one, other in zip(first.ids, first.tokens(), second.tokens(), strict=True)
    ]


def _image_table(images: pd.DataFrame, rule: str) -> str:
    """A row per image and layer, and their mean."""
    mean = images.mean(numeric_only=True)
    rows = [
        {
            "image": row["image"],
            "block": f"{row['layer'] + 1:.0f}" if "layer" in row else "",
            "tokens": f"{row['tokens']:.0f}",
            f"significant ({rule})": percent(row["significant"]),
            f"q <= {THRESHOLD:g}": percent(row["significant_q"]),
            "pi0": f"{row['pi0']:.2f}",
            "largest z": f"{row['largest_z']:.1f}",
        }
        for row in [*images.to_dict("records"), *([{"image": "mean", **mean}] if len(images) > 1 else [])]
    ]
    if len(images) > 1:
        rows[-1] |= {"block": "", "tokens": ""}
    frame = pd.DataFrame(rows)
    return text(frame, dict.fromkeys(frame.columns[1:], str))


def _evaluation(summary: dict[str, Any]) -> str:
    """D (0: all attention on the squares is gone, 1: none is), percentiles before and after, what is kept."""
    rows = [
        {
            "model": row["model"],
            "method": row["method"],
            "D": _with_error(row["D"], row.get("D_se")),
            "percentile before": f"{row['percentile_before']:.1f}",
            "after": f"{row['percentile_after']:.1f}",
            "squares kept": f"{row['nonzero_after']:.1f} %",
            "rest kept": f"{row['kept_outside']:.1f} %",
            "srmsd": f"{row['srmsd']:+.3f}",
        }
        for row in summary["evaluation"]
    ]
    frame = pd.DataFrame(rows)
    if frame["model"].nunique() == 1:
        frame = frame.drop(columns="model")
    return text(frame, {name: str for name in frame.columns if name not in ("model", "method")})


def _with_error(value: float | None, error: float | None) -> str:
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.2f}" if error is None or np.isnan(error) else f"{value:.2f} ± {error:.2f}"


def _or_missing(value: float) -> str:
    return "– (a map is constant)" if np.isnan(value) else f"{value:.2f}"


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
