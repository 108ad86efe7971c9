"""The figure of a sweep: where a spiking network stops being cheaper than the ANN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from spikeattn.boundary.number_format import significant
from spikeattn.boundary.terms import WEIGHTED, WEIGHTED_RATE, begun
from spikeattn.reporting.figures.drawing import INK, MUTED, PALETTE, RULE, WIDTH, figure_style, finish
from spikeattn.reporting.figures.tips import tips

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_RING: dict[str, Any] = {
    "marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.2,
}  # fmt: skip


def sweep_figure(sweep: pd.DataFrame, note: str = "") -> Figure:
    """Energy against time steps, break-even rate against time steps, and energy against the rate weighted by
    operations.

    One line per cost table. Crossings of the SNN's and the ANN's energy are ringed; rates above 1 are more spikes than
    there are elements, which binary spikes never reach; the ANN of a sweep skips no zeros.

    Args:
        sweep: of `spikeattn.energy.what_if.sweep`.
        note: a line of warning under the figure, e.g. that the weights are random.
    """
    with figure_style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        panels = figure.subplots(1, 3)
        tables, last, ringed = list(dict.fromkeys(sweep["costs"])), [], False
        for i, name in enumerate(tables):
            colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
            every = _at_measured_rate(sweep[sweep["costs"] == name])
            look = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4}
            ringed = _energy_over_time(panels[0], every, look, name) or ringed
            panels[1].plot(every["t"], every["break_even_rate"], **look)
            _tell(panels[1], every["t"], every["break_even_rate"], f"{name}: break-even rate", colour)
            last.append(every.iloc[-1])
            _energy_over_rate(panels[2], last[-1], colour, marker)
        ringed = _crossings(panels[2], last) or ringed
        _measured_rates(panels[1], _at_measured_rate(sweep[sweep["costs"] == tables[0]]))
        _dress(panels, int(sweep["t"].max()))
        handles, labels = panels[0].get_legend_handles_labels()
        if ringed:
            handles, labels = [*handles, Line2D([], [], linestyle="none", **_RING)], [*labels, "both cost the same"]
        figure.legend(
            handles, labels, loc="outside upper left", ncols=min(len(labels), 4), fontsize=8, handlelength=1.8,
            columnspacing=1.5,
        )  # fmt: skip
        return finish(figure, note)


def _at_measured_rate(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per t with the rates as they were: energy and rate are linear in the scale, so any other leads there."""
    rows = rows.sort_values("rate_scale", kind="stable").drop_duplicates("t", keep="last").sort_values("t")
    scale = rows["rate_scale"].where(rows["rate_scale"] > 0)
    spikes = ((rows["snn_mj"] - rows["fixed_mj"]) / scale).fillna(0.0)
    rate = (rows["rate"] / scale).fillna(0.0)
    return rows.assign(spikes_mj=spikes, snn_mj=rows["fixed_mj"] + spikes, rate=rate).reset_index(drop=True)


def _energy_over_time(axes: Axes, rows: pd.DataFrame, look: dict, name: str) -> bool:
    """Whether a crossing was ringed."""
    share = (rows["snn_mj"] / rows["ann_mj"]).to_numpy(float)
    steps = rows["t"].to_numpy(float)
    axes.plot(steps, share, label=name, **look)
    _tell(axes, rows["t"], rows["snn_mj"] / rows["ann_mj"], f"{name}: SNN / ANN", look["color"])
    above = np.flatnonzero((share[:-1] < 1) & (share[1:] >= 1))
    for i in above:
        crossing = steps[i] + (1 - share[i]) / (share[i + 1] - share[i])
        _ring(axes, crossing, 1.0)
    return above.size > 0


def _tell(axes: Axes, steps: pd.Series, values: pd.Series, what: str, colour: str) -> None:
    """The value at every point, shown where one points at it."""
    known = np.isfinite(values.to_numpy(float))
    points = axes.scatter(steps[known], values[known], s=70, color=colour, alpha=0.01, linewidths=0)
    pairs = zip(steps[known], values[known], strict=True)
    tips(points, [f"T = {t}, {what} {significant(value, 3)}" for t, value in pairs])


def _energy_over_rate(axes: Axes, row: pd.Series, colour: str, marker: str) -> None:
    """Energy at the last step for rates from 0 to 1, solid; the measured rate is the marker on it."""
    if not row["rate"] > 0:
        return
    ann = row["ann_mj"]
    full = row["spikes_mj"] / row["rate"]
    rates = np.linspace(0, 1, 2)
    axes.plot(rates, (row["fixed_mj"] + rates * full) / ann, color=colour, linewidth=1.4)
    axes.plot(row["rate"], row["snn_mj"] / ann, marker, color=colour, markersize=4)


def _crossings(axes: Axes, rows: list[pd.Series]) -> bool:
    """Ring the rates at which both cost the same, if there are any; neighbours' numbers stand at different heights."""
    rates = sorted(row["break_even_rate"] for row in rows if 0 < row["break_even_rate"] <= 1)
    for i, rate in enumerate(rates):
        _ring(axes, rate, 1.0)
        axes.annotate(
            f"{rate:.2f}",
            (rate, 1),
            (-6, 4 + 9 * (i % 3)),
            textcoords="offset points",
            fontsize=8,
            ha="right",
            color=INK,
        )
    return bool(rates)


def _measured_rates(axes: Axes, rows: pd.DataFrame) -> None:
    axes.plot(rows["t"], rows["rate"], "--", color=INK, linewidth=1.2)
    last = rows.iloc[-1]
    if last["rate"] > 0:
        axes.annotate(
            f"{WEIGHTED.lower()} of this run", (last["t"], last["rate"]), (0, -14), textcoords="offset points",
            fontsize=8, ha="right", va="top", color=INK,
        )  # fmt: skip


def _ring(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, zorder=5, **_RING)


def _dress(panels: np.ndarray, T: int) -> None:
    energy, even, rate = panels
    energy.set_title("Energy, SNN / ANN")
    even.set_title("Break-even rate")
    rate.set_title(f"Energy, SNN / ANN, T = {T}")
    for axes in (energy, even):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.5), max(high, 2.0))
        decades = np.log10(axes.get_ylim()[1] / axes.get_ylim()[0])
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0), numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("Time steps")
        axes.set_xlim(1 - 0.05 * T, T + 0.05 * T)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        axes.grid(axis="y")
    top = max(even.get_ylim()[1], 2.0)
    even.axhspan(1.0, top, color=RULE, alpha=0.55, linewidth=0, zorder=0)
    even.set_ylim(even.get_ylim()[0], top)
    even.annotate(
        "above 1: out of reach", (1, 1), (-3, -3), xycoords="axes fraction", textcoords="offset points", fontsize=8,
        ha="right", va="top", color=MUTED,
    )  # fmt: skip
    rate.set_xlabel(begun(WEIGHTED_RATE))
    rate.set_xlim(0, 1)
    rate.set_ylim(0, 1.35)
    rate.grid(axis="y")
    for axes in (energy, rate):
        axes.axhline(1.0, color=INK, linewidth=1.0)
    energy.annotate("ANN", (1, 1), (2, 3), textcoords="offset points", fontsize=8, color=INK)
