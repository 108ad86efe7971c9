"""The figure of a measured sweep: what accuracy costs in energy, point by point, both with their intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from spikeattn.boundary.number_format import energy_in, energy_unit, known
from spikeattn.reporting.figures.drawing import INK, MUTED, NARROW, PALETTE, figure_style, finish
from spikeattn.reporting.figures.tips import tips
from spikeattn.reporting.tables.analysis_sheets import accuracy_of

_ROOM = 0.12  # of the range on either side, so that labels beside the outermost points are inside


def measured_sweep_figure(sweep: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy over energy, under the first cost table; energy by value where no accuracy is known.

    Points of T and of thresholds are joined in the order of their values; checkpoints have none, and are not.

    Args:
        sweep: of `spikeattn.measured_sweep`.
        note: a line of warning under the figure.
    """
    with figure_style():
        costs, over = sweep["costs"].iloc[0], str(sweep["over"].iloc[0])
        rows: list[dict[Any, Any]] = sweep[sweep["costs"] == costs].to_dict("records")
        if over != "checkpoint":
            rows = sorted(rows, key=lambda row: float(row["value"]))
        unit, factor = energy_unit([row["energy_mj"] for row in rows])
        figure = Figure(figsize=(NARROW, 3.2), layout="constrained")
        axes = figure.subplots()
        energies = [row["energy_mj"] / factor for row in rows]
        names = [_name(over, row) for row in rows]
        line = "-" if over != "checkpoint" else "none"
        if scored := any(known(row["accuracy"]) for row in rows):
            rows = [row for row in rows if known(row["accuracy"])]
            energies, names = [row["energy_mj"] / factor for row in rows], [_name(over, row) for row in rows]
            shares = [row["accuracy"] for row in rows]
            down, up = _distances(rows, "accuracy", "accuracy_low", "accuracy_high", 1.0)
            left, right = _distances(rows, "energy_mj", "ci_low", "ci_high", factor)
            _draw(axes, energies, shares, (left, right), (down, up), line)
            for x, y, name, after in zip(energies, shares, names, [*shares[1:], 1.0], strict=True):
                away = -11 if after >= y else 5  # from the line to the next point
                before = over == "checkpoint" and x > (min(energies) + max(energies)) / 2  # names may be long
                axes.annotate(name, (x, y), (-6 if before else 6, away), textcoords="offset points", fontsize=8,
                              ha="right" if before else "left", color=INK)  # fmt: skip
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
            axes.set_ylabel("Accuracy")
            axes.set_xlabel(f"Energy per image ({unit}), {costs}")
            _widen(axes, rows)
        else:
            places = list(range(len(rows)))
            _draw(axes, places, energies, None, _distances(rows, "energy_mj", "ci_low", "ci_high", factor), line)
            axes.set_xticks(places, names, rotation=20 if over == "checkpoint" else 0)
            axes.set_ylim(bottom=0)
            axes.set_ylabel(f"Energy per image ({unit}), {costs}")
            axes.annotate("accuracy unknown", (1, 1), (-3, -3), xycoords="axes fraction", textcoords="offset points",
                          fontsize=8, ha="right", va="top", color=MUTED)  # fmt: skip
        points = axes.scatter(energies if scored else range(len(rows)), shares if scored else energies, s=24,
                              color=PALETTE[0], zorder=3)  # fmt: skip
        told = [
            f"{name}: {energy_in(row['energy_mj'], unit, factor)}, accuracy {' '.join(accuracy_of(row)).strip()}"
            for name, row in zip(names, rows, strict=True)
        ]
        tips(points, told)
        axes.grid()
        return finish(figure, note)


def _draw(axes: Axes, xs: Any, ys: Any, xerr: Any, yerr: Any, line: str) -> None:
    axes.errorbar(xs, ys, yerr=yerr, xerr=xerr, fmt="o", linestyle=line, markersize=0, color=PALETTE[0], ecolor=INK,
                  elinewidth=1, capsize=3)  # fmt: skip


def _distances(rows: list[dict[Any, Any]], value: str, low: str, high: str, factor: float) -> tuple[list, list]:
    """From the value to its limits; 0 where there is none."""

    def distance(row: dict[Any, Any], end: str, sign: int) -> float:
        return max(sign * (row[end] - row[value]) / factor, 0.0) if known(row[end]) else 0.0

    return [distance(row, low, -1) for row in rows], [distance(row, high, 1) for row in rows]


def _widen(axes: Axes, rows: list[dict[Any, Any]]) -> None:
    """Room for the labels; the accuracy never beyond 0 and 1 by more than a line's width."""
    low, high = axes.get_xlim()
    axes.set_xlim(max(low - _ROOM / 2 * (high - low), 0.0), high + _ROOM * (high - low))
    least = min(row["accuracy_low"] if known(row["accuracy_low"]) else row["accuracy"] for row in rows)
    most = max(row["accuracy_high"] if known(row["accuracy_high"]) else row["accuracy"] for row in rows)
    room = _ROOM * max(most - least, 0.05)
    axes.set_ylim(max(least - room, -0.02), min(most + room, 1.02))


def _name(over: str, row: dict[Any, Any]) -> str:
    return {"time steps": "T = {}", "threshold": "x {}"}.get(over, "{}").format(row["value"])
