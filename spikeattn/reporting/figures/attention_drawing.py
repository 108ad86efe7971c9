"""What pictures of attention are put together from: image, map, boundary of what is significant, scale, heading."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from spikeattn.attention.placement import Placement
from spikeattn.boundary.number_format import percent
from spikeattn.reporting.figures.drawing import INK, MUTED, plain_colour_bar, set_layout, short

Floats = NDArray[np.float64]

COLUMN = 3.5  # inches: one column of a two-column page
NOTHING = "#e4e4e4"  # tokens without a score; no colour of the scales
BRIGHT = "#ffd000"
MAPS = "cividis"
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
        placement: the pixels of every token; None for a grid over the whole image.
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
    placement: Placement | None = None

    def on_pixels(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values of tokens [h, w] at the pixels that they stand on, and which of these have a token.

        As they are where the grid lies over the whole image, every token on as many pixels.
        """
        return on_pixels(values, self.placement, self.picture.shape[:2])

    def tokens(self) -> tuple[Floats, NDArray[np.bool_]]:
        """The map and what of it is significant, where they lie on the image."""
        return located(self.map, self.significant, self.placement, self.picture.shape[:2])

    @property
    def energies(self) -> tuple[Floats, Floats] | None:
        """`energy` and `spurious`, where they were measured."""
        return None if self.energy is None or self.spurious is None else (self.energy, self.spurious)

    @property
    def share(self) -> str:
        """Share of tokens that are significant, as text."""
        return percent(float(self.significant.mean()), 1 if 0 < self.significant.mean() < 0.1 else 0)


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
    """A map and what of it is significant where they lie on the image, nothing on pixels of no token."""
    kept, covered = on_pixels(significant, placement, size)
    return on_pixels(scores, placement, size)[0] * covered, kept & covered


def heading(figure: Figure, name: str, details: str) -> None:
    """The name of a figure, and smaller how it was made; everything else keeps below."""
    width, height = figure.get_size_inches()
    figure.text(0.012, 1 - 0.05 / height, short(name, int(width * 11.5)), fontsize=9, ha="left", va="top")
    figure.text(0.012, 1 - 0.215 / height, details, fontsize=7, color=MUTED, ha="left", va="top", linespacing=1.2)
    below = 0.375 + 0.125 * details.count("\n")
    set_layout(figure, rect=(0, 0, 1, 1 - below / height))


def wrapped(text: str, width: float, size: float) -> str:
    """Text in lines that fit into so many inches at a font size in points."""
    unbroken = text.replace(" = ", "\u00a0=\u00a0")  # "B = 200" stays together
    return "\n".join(textwrap.wrap(unbroken, int(width * 130 / size), break_on_hyphens=False))


def draw_picture(axes: Axes, seen: Seen, title: str) -> None:
    """The image alone."""
    _bare(axes, title)
    axes.imshow(_enlarged(seen.picture), interpolation="none", extent=_extent(seen.picture.shape))


def draw_map(
    axes: Axes, scores: Floats, scale: Normalize, title: str, seen: Seen, empty: bool = False, name: str = MAPS
) -> None:
    """A map on the pixels of the image; those of no token are grey, with `empty` those without a score too."""
    _bare(axes, title)
    placed, covered = seen.on_pixels(scores)
    shown = np.ma.masked_where(((placed == 0) & empty) | ~covered, placed)
    colours = colormaps[name].with_extremes(bad=NOTHING)
    axes.imshow(_enlarged(colours(scale(shown))), interpolation="none", extent=_extent(seen.picture.shape))


def draw_significant(axes: Axes, seen: Seen, side: float, narrow: bool = False, title: str | None = None) -> None:
    """The image, pale where attention is noise, with the boundary of the significant tokens."""
    gap = "\n" if narrow else " "
    draw_picture(axes, seen, f"Significant{gap}tokens: {seen.share}" if title is None else title)
    kept, covered = seen.on_pixels(seen.significant)
    veil = np.ones((*kept.shape, 4))
    veil[..., 3] = np.where(kept & covered, 0.0, VEIL)
    axes.imshow(_enlarged(veil), interpolation="none", extent=_extent(seen.picture.shape))
    outline(axes, seen.significant, seen, side)


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
    figure: Figure, axes: Axes, scale: Normalize, label: str, name: str, wrap: int = 34, vertical: bool = False
) -> None:
    """The scale of a map; small scores are given in powers of ten that the label names."""
    size = 7
    assert scale.vmin is not None and scale.vmax is not None  # scales are made with both
    largest = max(abs(scale.vmin), abs(scale.vmax))
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    power = power if power < -1 else 0
    direction = "vertical" if vertical else "horizontal"
    bar = plain_colour_bar(figure, ScalarMappable(scale, colormaps[name]), cax=axes, orientation=direction)
    bar.locator = MaxNLocator(3, steps=[1, 2, 2.5, 5, 10])
    bar.formatter = FuncFormatter(lambda value, _: f"{value / 10.0**power:.3g}")
    bar.update_ticks()
    bar.ax.tick_params(labelsize=size, length=2, pad=2)
    times = f"10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}" if power else ""
    text = f"{label} (×{times})" if label and times else label or (f"×{times}" if times else "")
    bar.set_label("\n".join(textwrap.wrap(text, wrap)), fontsize=size, labelpad=2, linespacing=1.1)


def kept_title(seen: Seen, narrow: bool) -> str:
    """The title of a regularised map, with the rule where there is room for it."""
    return "Regularised" if narrow or len(seen.rule) > ROOM else f"Regularised ({seen.rule})"


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
