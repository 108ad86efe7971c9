"""Figures for paper and page: vector files that come out the same for the same numbers.

Text and lines of a figure are drawn in a few fixed inks, so that the page can exchange them for its own colours, light
or dark. The colours of parts are those of Paul Tol's "bright" scheme, told apart by readers with any colour vision.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spikeattn.energy.terms import PARTS
from spikeattn.report.numbers import energy_unit, joules, known, percent

if TYPE_CHECKING:
    from matplotlib.image import AxesImage

INK, MUTED, RULE, ALERT = "#15202b", "#5b6672", "#d5dae0", "#b42318"
HEAT = LinearSegmentedColormap.from_list("heat", ["#eff4f9", "#4f8fc0", "#10294f"], N=65)
SILENT = "#e9ddd0"
PAGE_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    ALERT: "var(--alert)",
    SILENT: "var(--silent)",
    "#ffffff": "var(--surface)",
}
PALETTE = ("#4477aa", "#66ccee", "#ccbb44", "#228833", "#aa3377", "#ee6677", "#9a9a9a")
OTHER = "#7b6fa8"
WIDTH, NARROW = 7.2, 5.4  # inches: the text width of a one-column page, and a figure that stands beside another
TALLEST, WIDEST = 40, 12.0  # tensors in one column of the heat map, inches of all columns
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "spikeattn",
}


def rate_heatmap(table: pd.DataFrame, note: str = "") -> Figure:
    """Firing rate of every tensor at every time step; blocks stand side by side where the network has them.

    Args:
        table: of `rate_table`.
        note: a line of warning under the figure, e.g. that the weights are random.
    """
    with _style():
        spikes = table[table["part"] != "Input"].reset_index(drop=True)
        blocks = [part for part in dict.fromkeys(spikes["part"]) if str(part).startswith("Block")]
        alike = {tuple(spikes.loc[spikes["part"] == block, "tensor"]) for block in blocks}
        figure = _blocks_heatmap(spikes, blocks) if len(alike) == 1 else _list_heatmap(spikes)
        return _finish(figure, note)


def energy_bars(energy: pd.DataFrame, note: str = "") -> Figure:
    """Energy per image and part with its interval; an arrow marks a one-sided bound.

    Args:
        energy: of `profile.energy()`.
    """
    with _style():
        parts = energy[energy["part"] != "total"]
        unit, factor = energy_unit(parts["energy_mj"])
        figure = Figure(figsize=(NARROW, 1.0 + 0.3 * len(parts)), layout="constrained")
        axes = figure.subplots()
        values = parts["energy_mj"].fillna(0).to_numpy() / factor
        colours = [colour_of(part, i) for i, part in enumerate(parts["part"])]
        places = np.arange(len(parts))
        axes.barh(places, values, height=0.62, color=colours)
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
        texts = ["no price" if not known(row["energy_mj"]) else _labelled(row) for row in rows]
        axes.set_yticks(places, [_label(part) for part in parts["part"]])
        axes.set_xlim(0, most)
        axes.set_ylim(len(parts) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"Energy per image ({unit})")
        _value_labels(figure, axes, reach, texts)
        return _finish(figure, note)


def block_bars(blocks: pd.DataFrame, note: str = "") -> Figure:
    """Energy per image of every block, stacked by part.

    Args:
        blocks: of `block_energy`.
    """
    with _style():
        table = blocks.pivot_table("energy_mj", "block", "part", aggfunc="sum", sort=False, observed=True).fillna(0)
        parts = [part for part in (*PARTS, *table.columns) if part in table.columns]
        table = table[list(dict.fromkeys(parts))]
        table = table.loc[:, table.sum() > 0] if table.to_numpy().any() else table
        totals = table.sum(axis=1)
        unit, factor = energy_unit(totals)
        figure = Figure(figsize=(NARROW, 1.25 + 0.3 * len(table)), layout="constrained")
        axes = figure.subplots()
        places, left = np.arange(len(table)), np.zeros(len(table))
        for i, part in enumerate(table.columns):
            values = table[part].to_numpy() / factor
            axes.barh(places, values, left=left, height=0.66, color=colour_of(part, i), label=_label(part))
            left += values
        most = max(float(left.max()), 1e-300)
        axes.set_yticks(places, [_label(block) for block in table.index])
        axes.set_xlim(0, most)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"Energy per image ({unit})")
        if len(table.columns) > 1:
            figure.legend(
                *axes.get_legend_handles_labels(), loc="outside upper left", ncols=7, fontsize=8, handlelength=1,
                handleheight=1, columnspacing=1.3, handletextpad=0.5,
            )  # fmt: skip
        _value_labels(figure, axes, left, [joules(total) for total in totals])
        return _finish(figure, note)


def time_lines(over_time: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy with its Wilson interval, where images have labels, and mean firing rate, if stopped after t steps.

    Args:
        over_time: of `profile.over_time()`.
    """
    with _style():
        labelled = bool(over_time["accuracy"].notna().any())
        figure = Figure(figsize=(6.2 if labelled else 3.3, 2.4), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, 2 if labelled else 1))
        steps = over_time["t"].to_numpy(float)
        if labelled:
            _accuracy(panels[0], steps, over_time)
        rates = over_time["mean_rate"].to_numpy(float)
        axes = panels[-1]
        axes.plot(steps, rates, "-o", color=PALETTE[3], markersize=4, clip_on=False)
        axes.set_title("Mean firing rate")
        axes.set_ylim(0, rates.max() * 1.15 if rates.max() > 0 else 0.01)
        for axes in panels:
            axes.set_xlabel("Stopped after time step")
            axes.set_xlim(steps[0] - 0.4, steps[-1] + 0.4)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
            axes.grid(axis="y")
        return _finish(figure, note)


def colour_of(part: str, place: int = 0) -> str:
    """The colour of a part, the same in every figure and on the page."""
    if part in PARTS:
        return PALETTE[PARTS.index(part)]
    return OTHER if part == "other" else PALETTE[place % len(PALETTE)]


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document; the same numbers give the same bytes."""
    buffer = io.StringIO()
    with _style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "spikeattn"})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def to_png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as a PNG on white."""
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": "spikeattn"})
    return buffer.getvalue()


def inline(svg: str, name: str, description: str) -> str:
    """An SVG document as an element of the page: in the page's colours, ids of its own, and described for readers.

    Args:
        name: prefix of its ids, unique on the page.
        description: what the figure shows; plain text, escaped here.
    """
    from markupsafe import escape

    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    for ink, colour in (PAGE_COLOURS | _heat_colours()).items():
        body = body.replace(ink, colour)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
    width, height = box.groups() if box else ("518", "300")
    opening = f'<svg viewBox="0 0 {width} {height}" style="max-width:{float(width) * 1.6:.0f}px"'
    opening += ' xmlns:xlink="http://www.w3.org/1999/xlink"'
    opening += f' role="img" aria-label="{escape(description)}">'
    return opening + body[body.index(">") + 1 :].strip()


def _heat_colours() -> dict[str, str]:
    """Every colour of the heat scale as a mixture of the page's own three: low, middle and high."""
    half = HEAT.N // 2
    found = {}
    for i in range(HEAT.N):
        low, high, share = ("low", "mid", i / half) if i <= half else ("mid", "high", (i - half) / half)
        mixed = f"color-mix(in srgb, var(--heat-{high}) {share * 100:.1f}%, var(--heat-{low}))"
        found[to_hex(HEAT(i))] = mixed
    return found


def _accuracy(axes: Axes, steps: np.ndarray, over_time: pd.DataFrame) -> None:
    share, low, high = (over_time[c].to_numpy(float) for c in ("accuracy", "accuracy_low", "accuracy_high"))
    if len(steps) > 1:
        axes.fill_between(steps, low, high, color=PALETTE[0], alpha=0.22, linewidth=0)
    else:
        axes.errorbar(steps, share, [share - low, high - share], color=PALETTE[0], capsize=4)
    axes.plot(steps, share, "-o", color=PALETTE[0], markersize=4, clip_on=False)
    axes.set_title("Accuracy, with Wilson interval")
    margin = max((np.nanmax(high) - np.nanmin(low)) * 0.12, 0.005)
    axes.set_ylim(max(np.nanmin(low) - margin, 0), min(np.nanmax(high) + margin, 1.005))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))


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
            image = _cells(axes, lists[part][steps].to_numpy(float), norm, rows)
            _row_labels(axes, list(lists[part]["tensor"]))
            _heading(axes, (len(steps) - 1) / 2, part)
            _step_labels(axes, len(steps), 1)
            continue
        values = np.concatenate([spikes.loc[spikes["part"] == b, steps].to_numpy(float) for b in blocks], axis=1)
        image = _cells(axes, values, norm, rows)
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
    names = [_label(_full(row)) for row in spikes.to_dict("records")]
    cell = min(0.4, max(0.12, 2.4 / len(steps)))
    one = 0.3 + 0.075 * max(map(len, names), default=1) + cell * len(steps)
    columns = max(1, min(math.ceil(len(spikes) / TALLEST), int(WIDEST / one)))
    rows = max(1, math.ceil(len(spikes) / columns))
    figure = Figure(figsize=(max(columns * one + 0.9, 3.2), 1.25 + 0.2 * rows), layout="constrained")
    norm, image = _norm(spikes), None
    panels = np.atleast_1d(figure.subplots(1, columns))
    for place, axes in enumerate(panels):
        part = spikes.iloc[place * rows : (place + 1) * rows]
        image = _cells(axes, part[steps].to_numpy(float), norm, rows)
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


def _cells(axes: Axes, values: np.ndarray, norm: PowerNorm, rows: int) -> AxesImage:
    """Cells as vector rectangles; a tensor that is silent at a step has a colour of its own."""
    colours = HEAT.with_extremes(bad=SILENT)
    x, y = np.arange(values.shape[1] + 1) - 0.5, np.arange(values.shape[0] + 1) - 0.5
    shown = np.ma.masked_where(values == 0, values)
    gap = 0.6 if values.shape[1] <= 40 else 0.2
    mesh = axes.pcolormesh(x, y, shown, cmap=colours, norm=norm, edgecolors="white", linewidth=gap, clip_on=False)
    axes.set_xlim(-0.5, values.shape[1] - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return mesh


def _row_labels(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_label(name) for name in names], fontsize=8)


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


def _colour_bar(figure: Figure, image: AxesImage | None, axes: list[Axes], spikes: pd.DataFrame, steps: list) -> None:
    values = spikes[steps].to_numpy(float)
    if image is None or not (values > 0).any():
        figure.suptitle("all silent: no neuron fired", fontsize=9, color=ALERT, x=0.01, ha="left")
        return
    bar = figure.colorbar(image, ax=axes, shrink=0.9, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.solids.set(rasterized=False, edgecolor="face")
    bar.set_label("firing rate per time step", fontsize=8)
    bar.ax.tick_params(labelsize=7, length=2)
    if (values == 0).any():
        silent = [Patch(facecolor=SILENT, label="silent")]
        figure.legend(handles=silent, loc="outside lower right", fontsize=8, handlelength=1, handleheight=1)


def _value_labels(figure: Figure, axes: Axes, ends: np.ndarray, texts: Sequence[str]) -> None:
    """Write a text behind the end of every bar, and widen the axis until all of them fit."""
    labels = [
        axes.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8, color=MUTED)
        for place, (end, text) in enumerate(zip(ends, texts, strict=True))
    ]
    figure.draw_without_rendering()
    width, most = axes.get_window_extent().width, axes.get_xlim()[1]
    for end, label in zip(ends, labels, strict=True):
        needed = label.get_window_extent().width + 10
        most = max(most, float(end) * width / max(width - needed, width / 10))
    axes.set_xlim(0, most)


def _labelled(row: dict) -> str:
    text = joules(row["energy_mj"])
    if row["interval"] == "upper bound":
        return f"{text}, at most {joules(row['ci_high'])}"
    return f"{text} ({percent(row['share'])})" if known(row["share"]) else text


def _label(text: object, longest: int = 38) -> str:
    """A name short enough for an axis; a long path keeps its beginning and its end, where blocks and layers differ."""
    text = "".join(char if char.isprintable() else " " for char in str(text))
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 2 + 1 :]}"


def _finish(figure: Figure, note: str) -> Figure:
    if note:
        figure.supxlabel(note, fontsize=8, color=ALERT, x=0.01, ha="left")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # lay out once: every further pass would move things a little
    return figure


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield
