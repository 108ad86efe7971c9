"""What pictures of attention are put together from: image, map, boundary of what is significant, scale, heading."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from spikeattn.attention.placement import Placement
from spikeattn.boundary.number_format import percent
from spikeattn.reporting.figures.drawing import INK, MUTED, plain_colour_bar, set_layout, short
from spikeattn.reporting.figures.printed_names import set_names

Floats = NDArray[np.float64]

COLUMN = 3.5  # inches: one column of a two-column page
NOTHING = "#e4e4e4"  # tokens without a score; no colour of the scales
BRIGHT = "#ffd000"
MAPS = "plasma"  # even steps to every eye, and no grey in it, which is the image's in front of which it lies
VEIL = 0.5
OPAQUE = 0.75  # of the colours of a map in front of its image: what shines through is no colour of another score
GREYS = (0.3, 0.95)  # darkest and lightest of an image behind a map: faint, so that it cannot be read as attention
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, Rec. 601
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
        significant: tokens [h, w] by the question that the map was asked: "how much", "where".
        rule: by which they are, such as "q ≤ 0.1".
        scale: of the colours, the same for all images that are compared; by default that of this map.
        details: how the map was made and tested, in a line.
        events: the picture shows events.
        energy: mJ that every token takes, in `blocks`, [h, w]; None where it was not measured.
        spurious: the part of it at tokens that are no more than noise in their block.
        most_energy: mJ at the end of their scale, the same for all images that are compared; else the largest here.
        placement: the pixels of every token; None for a grid over the whole image.
    """

    name: str
    model: str
    picture: Floats
    score: str
    map: Floats
    significant: Mapping[str, NDArray[np.bool_]]
    rule: str
    details: str = ""
    scale: Normalize | None = None
    events: bool = False
    energy: Floats | None = None
    spurious: Floats | None = None
    most_energy: float | None = None
    blocks: str = "all blocks"
    placement: Placement | None = None

    def on_pixels(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values of tokens [h, w] at the pixels that they stand on, and which of these have a token.

        As they are where the grid lies over the whole image, every token on as many pixels.
        """
        return on_pixels(values, self.placement, self.picture.shape[:2])

    def tokens(self, question: str) -> tuple[Floats, NDArray[np.bool_]]:
        """The map and what of it is significant, where they lie on the image."""
        return located(self.map, self.mask(question), self.placement, self.picture.shape[:2])

    def mask(self, question: str) -> NDArray[np.bool_]:
        """Tokens [h, w] that are significant to a question; a map with one answer has it to both."""
        return next(iter(self.significant.values())) if len(self.significant) == 1 else self.significant[question]

    @property
    def colours(self) -> Normalize:
        """`scale`, or that of this map alone."""
        return scale_of(self.map) if self.scale is None else self.scale

    @property
    def energies(self) -> tuple[Floats, Floats] | None:
        """`energy` and `spurious`, where they were measured."""
        return None if self.energy is None or self.spurious is None else (self.energy, self.spurious)

    def share(self, question: str) -> str:
        """Share of tokens that are significant, as text."""
        mean = float(self.mask(question).mean())
        return percent(mean, 1 if 0 < mean < 0.1 else 0)

    def title(self, question: str) -> str:
        """Of the picture of what is significant: the question, but where there is one alone."""
        return "Significant" if len(self.significant) == 1 else question.capitalize()


def on_pixels(
    values: NDArray[Any], placement: Placement | None, size: Sequence[int]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """See `Seen.on_pixels`; `size` is that of the picture."""
    if placement is None or placement.even or placement.grid != values.shape[:2]:
        return values, np.ones(values.shape[:2], bool)
    rows, columns = placement.tokens((size[0], size[1]))
    return values[np.maximum(rows, 0)][:, np.maximum(columns, 0)], (rows >= 0)[:, None] & (columns >= 0)


def located(
    scores: Floats, significant: NDArray[np.bool_], placement: Placement | None, size: Sequence[int]
) -> tuple[Floats, NDArray[np.bool_]]:
    """A map and what of it is significant where they lie on the image; pixels of no token are NaN in the map."""
    kept, covered = on_pixels(significant, placement, size)
    return np.where(covered, on_pixels(scores, placement, size)[0], np.nan), kept & covered


def heading(figure: Figure, name: str, details: str) -> None:
    """The name of a figure, and smaller how it was made; everything else keeps below."""
    width, height = figure.get_size_inches()
    figure.text(0.012, 1 - 0.05 / height, short(name, int(width * 11.5)), fontsize=9, ha="left", va="top")
    said = figure.text(
        0.012, 1 - 0.215 / height, details, fontsize=7, color=MUTED, ha="left", va="top", linespacing=1.2
    )
    set_names([said])
    if figure.get_layout_engine() is not None:
        set_layout(figure, rect=(0, 0, 1, 1 - heading_height(details) / height))


def heading_height(details: str) -> float:
    """Inches that a heading takes."""
    return 0.375 + 0.125 * details.count("\n")


def wrapped(text: str, width: float, size: float) -> str:
    """Text in lines that fit into so many inches at a font size in points."""
    unbroken = text.replace(" = ", "\u00a0=\u00a0")  # "B = 200" stays together
    return "\n".join(textwrap.wrap(unbroken, int(width * 130 / size), break_on_hyphens=False))


def draw_picture(axes: Axes, seen: Seen, title: str) -> None:
    """The image alone."""
    _bare(axes, title)
    axes.imshow(_enlarged(seen.picture), interpolation="none", extent=_extent(seen.picture.shape))


def draw_map(axes: Axes, scores: Floats, scale: Normalize, title: str, seen: Seen) -> None:
    """A map on the pixels of the image; those of no token are grey."""
    _bare(axes, title)
    placed, covered = seen.on_pixels(scores)
    colours = colormaps[MAPS].with_extremes(bad=NOTHING)
    shown = colours(scale(np.ma.masked_where(~covered, placed)))
    axes.imshow(_enlarged(shown), interpolation="none", extent=_extent(seen.picture.shape))


def draw_heat(
    axes: Axes,
    seen: Seen,
    title: str,
    scale: Normalize | None = None,
    values: Floats | None = None,
    name: str = MAPS,
    empty: bool = False,
) -> None:
    """A map over the image: its colours in front of the image in grey, which shows alone where there is no token.

    Args:
        scale: of the colours; by default that of `seen`.
        values: of the tokens, [h, w]; by default the scores of `seen`.
        name: of the colours.
        empty: the image shows alone where a value is 0, too.
    """
    _bare(axes, title)
    placed, covered = seen.on_pixels(seen.map if values is None else values)
    covered = covered & (placed != 0) if empty else covered
    below = _enlarged(_faint(seen.picture))
    colours = _stretched(colormaps[name]((scale or seen.colours)(placed))[..., :3], below.shape)
    opaque = OPAQUE * _stretched(covered, below.shape)[..., None]
    axes.imshow(opaque * colours + (1 - opaque) * below, interpolation="none", extent=_extent(seen.picture.shape))


def heat_colours(name: str = MAPS) -> ListedColormap:
    """The colours of a map as they look in front of an image of middle grey; for the bar beside `draw_heat`."""
    colours = colormaps[name](np.linspace(0, 1, 256))
    colours[:, :3] = OPAQUE * colours[:, :3] + (1 - OPAQUE) * sum(GREYS) / 2
    return ListedColormap(colours, f"{name} over grey")


def draw_significant(axes: Axes, seen: Seen, question: str, side: float, title: str) -> None:
    """The image, pale where attention is noise, with the boundary of the tokens that are significant to a question."""
    draw_picture(axes, seen, title)
    mask = seen.mask(question)
    kept, covered = seen.on_pixels(mask)
    veil = np.ones((*kept.shape, 4))
    veil[..., 3] = np.where(kept & covered, 0.0, VEIL)
    axes.imshow(_enlarged(veil), interpolation="none", extent=_extent(seen.picture.shape))
    outline(axes, mask, seen, side)


def outline(axes: Axes, mask: NDArray[np.bool_], seen: Seen, side: float) -> None:
    """The boundary of the tokens of a mask, along their edges: bright with a dark border, visible on any image.

    Args:
        mask: [h, w].
        side: width of the axes in inches; lines are thin where tokens are small.
    """
    width = float(np.clip(0.12 * 72 * side / mask.shape[1], 0.35, 1.2))
    placed, covered = seen.on_pixels(mask)
    mask, size = placed & covered, seen.picture.shape
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
    figure: Figure,
    axes: Axes,
    scale: Normalize,
    label: str,
    colours: str | Colormap,
    wrap: int = 34,
    vertical: bool = False,
) -> None:
    """The scale of a map; small scores are given in powers of ten that the label names."""
    size = 7
    assert scale.vmin is not None and scale.vmax is not None  # scales are made with both
    largest = max(abs(scale.vmin), abs(scale.vmax))
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    power = power if power < -1 else 0
    direction = "vertical" if vertical else "horizontal"
    bar = plain_colour_bar(figure, ScalarMappable(scale, colours), cax=axes, orientation=direction)
    bar.locator = MaxNLocator(3, steps=[1, 2, 2.5, 5, 10])
    bar.formatter = FuncFormatter(lambda value, _: f"{value / 10.0**power:.3g}")
    bar.update_ticks()
    bar.ax.tick_params(labelsize=size, length=2, pad=2)
    times = f"10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}" if power else ""
    text = f"{label} (×{times})" if label and times else label or (f"×{times}" if times else "")
    bar.set_label("\n".join(textwrap.wrap(text, wrap)), fontsize=size, labelpad=2, linespacing=1.1)
    set_names([bar.ax.xaxis.label, bar.ax.yaxis.label])


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=8, pad=3)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_linewidth(0.5)


def _faint(picture: Floats) -> Floats:
    """An image in grey, [H, W, 3], with the contrast that the colours in front of it leave room for."""
    low, high = GREYS
    grey = picture @ np.array(LUMINANCE)
    return np.repeat((low + (high - low) * np.clip(grey, 0, 1))[..., None], 3, 2)


def _stretched(values: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Values on another number of pixels of the same extent, each taken from where it lies."""
    rows, columns = ((np.arange(m) + 0.5) * n // m for n, m in zip(values.shape[:2], size[:2], strict=True))
    return values[rows.astype(int)][:, columns.astype(int)]


def _extent(size: Sequence[int]) -> tuple[float, float, float, float]:
    return 0, size[1], size[0], 0


def _enlarged(values: Floats) -> Floats:
    """Every pixel repeated until there are `PIXELS` of them a side."""
    times = max(1, -(-PIXELS // max(values.shape[:2])))
    return values.repeat(times, 0).repeat(times, 1)
