"""The share of spurious energy under every specification, in order: what its choice does, beside what images do."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from spikeattn.boundary.number_format import known
from spikeattn.reporting.figures.drawing import INK, PALETTE, figure_style
from spikeattn.reporting.figures.tips import tips
from spikeattn.spurious.specification_text import share_text

COLOURS = {"how much": PALETTE[0], "where": PALETTE[4]}


def draw_specifications(axes: Axes, frame: pd.DataFrame) -> None:
    """A row per specification with its interval, the lowest share above; the chosen one is black.

    Args:
        frame: of `SpuriousEnergy.specifications`.
    """
    with figure_style():
        rows = frame.sort_values("share", kind="stable").to_dict("records")
        nulls = frame["null"].nunique() > 1
        for question, colour in COLOURS.items():
            places = [place for place, row in enumerate(rows) if row["question"] == question]
            if not places:
                continue
            inks = [INK if rows[place]["chosen"] else colour for place in places]
            for place, ink in zip(places, inks, strict=True):
                low, high = rows[place]["low"], rows[place]["high"]
                if known(low) and known(high):
                    axes.plot([low, high], [place, place], color=ink, linewidth=1.3, solid_capstyle="butt")
            shares = [rows[place]["share"] for place in places]
            points = axes.scatter(shares, places, s=26, color=inks, zorder=3, clip_on=False)
            axes.scatter([], [], s=26, color=colour, label=question)
            told = [share_text(*(rows[place][key] for key in ("share", "low", "high"))) for place in places]
            tips(points, [f"{_name(rows[place], nulls)}: {text}" for place, text in zip(places, told, strict=True)])
        axes.scatter([], [], s=26, color=INK, label="chosen")
        axes.set_yticks(np.arange(len(rows)), [_name(row, nulls) for row in rows], fontsize=8)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.set_xlabel("Share of the blocks' energy at tokens that are not significant")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, borderaxespad=0.2, handletextpad=0.2)


def _name(row: dict, nulls: bool) -> str:
    rule = str(row["rule"]).replace("<=", "≤")
    return f"{row['null']}, {rule}" if nulls else rule
