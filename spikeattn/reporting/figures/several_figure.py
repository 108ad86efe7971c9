"""The figure of several runs: energy per image and accuracy of each, with their intervals, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spikeattn.boundary.number_format import energy_unit, known, percent, with_bound, with_limits
from spikeattn.reporting.figures.drawing import INK, MUTED, PALETTE, WIDTH, figure_style, finish, short
from spikeattn.reporting.figures.tips import tips

_ROOM = 0.15  # of the range on either side, so that no whisker ends at the frame


def several_figure(runs: pd.DataFrame, note: str = "") -> Figure:
    """A row per run: its energy, and its accuracy where any is known; the dotted line is the first run.

    Args:
        runs: of `side_by_side`.
        note: a line of warning under the figure.
    """
    with figure_style():
        scored = bool(runs["accuracy"].notna().any())
        figure = Figure(figsize=(WIDTH, 0.9 + 0.34 * len(runs)), layout="constrained")
        panels = figure.subplots(1, 2 if scored else 1, squeeze=False, sharey=True)[0]
        unit, factor = energy_unit(runs["energy_mj"])
        _points(panels[0], runs, "energy_mj", factor, PALETTE[0], lambda row: _energy(row, unit, factor))
        panels[0].set_xlabel(f"Energy per image ({unit})")
        if scored:
            _points(panels[1], runs, "accuracy", 1.0, PALETTE[3], _accuracy)
            panels[1].set_xlabel("Accuracy, with Wilson interval")
            panels[1].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))
        panels[0].set_yticks(range(len(runs)), [short(name, 26) for name in runs["run"]])
        panels[0].set_ylim(len(runs) - 0.45, -0.55)
        return finish(figure, note)


def _points(axes: Axes, runs: pd.DataFrame, name: str, factor: float, colour: str, told: Any) -> None:
    rows = runs.to_dict("records")
    values = runs[name].to_numpy(float) / factor
    ends = [values]
    for place, row in enumerate(rows):
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        if known(low) and known(high):
            low, high = low / factor, high / factor
            axes.plot([low, high], [place, place], color=INK, linewidth=1.3, solid_capstyle="butt")
            axes.plot([low, high], [place, place], "|", color=INK, markersize=6, markeredgewidth=1.3)
            ends.append(np.array([low, high]))
    shown = np.isfinite(values)
    points = axes.scatter(values[shown], np.flatnonzero(shown), s=26, color=colour, zorder=3)
    tips(points, [f"{row['run']}: {told(row)}" for row, seen in zip(rows, shown, strict=True) if seen])
    if shown[0]:
        axes.axvline(values[0], color=MUTED, linewidth=1, linestyle=":", zorder=1)
    every = np.concatenate(ends)
    least, most = float(np.nanmin(every)), float(np.nanmax(every))
    room = _ROOM * (most - least) or 0.05 * abs(most) or 0.01
    axes.set_xlim(least - room, most + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def _energy(row: dict[Any, Any], unit: str, factor: float) -> str:
    value, low, high = (row[key] / factor for key in ("energy_mj", "energy_mj_low", "energy_mj_high"))
    bound = row["energy_mj_interval"] == "upper bound"
    text, limits = with_bound(value, high) if bound else with_limits(value, low, high)
    return f"{text} {unit} {limits}".strip()


def _accuracy(row: dict[Any, Any]) -> str:
    return f"{percent(row['accuracy'])} [{percent(row['accuracy_low'])}, {percent(row['accuracy_high'])}]"
