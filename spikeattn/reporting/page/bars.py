"""Bars that the page draws itself: the blocks of the network, both networks part by part, steps between conventions.

Lengths are percentages of the longest bar, values are texts; the template turns both into HTML.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import energy_in, energy_unit, known, percent, significant
from spikeattn.energy.comparison_result import Comparison
from spikeattn.reporting.figures.drawing import colour_of
from spikeattn.reporting.tables.analysis_sheets import comparison_unit, ratio_of, signed


def architecture(blocks: pd.DataFrame) -> list[dict[str, Any]]:
    """The blocks in the order of the network, each with its joules, its share of all and its parts.

    Args:
        blocks: of `block_energy`.
    """
    total, found = float(blocks["energy_mj"].sum()), []
    unit = energy_unit([total])  # that of the table of parts, which has the total too
    names = list(dict.fromkeys(blocks["part"]))
    most = float(blocks.groupby("block", sort=False)["energy_mj"].sum().max())
    for block, rows in blocks.groupby("block", sort=False):
        energy = float(rows["energy_mj"].sum())
        parts = [
            {
                "part": row["part"],
                "height": row["energy_mj"] / most * 100 if most > 0 else 0.0,
                "colour": colour_of(row["part"], names.index(row["part"])),
                "tip": f"{block}, {row['part']}: {energy_in(row['energy_mj'], *unit)}",
            }
            for row in rows.to_dict("records")
            if row["energy_mj"] > 0
        ]
        share = percent(energy / total) if known(energy) and total > 0 else ""
        found.append({"block": str(block), "energy": energy_in(energy, *unit), "share": share, "parts": parts})
    return found


def beside_ann(comparison: Comparison) -> list[dict[str, Any]]:
    """For every pricing of a comparison: its name, its sentences, and a pair of bars for every part and the whole."""
    found, unit = [], comparison_unit(comparison.parts)
    for price in comparison.prices.to_dict("records"):
        chosen = comparison.parts[
            (comparison.parts["costs"] == price["costs"]) & (comparison.parts["against"] == price["against"])
        ]
        energies = chosen[["energy_mj", "against_mj", "ci_high"]]
        scale = 100 / (float(energies.max().max()) or 1.0)
        head = f"{price['costs']}: "
        said = [_sentence(text.removeprefix(head)) for text in comparison.sentences if text.startswith(head)]
        mine = [text for text in said if price["against"] in text] or said
        rows = [_pair(comparison, row, price["against"], scale, unit) for row in chosen.to_dict("records")]
        found.append({"name": f"{price['costs']}, beside {price['against']}", "rows": rows, "sentences": mine})
    return found


def steps(fall: pd.DataFrame) -> list[dict[str, Any]]:
    """The steps of a waterfall: where each bar starts, how long it is, which way it goes."""
    _, factor = energy_unit(fall["energy_mj"])
    unit = energy_unit(fall["energy_mj"])[0]
    most, found = float(fall["energy_mj"].max()) or 1.0, []
    for row in fall.to_dict("records"):
        after, change = row["energy_mj"], row["difference_mj"]
        found.append(_step(row["switch"], f"{row['from']} → {row['to']}", after - change, after, most, factor, unit))
    found[0] |= {"label": fall.attrs["start"], "note": "", "change": "", "kind": "whole", "left": 0.0}
    found[0]["length"] = fall["energy_mj"].iloc[0] / most * 100
    end = float(fall["energy_mj"].iloc[-1])
    found.append(_step(fall.attrs["to"], "", 0.0, end, most, factor, unit) | {"change": "", "kind": "whole"})
    first = float(fall["energy_mj"].iloc[0])
    if first > 0:
        found[-1]["note"] = f"× {significant(end / first, 3)}"
    return found


def _sentence(text: str) -> str:
    """The text with a capital letter, unless it begins with the name of a network."""
    return f"A{text[1:]}" if text.startswith("a multiply") else text


def _step(label: str, note: str, before: float, after: float, most: float, factor: float, unit: str) -> dict[str, Any]:
    low, high, change = min(before, after), max(before, after), after - before
    return {
        "label": label,
        "note": note,
        "left": low / most * 100,
        "length": (high - low) / most * 100,
        "kind": "rise" if change > 0 else "drop" if change < 0 else "same",
        "change": f"{signed(change / factor)} {unit}" if change else "no change",
        "after": f"{significant(after / factor)} {unit}",
    }


def _pair(
    comparison: Comparison, row: dict[str, Any], against: str, scale: float, unit: tuple[str, float]
) -> dict[str, Any]:
    ratio, limits = ratio_of(row)
    whiskers = None
    if known(row["ci_low"]) and known(row["ci_high"]):
        whiskers = (row["ci_low"] * scale, (row["ci_high"] - row["ci_low"]) * scale)
    both = row["energy_mj"] > 0 and row["against_mj"] > 0
    bare = "no ratio: AND gates at no price" if both else "only one has such a part"
    text = f"× {ratio} {limits}".strip() if known(row["ratio"]) else bare
    bars = []
    for kind, name, key in (("snn", comparison.name, "energy_mj"), ("ann", against, "against_mj")):
        energy = row[key] if known(row[key]) else 0.0
        text_of = energy_in(energy, *unit)
        length = energy * scale
        reach = max(length, sum(whiskers)) if whiskers and kind == "snn" else length  # where the text begins
        tip = f"{row['part']}, {name}: {text_of}"
        bars.append({"kind": kind, "length": length, "reach": reach, "text": text_of, "tip": tip})
    verdict = row["verdict"] if known(row["verdict"]) else ""
    return {"part": row["part"], "bars": bars, "whiskers": whiskers, "ratio": text, "verdict": verdict}
