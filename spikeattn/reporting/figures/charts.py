"""The charts: energy per part and per block, accuracy and rate over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spikeattn.boundary.number_format import energy_in, energy_unit, known, percent, rate, with_bound, with_limits
from spikeattn.boundary.terms import MEAN_RATE, begun
from spikeattn.reporting.figures.drawing import (
    INK,
    MUTED,
    NARROW,
    PALETTE,
    colour_of,
    figure_style,
    finish,
    short,
    to_png,
    to_svg,
)
from spikeattn.reporting.figures.tips import tip, tips
from spikeattn.structure.entry import PARTS

__all__ = ["block_bars", "draw_blocks", "draw_energy", "energy_bars", "time_lines", "to_png", "to_svg"]


def energy_bars(energy: pd.DataFrame, note: str = "") -> Figure:
    """Energy per image and part with its interval; an arrow marks a one-sided bound.

    Args:
        energy: of `profile.energy()`.
    """
    with figure_style():
        figure = Figure(figsize=(NARROW, 0.7 + 0.3 * len(energy)), layout="constrained")
        draw_energy(figure.subplots(), energy)
        return finish(figure, note)


def draw_energy(axes: Axes, energy: pd.DataFrame) -> None:
    """The bars of `energy_bars` into axes of any figure."""
    with figure_style():
        parts = energy[energy["part"] != "total"]
        unit, factor = energy_unit(energy["energy_mj"])  # of the table, which holds the total too
        values = parts["energy_mj"].fillna(0).to_numpy() / factor
        colours = [colour_of(part, i) for i, part in enumerate(parts["part"])]
        places = np.arange(len(parts))
        bars = axes.barh(places, values, height=0.62, color=colours)
        for bar, row in zip(bars, parts.to_dict("records"), strict=True):
            tip(bar, f"{row['part']}: {_told(row, unit, factor)}")
        reach = values.copy()
        for place, row in enumerate(parts.to_dict("records")):
            if row["interval"] == "upper bound" or not known(row["ci_low"]):
                continue
            low, high = row["ci_low"] / factor, row["ci_high"] / factor
            axes.plot([low, high], [place, place], color=INK, linewidth=1.3, solid_capstyle="butt")
            axes.plot([low, low, high, high], [place] * 4, "|", color=INK, markersize=6, markeredgewidth=1.3)
            reach[place] = max(high, values[place])
        most = max(float(reach.max()), 1e-300)
        rows = parts.to_dict("records")
        texts = ["no price" if not known(row["energy_mj"]) else _labelled(row, unit, factor) for row in rows]
        axes.set_yticks(places, [short(part) for part in parts["part"]])
        axes.set_xlim(0, most)
        axes.set_ylim(len(parts) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"Energy per image ({unit})")
        _value_labels(axes, reach, texts)


def block_bars(blocks: pd.DataFrame, note: str = "") -> Figure:
    """Energy per image of every block, stacked by part.

    Args:
        blocks: of `block_energy`.
    """
    with figure_style():
        figure = Figure(figsize=(NARROW, 1.25 + 0.3 * blocks["block"].nunique()), layout="constrained")
        draw_blocks(figure.subplots(), blocks, key="figure")
        return finish(figure, note)


def draw_blocks(axes: Axes, blocks: pd.DataFrame, key: Literal["figure", "axes"] = "axes") -> None:
    """The bars of `block_bars` into axes of any figure.

    Args:
        key: whether the legend stands above all axes of the figure, or above these.
    """
    with figure_style():
        table = blocks.pivot_table("energy_mj", "block", "part", aggfunc="sum", sort=False, observed=True).fillna(0)
        parts = [part for part in (*PARTS, *table.columns) if part in table.columns]
        table = table[list(dict.fromkeys(parts))]
        table = table.loc[:, table.sum() > 0] if table.to_numpy().any() else table
        totals = table.sum(axis=1)
        unit, factor = energy_unit([totals.sum()])  # that of the table of parts
        places, left = np.arange(len(table)), np.zeros(len(table))
        for i, part in enumerate(table.columns):
            values = table[part].to_numpy() / factor
            bars = axes.barh(places, values, left=left, height=0.66, color=colour_of(part, i), label=short(part))
            for bar, block, value in zip(bars, table.index, table[part], strict=True):
                tip(bar, f"{block}, {part}: {energy_in(value, unit, factor)}")
            left += values
        most = max(float(left.max()), 1e-300)
        axes.set_yticks(places, [short(block) for block in table.index])
        axes.set_xlim(0, most)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"Energy per image ({unit})")
        if len(table.columns) > 1:
            set_: dict[str, Any] = {
                "fontsize": 8,
                "handlelength": 1,
                "handleheight": 1,
                "columnspacing": 1.3,
                "handletextpad": 0.5,
            }
            if key == "figure":
                figure = axes.get_figure(root=True)
                assert figure is not None  # axes are made in one
                figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=7, **set_)
            else:
                axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, **set_)
        _value_labels(axes, left, [energy_in(total, unit, factor) for total in totals])


def time_lines(over_time: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy with its Wilson interval, where images have labels, and mean firing rate, if stopped after t steps.

    Args:
        over_time: of `profile.over_time()`.
    """
    with figure_style():
        labelled = bool(over_time["accuracy"].notna().any())
        figure = Figure(figsize=(6.2 if labelled else 3.3, 2.4), layout="constrained")
        panels = figure.subplots(1, 2 if labelled else 1, squeeze=False)[0]
        steps = over_time["t"].to_numpy(float)
        if labelled:
            _accuracy(panels[0], steps, over_time)
        rates = over_time["mean_rate"].to_numpy(float)
        axes = panels[-1]
        axes.plot(steps, rates, "-", color=PALETTE[3], clip_on=False)
        points = axes.scatter(steps, rates, s=18, color=PALETTE[3], clip_on=False, zorder=3)
        tips(points, [f"t = {t:g}: {MEAN_RATE} {rate(value)}" for t, value in zip(steps, rates, strict=True)])
        axes.set_title(begun(MEAN_RATE))
        axes.set_ylim(0, rates.max() * 1.15 if rates.max() > 0 else 0.01)
        for axes in panels:
            axes.set_xlabel("Stopped after time step")
            axes.set_xlim(steps[0] - 0.4, steps[-1] + 0.4)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
            axes.grid(axis="y")
        return finish(figure, note)


def _accuracy(axes: Axes, steps: np.ndarray, over_time: pd.DataFrame) -> None:
    share, low, high = (over_time[c].to_numpy(float) for c in ("accuracy", "accuracy_low", "accuracy_high"))
    if len(steps) > 1:
        axes.fill_between(steps, low, high, color=PALETTE[0], alpha=0.22, linewidth=0)
    else:
        axes.errorbar(steps, share, [share - low, high - share], color=PALETTE[0], capsize=4)
    axes.plot(steps, share, "-", color=PALETTE[0], clip_on=False)
    points = axes.scatter(steps, share, s=18, color=PALETTE[0], clip_on=False, zorder=3)
    rows = zip(steps, share, low, high, strict=True)
    tips(points, [f"t = {t:g}: {percent(x)} [{percent(a)}, {percent(b)}]" for t, x, a, b in rows])
    axes.set_title("Accuracy, with Wilson interval")
    margin = max((np.nanmax(high) - np.nanmin(low)) * 0.12, 0.005)
    axes.set_ylim(max(np.nanmin(low) - margin, 0), min(np.nanmax(high) + margin, 1.005))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))


def _value_labels(axes: Axes, ends: np.ndarray, texts: Sequence[str]) -> None:
    """Write a text behind the end of every bar, and widen the axis until all of them fit."""
    labels = [
        axes.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8, color=MUTED)
        for place, (end, text) in enumerate(zip(ends, texts, strict=True))
    ]
    figure = axes.get_figure(root=True)
    assert figure is not None  # axes are made in one
    figure.draw_without_rendering()
    width, most = axes.get_window_extent().width, axes.get_xlim()[1]
    for end, label in zip(ends, labels, strict=True):
        needed = label.get_window_extent().width + 10
        most = max(most, float(end) * width / max(width - needed, width / 10))
    axes.set_xlim(0, most)


def _told(row: dict, unit: str, factor: float) -> str:
    """What a bar tells: its energy with the interval as in the table, and its share."""
    if not known(row["energy_mj"]):
        return "no price"
    if row["interval"] == "upper bound":
        return _labelled(row, unit, factor)
    value, limits = with_limits(row["energy_mj"] / factor, row["ci_low"] / factor, row["ci_high"] / factor)
    share = f" ({percent(row['share'])})" if known(row["share"]) else ""
    return f"{value} {unit}{share} {limits}".strip()


def _labelled(row: dict, unit: str, factor: float) -> str:
    if row["interval"] == "upper bound":
        value, bound = with_bound(row["energy_mj"] / factor, row["ci_high"] / factor, "at most")
        return f"{value} {unit}, {bound} {unit}" if bound else f"{value} {unit}"
    text = energy_in(row["energy_mj"], unit, factor)
    return f"{text} ({percent(row['share'])})" if known(row["share"]) else text
