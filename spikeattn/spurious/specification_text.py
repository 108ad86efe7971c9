"""The grid of specifications as text: the chosen line, the range, and one line per null and rule."""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import known, percent

SCREEN = 80  # columns of a terminal that nobody has made wider
MARK = "*"  # behind the chosen share
Row = dict[str, Any]


def share_text(share: float, low: float | None, high: float | None) -> str:
    """ "66.7 % [60.1, 71.9 %]", or the share alone where it has no limits."""
    if low is None or high is None or not (known(low) and known(high)):
        return percent(share)
    return f"{percent(share)} [{percent(low).removesuffix(' %')}, {percent(high)}]"


def chosen_text(frame: pd.DataFrame) -> str:
    """The chosen specification in words: "q ≤ 0.1, how much, null pixel"."""
    row = frame[frame["chosen"]].iloc[0]
    return f"{_shown(row['rule'])}, {row['question']}, null {row['null']}"


def _shown(rule: object) -> str:
    """A rule as everywhere on screen; in tables its sign is ASCII."""
    return str(rule).replace("<=", "≤")


def range_text(frame: pd.DataFrame) -> str:
    """Between which shares the specifications lie, and what differs between them."""
    shares, nulls = frame["share"], list(frame["null"].unique())
    kinds = "null" if len(nulls) == 1 else "nulls"
    return (
        f'between {percent(shares.min())} and {percent(shares.max())} of the blocks\' energy by how "significant" is '
        f"specified ({len(frame)} specifications; {kinds}: {', '.join(nulls)})"
    )


def lines_of(frame: pd.DataFrame) -> list[Row]:
    """One line per null and rule: null, rule and a column for every question; the chosen share is marked."""
    lines = []
    for (null, rule), group in frame.groupby(["null", "rule"], sort=False):
        texts = {
            row["question"]: share_text(row["share"], row["low"], row["high"]) + (f" {MARK}" if row["chosen"] else "")
            for row in group.to_dict("records")
        }
        lines.append({"null": null, "significant": _shown(rule), **texts})
    return lines


def as_text(frame: pd.DataFrame, of_network: float) -> str:
    """The chosen line, the range and the grid, aligned.

    Args:
        of_network: the chosen share of the whole network's energy.
    """
    row = frame[frame["chosen"]].iloc[0]
    chosen = (
        f"{share_text(row['share'], row['low'], row['high'])} of the blocks' energy is at tokens that are not "
        f"significant ({chosen_text(frame)}), {percent(of_network)} of the network's;"
    )
    head = "".join(f"{textwrap.fill(text, SCREEN)}\n" for text in (chosen, f"{range_text(frame)}:"))
    lines = lines_of(frame)
    names = list(lines[0])
    table = [names, *([str(line.get(name, "")) for name in names] for line in lines)]
    widths = [max(len(each[k]) for each in table) for k in range(len(names))]
    return head + "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip() for each in table
    )
