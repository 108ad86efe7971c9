"""What a network attends to in an image, and what of it is more than noise: one image's panel, and several in rows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from spikeattn.report.drawing import INK, MUTED, WIDTH, figure_style, finish, short
from spikeattn.report.numbers import energy_unit, joules, percent
from spikeattn.report.pictures import OFF, ON

Floats = NDArray[np.float64]

COLUMN = 3.5  # inches: one column of a two-column page
NOTHING = "#e4e4e4"  # tokens without a score; no colour of the scales
BRIGHT = "#ffd000"
MAPS, ENERGY = "cividis", "viridis"
VEIL = 0.5
ROOM = 11  # characters of a rule beside another word
PIXELS = 336  # a map is drawn with at least so many pixels a side: viewers blur smaller ones


@dataclass(frozen=True, eq=False)
class Seen:
    """One image through one network, ready to be drawn.

    Attributes:
        name: of the image.
        model: name of the network, with UNTRAINED where its weights are random.
        picture: RGB [H, W, 3].
        score: what a score of the map is, with its unit; beside the colour bar.
        map: observed scores [h, w].
        regularized: the same without what is noise.
        significant: tokens that are kept, [h, w].
        rule: by which they are, such as "p ≤ 0.1".
        details: how the map was made and tested, in a line.
        events: the picture shows events.
        energy: mJ that every token takes, in all blocks, [h, w]; None where it was not measured.
        spurious: the part of it at tokens that are no more than noise in their block.
    """

    name: str
    model: str
    picture: Floats
    score: str
    map: Floats
    regularized: Floats
    significant: NDArray[np.bool_]
    rule: str
    details: str = ""
    events: bool = False
    energy: Floats | None = None
    spurious: Floats | None = None

    @property
    def share(self) -> str:
        """Share of tokens that are significant, as text."""
        return percent(float(self.significant.mean()), 1 if 0 < self.significant.mean() < 0.1 else 0)


def panel(seen: Seen, note: str = "") -> Figure:
    """One image at the width of a column: image, map, significant tokens, regularised map, energy spent on noise.

    Args:
        note: a line of warning under the figure, e.g. that the weights are random.
    """
    with figure_style():
        columns = 2 if seen.spurious is None else 3
        details, note = wrapped(f"{seen.model}: {seen.details}", COLUMN, 7), wrapped(note, COLUMN, 8)
        side = (COLUMN - 0.14) / columns - 0.1
        tall = side * seen.picture.shape[0] / seen.picture.shape[1]
        titles = 0.2 if columns == 2 else 0.33
        height = 2 * (tall + titles) + 0.75 + 0.13 * (columns - 2) + 0.125 * details.count("\n") + 0.4
        height += 0.14 * (note.count("\n") + 1) if note else 0
        figure = Figure(figsize=(COLUMN, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0.03, hspace=0.01)
        grid = figure.add_gridspec(3, columns, height_ratios=[tall, tall, 0.09])
        heading(figure, seen.name, details)
        picture, contour, raw, kept = (figure.add_subplot(grid[place]) for place in ((0, 0), (1, 0), (0, 1), (1, 1)))
        draw_picture(picture, seen, "Events, all steps" if seen.events else "Image")
        draw_significant(contour, seen, side, narrow=columns == 3)
        scale = scale_of(seen.map)
        draw_map(raw, seen.map, scale, "Attention", seen.picture.shape)
        draw_map(kept, seen.regularized, scale, kept_title(seen, columns == 3), seen.picture.shape, empty=True)
        colour_bar(figure, figure.add_subplot(grid[2, 1]), scale, seen.score, MAPS, 66 // columns)
        legend = figure.add_subplot(grid[2, 0])
        legend.axis("off")
        legend.legend(
            handles=_legend(seen, columns == 3), loc="upper left", bbox_to_anchor=(0.02, 1.2), fontsize=7,
            borderaxespad=0, borderpad=0, labelspacing=0.3, handlelength=1.4,
        )  # fmt: skip
        if seen.spurious is not None:
            _draw_energy(figure, [grid[row, 2] for row in range(3)], seen)
        return finish(figure, note)


def overview(rows: Sequence[Seen], note: str = "") -> Figure:
    """Several images below each other at the width of a page, one row each; every row has its own colour scale."""
    with figure_style():
        energies = any(seen.spurious is not None for seen in rows)
        columns = 5 if energies else 4
        side = (WIDTH - 1.1) / columns if energies else 1.3
        tall = max(side * seen.picture.shape[0] / seen.picture.shape[1] for seen in rows)
        width = WIDTH if energies else columns * side + 1.0
        figure = Figure(figsize=(width, len(rows) * (tall + 0.16) + 0.75), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
        grid = figure.add_gridspec(len(rows), columns + 1, width_ratios=[side] * columns + [0.09])
        scales = f"{rows[0].details}. Colours: {rows[0].score}" + (", a scale per row" if len(rows) > 1 else "")
        scales += "; energy: from 0 to the largest of a token" if energies else ""
        heading(figure, rows[0].model, wrapped(scales, width, 7))
        for place, seen in enumerate(rows):
            axes = [figure.add_subplot(grid[place, column]) for column in range(columns)]
            first, scale = place == 0, scale_of(seen.map)
            draw_picture(axes[0], seen, ("Events, all steps" if seen.events else "Image") if first else "")
            draw_map(axes[1], seen.map, scale, "Attention" if first else "", seen.picture.shape)
            title = kept_title(seen, True) if first else ""
            draw_map(axes[2], seen.regularized, scale, title, seen.picture.shape, empty=True)
            draw_significant(axes[3], seen, side, title="Significant" if first else "")
            axes[3].set_xlabel(f"{seen.share} of tokens", fontsize=8, labelpad=2)
            axes[0].set_ylabel(short(seen.name, min(20, max(8, int(16 * tall)))), fontsize=8, labelpad=3)
            if seen.spurious is not None:
                noise = Normalize(0, float(seen.energy.max()) or 1.0)
                title = "Energy on noise" if first else ""
                draw_map(axes[4], seen.spurious, noise, title, seen.picture.shape, empty=True, name=ENERGY)
                text = f"{_noise_share(seen)} of {joules(float(seen.energy.sum()))}"
                axes[4].set_xlabel(text, fontsize=8, labelpad=2)
            bar = figure.add_subplot(grid[place, columns])
            colour_bar(figure, bar, scale, "", MAPS, vertical=True)
        return finish(figure, wrapped(note, width, 8))


def heading(figure: Figure, name: str, details: str) -> None:
    """The name of a figure, and smaller how it was made; everything else keeps below."""
    width, height = figure.get_size_inches()
    figure.text(0.012, 1 - 0.05 / height, short(name, int(width * 11.5)), fontsize=9, ha="left", va="top")
    figure.text(0.012, 1 - 0.215 / height, details, fontsize=7, color=MUTED, ha="left", va="top", linespacing=1.2)
    below = 0.375 + 0.125 * details.count("\n")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - below / height))


def wrapped(text: str, width: float, size: float) -> str:
    """Text in lines that fit into so many inches at a font size in points."""
    unbroken = text.replace(" = ", "\u00a0=\u00a0")  # "B = 200" stays together
    return "\n".join(textwrap.wrap(unbroken, int(width * 130 / size), break_on_hyphens=False))


def draw_picture(axes: Axes, seen: Seen, title: str) -> None:
    """The image alone."""
    _bare(axes, title)
    axes.imshow(_enlarged(seen.picture), interpolation="none", extent=_extent(seen.picture.shape))


def draw_map(
    axes: Axes, scores: Floats, scale: Normalize, title: str, size: Sequence[int], empty: bool = False, name: str = MAPS
) -> None:
    """A map over the extent of the image; with `empty`, tokens without a score are grey."""
    _bare(axes, title)
    shown = np.ma.masked_where((scores == 0) & empty, scores)
    colours = colormaps[name].with_extremes(bad=NOTHING)
    axes.imshow(_enlarged(colours(scale(shown))), interpolation="none", extent=_extent(size))


def draw_significant(axes: Axes, seen: Seen, side: float, narrow: bool = False, title: str | None = None) -> None:
    """The image, pale where attention is noise, with the boundary of the significant tokens."""
    gap = "\n" if narrow else " "
    draw_picture(axes, seen, f"Significant{gap}tokens: {seen.share}" if title is None else title)
    veil = np.ones((*seen.significant.shape, 4))
    veil[..., 3] = np.where(seen.significant, 0.0, VEIL)
    axes.imshow(_enlarged(veil), interpolation="none", extent=_extent(seen.picture.shape))
    outline(axes, seen.significant, seen.picture.shape, side)


def outline(axes: Axes, mask: NDArray[np.bool_], size: Sequence[int], side: float) -> None:
    """The boundary of the tokens of a mask, along their edges: bright with a dark border, visible on any image.

    Args:
        mask: [h, w].
        size: height and width of what the axes show.
        side: width of the axes in inches; lines are thin where tokens are small.
    """
    width = float(np.clip(0.12 * 72 * side / mask.shape[1], 0.35, 1.2))
    cell = np.array([size[1] / mask.shape[1], size[0] / mask.shape[0]])
    lines = LineCollection(
        [segment * cell for segment in boundary(mask)], colors=BRIGHT, linewidths=width, capstyle="round",
        path_effects=[Stroke(linewidth=2.2 * width, foreground=INK), Normal()], clip_on=False, zorder=3,
    )  # fmt: skip
    axes.add_collection(lines)


def boundary(mask: ArrayLike) -> list[Floats]:
    """Segments [2, (x, y)] between tokens of which one is in the mask, in units of tokens from the upper left corner.

    Segments in a line that touch are one.
    """
    inside = np.pad(np.asarray(mask, dtype=bool), 1).astype(np.int8)
    found = []
    for axis in (0, 1):
        edges = np.diff(inside, axis=axis) != 0  # edge i lies before token i of this axis
        edges = np.delete(edges, [0, -1], axis=1 - axis)
        for number, row in enumerate(edges if axis == 0 else edges.T):
            steps = np.flatnonzero(np.diff(np.pad(row.astype(np.int8), 1)))
            for start, end in steps.reshape(-1, 2):
                ends = [(start, number), (end, number)] if axis == 0 else [(number, start), (number, end)]
                found.append(np.array(ends, dtype=float))
    return found


def scale_of(*maps: ArrayLike) -> Normalize:
    """From the smallest to the largest score; a constant map lies in the middle of its scale."""
    values = np.concatenate([np.ravel(each) for each in maps])
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-12 * max(1.0, abs(high)):
        margin = abs(high) / 2 or 0.5
        low, high = low - margin, high + margin
    return Normalize(low, high)


def colour_bar(
    figure: Figure, axes: Axes, scale: Normalize, label: str, name: str, wrap: int = 34, vertical: bool = False
) -> None:
    """The scale of a map; small scores are given in powers of ten that the label names."""
    size = 7
    largest = max(abs(scale.vmin), abs(scale.vmax))
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    power = power if power < -1 else 0
    direction = "vertical" if vertical else "horizontal"
    bar = figure.colorbar(ScalarMappable(scale, colormaps[name]), cax=axes, orientation=direction)
    bar.outline.set_visible(False)
    bar.solids.set(rasterized=False, edgecolor="face")
    bar.locator = MaxNLocator(3, steps=[1, 2, 2.5, 5, 10])
    bar.formatter = FuncFormatter(lambda value, _: f"{value / 10.0**power:.3g}")
    bar.update_ticks()
    bar.ax.tick_params(labelsize=size, length=2, pad=2)
    times = f"10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}" if power else ""
    text = f"{label} (×{times})" if label and times else label or (f"×{times}" if times else "")
    bar.set_label("\n".join(textwrap.wrap(text, wrap)), fontsize=size, labelpad=2, linespacing=1.1)


def _draw_energy(figure: Figure, cells: Sequence[SubplotSpec], seen: Seen) -> None:
    """The energy of every token and below it the part spent on noise, on one scale that begins at 0."""
    unit, factor = energy_unit([float(seen.energy.max())])
    scale = Normalize(0, float(seen.energy.max()) / factor or 1.0)
    whole, noise, bar = (figure.add_subplot(cell) for cell in cells)
    size = seen.picture.shape
    draw_map(whole, seen.energy / factor, scale, "Energy,\nall blocks", size, name=ENERGY)
    draw_map(
        noise, seen.spurious / factor, scale, f"Spent on\nnoise: {_noise_share(seen)}", size, empty=True, name=ENERGY
    )
    colour_bar(figure, bar, scale, f"{unit} per token", ENERGY)


def _noise_share(seen: Seen) -> str:
    total = float(seen.energy.sum())
    return percent(float(seen.spurious.sum()) / total, 0) if total > 0 else "none"


def kept_title(seen: Seen, narrow: bool) -> str:
    """The title of a regularised map, with the rule where there is room for it."""
    return "Regularised" if narrow or len(seen.rule) > ROOM else f"Regularised ({seen.rule})"


def _legend(seen: Seen, narrow: bool) -> list:
    line = Line2D(
        [],
        [],
        color=BRIGHT,
        linewidth=1.2,
        label=seen.rule if narrow or len(seen.rule) > ROOM else f"significant: {seen.rule}",
    )
    line.set_path_effects([Stroke(linewidth=2.6, foreground=INK), Normal()])
    handles = [line, Patch(facecolor=NOTHING, label="nothing left")]
    if seen.events:
        handles += [Patch(facecolor=ON, label="ON events"), Patch(facecolor=OFF, label="OFF events")]
    return handles


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=8, pad=3)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_linewidth(0.5)


def _extent(size: Sequence[int]) -> tuple[float, float, float, float]:
    return 0, size[1], size[0], 0


def _enlarged(values: Floats) -> Floats:
    """Every pixel repeated until there are `PIXELS` of them a side."""
    times = max(1, -(-PIXELS // max(values.shape[:2])))
    return values.repeat(times, 0).repeat(times, 1)
