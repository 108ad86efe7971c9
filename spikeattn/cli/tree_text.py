"""A network as a tree on the terminal: part, block, shape, firing rate, SOPs, energy and share, a line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spikeattn.cli.output import text
from spikeattn.cli.printed_table import Line

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

ROWS = 24  # of the tree on a screen of 40 lines; the numbers below it take the others


def tree_text(profile: Profile, full: bool) -> list[Line]:
    """The tree as deep as a screen allows, or with `full` down to every layer."""
    import pandas as pd

    from spikeattn.boundary.number_format import MISSING, amount, energy_unit, known, percent, rate, significant
    from spikeattn.reporting.tables.network_tree import LAYER, deepest_level, network_tree

    tree = network_tree(profile)
    level = LAYER if full else deepest_level(tree, ROWS)
    shown = tree[tree["level"] <= level]
    unit, factor = energy_unit(tree["energy_mj"])
    rows: list[dict[str, Any]] = []
    for row, stem in zip(shown.to_dict("records"), stems([int(depth) for depth in shown["depth"]]), strict=True):
        shape = row["shape"]
        rows.append(
            {
                "layer": f"{stem}{row['name']}",
                "receives": "×".join(map(str, shape)) if shape else MISSING,
                "rate": rate(row["rate"]) if known(row["rate"]) else MISSING,
                "SOPs": amount(row["sops"]) if known(row["sops"]) else "not counted",
                f"energy ({unit})": significant(row["energy_mj"] / factor, 3) if row["counted"] else MISSING,
                "share": percent(row["share"]) if known(row["share"]) else MISSING,
            }
        )
    frame = pd.DataFrame(rows)
    said = "rate: mean firing rate of what a layer receives, of several layers weighted by their dense operations"
    deeper = "" if level == LAYER else "; --full has every layer"
    return [text(frame, dict.fromkeys(frame.columns[2:], str), spare=(["receives"], ["share"])), "", said + deeper]


def stems(depths: Sequence[int]) -> list[str]:
    """The lines of a tree before every name, from the depth of each; a parent stands before its children."""
    drawn = []
    for place, depth in enumerate(depths):
        lines = ""
        for each in range(1, depth + 1):
            following = next((later for later in depths[place + 1 :] if later <= each), 0) == each
            if each == depth:
                lines += "├─ " if following else "└─ "
            else:
                lines += "│  " if following else "   "
        drawn.append(lines)
    return drawn
