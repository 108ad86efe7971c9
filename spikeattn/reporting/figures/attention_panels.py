"""What a network attends to in an image, and what of it is more than noise: one image's panel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from spikeattn.boundary.number_format import energy_unit, percent
from spikeattn.reporting.figures.attention_drawing import (
    BRIGHT,
    COLUMN,
    ROOM,
    Floats,
    Seen,
    colour_bar,
    draw_heat,
    draw_picture,
    draw_significant,
    heading,
    heading_height,
    heat_colours,
    wrapped,
)
from spikeattn.reporting.figures.drawing import INK, figure_style, finish
from spikeattn.reporting.figures.input_pictures import OFF, ON

ENERGY = "viridis"
ALONE = "#999999"  # in a legend, of the image in grey where no colour lies over it
MARGIN, GAP, TITLE = 0.04, 0.1, 0.2  # inches: at the edge, between pictures, and for the title above each
BAR, KEY = 0.09, 0.75  # inches: height of a colour bar, and of everything below the pictures, with three lines of text

Picture = Callable[[Axes, float], None]  # draws itself into axes of a width in inches


def panel(seen: Seen, note: str = "", key: bool = True) -> Figure:
    """One image at the width of a column: image, heat map over it, what is significant to each question, energy.

    Args:
        note: a line of warning under the figure, e.g. that the weights are random.
        key: whether scales and a legend stand below; without them the page says once what they say.
    """
    with figure_style():
        rows = _rows(seen)
        columns = len(rows[0])
        details = wrapped(f"{seen.model}: {seen.details}", COLUMN, 7) if key else ""
        note = wrapped(note, COLUMN, 8)
        side = (COLUMN - 2 * MARGIN - (columns - 1) * GAP) / columns
        tall = side * seen.picture.shape[0] / seen.picture.shape[1]
        above = heading_height(details) if key else 0.22
        below = (KEY if key else 0.06) + (0.06 + 0.14 * (note.count("\n") + 1) if note else 0)
        height = above + len(rows) * (tall + TITLE) + below
        figure = Figure(figsize=(COLUMN, height))

        def axes_at(row: float, column: int, tall: float, top: float) -> Axes:
            left, low = MARGIN + column * (side + GAP), height - top - row * (tall + TITLE) - tall
            return figure.add_axes((left / COLUMN, low / height, side / COLUMN, tall / height))

        heading(figure, seen.name, details)
        for row, pictures in enumerate(rows):
            for column, picture in enumerate(pictures):
                picture(axes_at(row, column, tall, above + TITLE), side)
        if key:
            keys = [axes_at(0, column, BAR, above + len(rows) * (tall + TITLE) + 0.08) for column in range(columns)]
            _draw_key(figure, keys, seen)
        return finish(figure, note)


def tiles_of(figure: Figure) -> list[dict[str, Any]]:
    """Title and place of every picture of a panel without a key, for a page that sets the titles itself.

    A box is left, top, width and height, as shares of the whole figure.
    """
    tiles = []
    for axes in figure.axes:
        if not axes.axison:
            continue
        place = axes.get_position()
        box = [round(float(x), 5) for x in (place.x0, 1 - place.y1, place.width, place.height)]
        tiles.append({"title": axes.get_title(loc="left"), "box": box})
    return tiles


def noise_share(energy: Floats, spurious: Floats) -> str:
    """The part of an energy that is spent on noise, as text."""
    total = float(energy.sum())
    return percent(float(spurious.sum()) / total, 0) if total > 0 else "none"


def _rows(seen: Seen) -> list[list[Picture]]:
    """The pictures of a panel, two rows of them, or one where there are but three."""
    first: list[Picture] = [
        lambda axes, side: draw_picture(axes, seen, "Events, all steps" if seen.events else "Image"),
        lambda axes, side: draw_heat(axes, seen, "Attention"),
    ]
    second = [_significant(seen, question) for question in seen.significant]
    if seen.energies is None:
        return [first, second] if len(second) == len(first) else [[*first, *second]]
    energy, spurious = seen.energies
    unit, factor = energy_unit([_most(seen)])
    scale = Normalize(0, _most(seen) / factor or 1.0)
    share = noise_share(energy, spurious)
    first.append(lambda axes, side: draw_heat(axes, seen, "Energy", scale, energy / factor, ENERGY))
    if len(second) == 1:
        second.append(lambda axes, side: axes.set_axis_off())
    title = f"On noise: {share}"
    second.append(lambda axes, side: draw_heat(axes, seen, title, scale, spurious / factor, ENERGY, empty=True))
    return [first, second]


def _significant(seen: Seen, question: str) -> Picture:
    title = f"{seen.title(question)}: {seen.share(question)}"
    return lambda axes, side: draw_significant(axes, seen, question, side, title)


def _most(seen: Seen) -> float:
    """The largest energy of a token on the scale of energies, in mJ."""
    assert seen.energy is not None
    return float(seen.energy.max()) if seen.most_energy is None else seen.most_energy


def _draw_key(figure: Figure, keys: list[Axes], seen: Seen) -> None:
    """Legend, scale of the map and, where there is one, scale of the energies; each below a column of pictures."""
    wide = len(keys) == 2
    colour_bar(figure, keys[1], seen.colours, seen.score, heat_colours(), 34 if wide else 22)
    keys[0].axis("off")
    keys[0].legend(
        handles=_handles(seen, not wide), loc="upper left", bbox_to_anchor=(0, 1.4), fontsize=7, borderaxespad=0,
        borderpad=0, labelspacing=0.3, handlelength=1.4,
    )  # fmt: skip
    for axes in keys[2:]:
        if seen.energies is None:
            axes.axis("off")
            continue
        unit, factor = energy_unit([_most(seen)])
        scale = Normalize(0, _most(seen) / factor or 1.0)
        colour_bar(figure, axes, scale, f"{unit} per token, {seen.blocks}", heat_colours(ENERGY), 22)


def _handles(seen: Seen, narrow: bool) -> list[Any]:
    rule = seen.rule if narrow or len(seen.rule) > ROOM else f"significant: {seen.rule}"
    line = Line2D([], [], color=BRIGHT, linewidth=1.2, label=rule)
    line.set_path_effects([Stroke(linewidth=2.6, foreground=INK), Normal()])
    handles: list[Any] = [line]
    if seen.energies is not None:
        handles.append(Patch(facecolor=ALONE, label="none, or no token"))
    elif not bool(seen.on_pixels(seen.map)[1].all()):
        handles.append(Patch(facecolor=ALONE, label="no token"))
    if seen.events:
        handles += [Patch(facecolor=ON, label="ON events"), Patch(facecolor=OFF, label="OFF events")]
    return handles
