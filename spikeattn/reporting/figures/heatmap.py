"""The heat map of firing rates: Table S1 as a picture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from spikeattn.boundary.number_format import rate as rate_text
from spikeattn.reporting.figures.drawing import (
    ALERT,
    HEAT,
    MUTED,
    SILENT,
    WIDTH,
    figure_style,
    finish,
    plain_colour_bar,
    short,
)
from spikeattn.reporting.figures.printed_names import plain_names, printed
from spikeattn.reporting.figures.tips import tips

TALLEST, WIDEST = 40, 12.0  # tensors in one column of the heat map, inches of all columns


def rate_heatmap(table: pd.DataFrame, note: str = "") -> Figure:
    """Firing rate of every tensor at every time step; blocks stand side by side where the network has them.

    Args:
        table: of `rate_table`.
        note: a line of warning under the figure, e.g. that the weights are random.
    """
    with figure_style():
        spikes = table[table["part"] != "Input"].reset_index(drop=True)
        blocks = [part for part in dict.fromkeys(spikes["part"]) if str(part).startswith("Block")]
        alike = {tuple(spikes.loc[spikes["part"] == block, "tensor"]) for block in blocks}
        figure = _blocks_heatmap(spikes, blocks) if len(alike) == 1 else _list_heatmap(spikes)
        return finish(figure, note)


def draw_rates(axes: Axes, table: pd.DataFrame) -> None:
    """The firing rates of `rate_heatmap` into axes of any figure: a row per tensor, in the order of the network."""
    with figure_style():
        spikes = table[table["part"] != "Input"].reset_index(drop=True)
        steps, names = _steps(spikes), [_full(row) for row in spikes.to_dict("records")]
        values = spikes[steps].to_numpy(float)
        cells = _cells(axes, values, _norm(spikes), max(len(names), 1), names, steps)
        _row_labels(axes, names)
        _step_labels(axes, len(steps), 1)
        axes.set_xlabel("time step", fontsize=8, color=MUTED)
        axes.xaxis.set_label_position("top")
        if not (values > 0).any():
            axes.set_title("all silent: no neuron fired", color=ALERT)
            return
        figure = axes.get_figure(root=True)
        assert isinstance(figure, Figure)
        bar = plain_colour_bar(figure, cells, cax=axes.inset_axes((1.03, 0, 0.04, 1)))
        bar.set_label("firing rate per time step", fontsize=8)
        bar.ax.tick_params(labelsize=7, length=2)


def _blocks_heatmap(spikes: pd.DataFrame, blocks: Sequence[str]) -> Figure:
    """Rows are the tensors of one block, columns block x time step; SPS and head stand beside, one panel each."""
    steps = _steps(spikes)
    outer = [part for part in dict.fromkeys(spikes["part"]) if part not in blocks]
    before = [part for part in outer if list(spikes["part"]).index(part) < list(spikes["part"]).index(blocks[0])]
    roles = list(spikes.loc[spikes["part"] == blocks[0], "tensor"])
    lists = {part: spikes[spikes["part"] == part] for part in outer}
    rows = max(len(roles), *(len(group) for group in lists.values())) if lists else len(roles)
    cells = len(steps) * len(blocks)
    unit = min(0.36, (WIDTH - 4.4) / cells)
    ratios = [len(steps) * unit] * len(before) + [cells * unit] + [len(steps) * unit] * (len(outer) - len(before))
    width = min(WIDTH, 4.6 + 0.36 * len(steps) * (len(blocks) + len(outer)))
    figure = Figure(figsize=(width, 1.25 + 0.235 * rows), layout="constrained")
    grid = figure.add_gridspec(1, len(ratios), width_ratios=ratios)
    norm = _norm(spikes)
    panels = [*before, None, *outer[len(before) :]]
    image, shown = None, []
    for place, part in enumerate(panels):
        axes = figure.add_subplot(grid[0, place])
        shown.append(axes)
        if part is not None:
            names = [f"{part} {name}" for name in lists[part]["tensor"]]
            image = _cells(axes, lists[part][steps].to_numpy(float), norm, rows, names, steps)
            _row_labels(axes, list(lists[part]["tensor"]))
            _heading(axes, (len(steps) - 1) / 2, part)
            _step_labels(axes, len(steps), 1)
            continue
        values = np.concatenate([spikes.loc[spikes["part"] == b, steps].to_numpy(float) for b in blocks], axis=1)
        over = [f"{block} {step}" for block in blocks for step in steps]
        image = _cells(axes, values, norm, rows, roles, over)
        _row_labels(axes, roles)
        for edge in range(1, len(blocks)):
            axes.plot([edge * len(steps) - 0.5] * 2, [-0.5, len(roles) - 0.5], color="white", linewidth=2.5)
        for i, block in enumerate(blocks):
            text = block if len(blocks) <= 4 or i == 0 else block.removeprefix("Block")
            _heading(axes, (i + 0.5) * len(steps) - 0.5, text)
        _step_labels(axes, len(steps), len(blocks))
    _colour_bar(figure, image, shown, spikes, steps)
    return figure


def _list_heatmap(spikes: pd.DataFrame) -> Figure:
    """Tensors in the order of the network, in as many columns as a page needs."""
    steps = _steps(spikes)
    names = [short(_full(row)) for row in spikes.to_dict("records")]
    cell = min(0.4, max(0.12, 2.4 / len(steps)))
    one = 0.3 + 0.075 * max(map(len, names), default=1) + cell * len(steps)
    columns = max(1, min(math.ceil(len(spikes) / TALLEST), int(WIDEST / one)))
    rows = max(1, math.ceil(len(spikes) / columns))
    figure = Figure(figsize=(max(columns * one + 0.9, 3.2), 1.25 + 0.2 * rows), layout="constrained")
    norm, image = _norm(spikes), None
    panels = np.atleast_1d(figure.subplots(1, columns))
    for place, axes in enumerate(panels):
        part = spikes.iloc[place * rows : (place + 1) * rows]
        full = [_full(row) for row in part.to_dict("records")]
        image = _cells(axes, part[steps].to_numpy(float), norm, rows, full, steps)
        _row_labels(axes, names[place * rows : (place + 1) * rows])
        _step_labels(axes, len(steps), 1)
    _colour_bar(figure, image, list(panels), spikes, steps)
    return figure


def _full(row: dict) -> str:
    return row["code"] if row["tensor"] == row["code"] else f"{row['part']} {row['tensor']}"


def _steps(spikes: pd.DataFrame) -> list[str]:
    return [column for column in spikes.columns if re.fullmatch(r"T\d+", str(column))]


def _norm(spikes: pd.DataFrame) -> PowerNorm:
    """Colours follow the square root of the rate: rates of one network span four orders of magnitude."""
    values = spikes[_steps(spikes)].to_numpy(float)
    most = float(np.nanmax(values)) if values.size else 0.0
    return PowerNorm(0.5, vmin=0, vmax=most if most > 0 else 1.0)


def _cells(
    axes: Axes, values: np.ndarray, norm: PowerNorm, rows: int, names: Sequence[str], columns: Sequence[str]
) -> PolyCollection:
    """Cells as vector rectangles that tell their rate; a tensor that is silent at a step has a colour of its own."""
    colours = HEAT.with_extremes(bad=SILENT)
    y, x = (places.ravel()[:, None] - 0.5 for places in np.indices(values.shape))
    corners = np.stack([np.hstack([x, x, x + 1, x + 1]), np.hstack([y, y + 1, y + 1, y])], axis=2)
    shown = np.ma.masked_where(values == 0, values).ravel()
    gap = 0.6 if values.shape[1] <= 40 else 0.2
    mesh = PolyCollection(
        corners,  # type: ignore[arg-type]  # an array [n, 4, 2] is taken too, and drawn faster
        array=shown, cmap=colours, norm=norm, edgecolors="white", linewidth=gap,
    )  # fmt: skip
    mesh.set_clip_on(False)
    axes.add_collection(mesh)
    tips(
        mesh,
        [
            f"{plain_names(name)}, {column}: {rate_text(value)}"
            for name, row in zip(names, values, strict=True)
            for column, value in zip(columns, row, strict=True)
        ],
    )
    axes.set_xlim(-0.5, values.shape[1] - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return mesh


def _row_labels(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [printed(short(name)) for name in names], fontsize=8)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_parse_math(printed(name) != name)  # any other name stays as it is, dollars and all


def _heading(axes: Axes, x: float, text: str) -> None:
    axes.annotate(
        text, (x, 1), (0, 15), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", va="bottom"
    )


def _step_labels(axes: Axes, T: int, blocks: int) -> None:
    """Time steps above the cells, as many as there is room for."""
    crowded = T * blocks > 36 or T > 8
    shown = ([1, T] if blocks == 1 else [1]) if crowded else list(range(1, T + 1))
    places = [block * T + t - 1 for block in range(blocks) for t in shown]
    axes.xaxis.tick_top()
    axes.set_xticks(places, [str(t) for _ in range(blocks) for t in shown], fontsize=7)
    axes.tick_params(axis="x", pad=1, labelcolor=MUTED)


def _colour_bar(
    figure: Figure, image: PolyCollection | None, axes: list[Axes], spikes: pd.DataFrame, steps: list
) -> None:
    values = spikes[steps].to_numpy(float)
    if image is None or not (values > 0).any():
        figure.suptitle("all silent: no neuron fired", fontsize=9, color=ALERT, x=0.01, ha="left")
        return
    bar = plain_colour_bar(figure, image, ax=axes, shrink=0.9, aspect=28, pad=0.02)
    bar.set_label("firing rate per time step", fontsize=8)
    bar.ax.tick_params(labelsize=7, length=2)
    if (values == 0).any():
        silent = [Patch(facecolor=SILENT, label="silent")]
        figure.legend(handles=silent, loc="outside lower right", fontsize=8, handlelength=1, handleheight=1)
