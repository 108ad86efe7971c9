"""What `spikeattn attend` has found, as text for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.attention.regularize import THRESHOLD
from spikeattn.boundary.number_format import joules, percent
from spikeattn.cli.output import text
from spikeattn.cli.printed_table import Line, Page, PrintedTable
from spikeattn.reporting.tables.attention_tables import rule_of
from spikeattn.spurious.specification_text import chosen_text, lines_of, range_text, share_text


def as_text(summary: dict[str, Any], out: Path) -> Page:
    """The summary as aligned tables."""
    images = pd.DataFrame(summary["images"])
    lines: list[Line] = []
    for network in summary["networks"]:
        chosen = images[images["model"] == network["title"]]
        lines += [f"{network['title']}: {network['details']}, {_number(chosen['image'].nunique(), 'image')}", ""]
        lines += [_image_table(chosen, network["rule"]), ""]
        lines += [*_meaning(network), ""]
    if "agreement" in summary:
        lines += [*_agreement(summary), ""]
    if "energy" in summary:
        lines += [*_energy(summary["energy"]), *(f"note       {each}" for each in summary["energy"]["notes"]), ""]
    if "evaluation" in summary:
        lines += ["squares of noise in the images, and the attention they keep", "", _evaluation(summary), ""]
    if summary["skipped"]:
        first = summary["skipped"][0]
        lines += [f"skipped    {_number(len(summary['skipped']), 'image')}, first {first['image']}: {first['reason']}"]
    lines += _few(images["image"].nunique())
    if summary["untrained"]:
        lines += ["warning    UNTRAINED: random weights, these maps describe nothing"]
    folders = dict.fromkeys(
        name.partition("/")[0] for name in summary["files"] if name.endswith(".svg") and "/" in name
    )
    lines += [f"pictures   {out}: overview, {', '.join(folders)} (svg, pdf, png)"] if folders else []
    tables = [name for name in summary["files"] if name.endswith((".npz", ".csv", ".json"))]
    return [*lines, f"tables     {out}: {', '.join(tables)}"]


def _energy(record: dict[str, Any]) -> list[Line]:
    """The range over specifications first, then the chosen line, then the grid."""
    grid, share, whole = pd.DataFrame(record["specifications"]), record["share_of_blocks"], record["share_of_network"]
    lines = pd.DataFrame(lines_of(grid))
    said = (
        f"energy     {range_text(grid)};\n"
        f"           {chosen_text(grid)}: {share_text(share['value'], share['low'], share['high'])} of it goes to "
        f"tokens that are no more than noise,\n           {joules(record['spurious_mj']['value'])} per image, "
        f"{share_text(whole['value'], whole['low'], whole['high'])} of the network's; "
        f"{percent(record['outside_share'])} of it has no tokens (SPS, head);\n"
        f"           95 % over {record['interval']}, arithmetic only\n"
    )
    return [said, text(lines, dict.fromkeys(lines.columns, str)), ""]


def _image_table(images: pd.DataFrame, rule: str) -> PrintedTable:
    """A row per image and layer, and their mean; what is significant to each question that the maps were asked."""
    mean = images.astype({"significant_q": float}).mean(numeric_only=True)  # None throughout where there is no q
    two = "significant_where" in images and images["significant_where"].notna().any()  # older folders have one
    shares = {"how much": "significant", "where": "significant_where"} if two else {"significant": "significant"}
    if rule != rule_of():
        shares[f"q <= {THRESHOLD:g}"] = "significant_q"
    estimated = not (images["pi0"] == 1).all()  # 1 is what estimators take that do not estimate it
    rows = [
        {
            "image": row["image"],
            "block": f"{row['layer'] + 1:.0f}" if "layer" in row else "",
            "tokens": f"{row['tokens']:.0f}",
            **{name: percent(row[key]) for name, key in shares.items()},
            **({"pi0": f"{row['pi0']:.2f}"} if estimated else {}),
            "largest z": f"{row['largest_z']:.1f}",
        }
        for row in [*images.to_dict("records"), *([{"image": "mean", **mean}] if len(images) > 1 else [])]
    ]
    if len(images) > 1:
        rows[-1] |= {"block": "", "tokens": ""}
    frame = pd.DataFrame(rows)
    return text(frame, dict.fromkeys(frame.columns[1:], str))


def _meaning(network: dict[str, Any]) -> list[str]:
    """What significant means, once under the table; folders of older versions have the rule alone."""
    if "questions" not in network:
        return [f"significant  {network['rule']}"]
    asked = network["questions"]
    name = "significant" if len(asked) == 1 else ""
    return [*(f"{name or question:12} {said}" for question, said in asked.items()), f"{'':12} {network['promise']}"]


def _agreement(summary: dict[str, Any]) -> list[str]:
    """How far the two networks agree, a line per question that both were asked."""
    rows, compared = pd.DataFrame(summary["agreement"]), summary.get("comparison")
    if compared is None:  # of an older version, which asked one question, whichever it was of either
        return [f"agreement  {_overlap(rows)}"]
    lines = [f"agreement  {compared['reason']}"]
    return lines + [f"           {name}: {_overlap(rows[rows['question'] == name])}" for name in compared["questions"]]


def _overlap(rows: pd.DataFrame) -> str:
    means = rows.mean(numeric_only=True)
    return (
        f"rank correlation of the maps {_or_missing(means['rank_correlation'])}, significant to both "
        f"{percent(means['both'])} of the image, to either {percent(means['either'])} (means)"
    )


def _evaluation(summary: dict[str, Any]) -> PrintedTable:
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


def _few(n: int) -> list[Line]:
    """A warning where a mean over the images says nothing of others."""
    from spikeattn.runs.sample_warnings import FEW

    if n >= FEW:
        return []
    told = "1 image says nothing of others" if n == 1 else f"{n} images: their mean says little of others"
    return [f"warning    few-images: {told}; what is significant is told for each of them alone"]


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
