"""Accuracy against energy over the number of time steps: what stopping earlier saves, and what it costs in answers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from spikeattn.boundary.number_format import energy_in, energy_unit
from spikeattn.reporting.figures.drawing import INK, NARROW, PALETTE, figure_style, finish
from spikeattn.reporting.figures.tips import tips
from spikeattn.reporting.tables.analysis_sheets import accuracy_of

_ROOM = 0.1  # of the axis: what a line of text below the lower end of a whisker takes


def has_accuracy(sweep: pd.DataFrame) -> bool:
    """Whether the accuracy after any number of steps is known, so that there is something to draw."""
    return bool(sweep["accuracy"].notna().any())


def accuracy_energy(sweep: pd.DataFrame, note: str = "") -> Figure:
    """One point per number of steps t whose accuracy is known, with its Wilson interval, under the first cost table.

    Args:
        sweep: of `spikeattn.energy.what_if.sweep`.
        note: a line of warning under the figure.
    """
    with figure_style():
        first = sweep[sweep["costs"] == sweep["costs"].iloc[0]]
        rows = first[first["accuracy"].notna()].drop_duplicates("t").sort_values("t").to_dict("records")
        unit, factor = energy_unit([*sweep["snn_mj"], *sweep["ann_mj"]])  # of the table beside it
        spent = [row["snn_mj"] / factor for row in rows]
        share = [row["accuracy"] for row in rows]
        below = [max(row["accuracy"] - row["accuracy_low"], 0.0) for row in rows]
        above = [max(row["accuracy_high"] - row["accuracy"], 0.0) for row in rows]
        figure = Figure(figsize=(NARROW, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.errorbar(spent, share, [below, above], fmt="-", color=PALETTE[0], ecolor=INK, elinewidth=1, capsize=3)
        points = axes.scatter(spent, share, s=24, color=PALETTE[0], zorder=3)
        told = [
            f"t = {row['t']}: {energy_in(row['snn_mj'], unit, factor)}, accuracy {' '.join(accuracy_of(row))}"
            for row in rows
        ]
        tips(points, told)
        for row, x in zip(rows, spent, strict=True):
            label = f"t = {row['t']}" if len(rows) <= 12 or row["t"] in (1, rows[-1]["t"]) else ""
            above = row["accuracy_low"] < _ROOM
            end = (
                x,
                row["accuracy_high"] if above else row["accuracy_low"],
            )  # of its whisker
            axes.annotate(
                label, end, (5, 3 if above else -3), textcoords="offset points", fontsize=8, color=INK,
                va="bottom" if above else "top",
            )  # fmt: skip
        axes.set_xlim(0, max(spent) * 1.15 if max(spent) > 0 else 1)
        axes.set_ylim(min(0.0, min(row["accuracy_low"] for row in rows) - 0.1), 1.03)  # room for the text below
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.set_ylabel("Accuracy")
        axes.set_xlabel(f"Energy per image after t steps ({unit}), {first['costs'].iloc[0]}")
        axes.grid()
        return finish(figure, note)
