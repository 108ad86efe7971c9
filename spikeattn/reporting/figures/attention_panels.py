"""What a network attends to in an image, and what of it is more than noise: one image's panel, and several in rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from spikeattn.boundary.number_format import energy_unit, joules, percent
from spikeattn.reporting.figures.attention_drawing import (
    BRIGHT,
    COLUMN,
    MAPS,
    NOTHING,
    ROOM,
    Floats,
    Seen,
    colour_bar,
    draw_map,
    draw_picture,
    draw_significant,
    heading,
    kept_title,
    scale_of,
    wrapped,
)
from spikeattn.reporting.figures.drawing import INK, WIDTH, figure_style, finish, set_layout, short
from spikeattn.reporting.figures.input_pictures import OFF, ON

ENERGY = "viridis"


def panel(seen: Seen, note: str = "") -> Figure:
    """One image at the width of a column: image, map, significant tokens, regularised map, energy spent on noise.

    Args:
        note: a line of warning under the figure, e.g. that the weights are random.
    """
    with figure_style():
        columns = 2 if seen.energies is None else 3
        details, note = wrapped(f"{seen.model}: {seen.details}", COLUMN, 7), wrapped(note, COLUMN, 8)
        side = (COLUMN - 0.14) / columns - 0.1
        tall = side * seen.picture.shape[0] / seen.picture.shape[1]
        titles = 0.2 if columns == 2 else 0.33
        height = 2 * (tall + titles) + 0.75 + 0.13 * (columns - 2) + 0.125 * details.count("\n") + 0.4
        height += 0.14 * (note.count("\n") + 1) if note else 0
        figure = Figure(figsize=(COLUMN, height), layout="constrained")
        set_layout(figure, w_pad=0.03, h_pad=0.02, wspace=0.03, hspace=0.01)
        grid = figure.add_gridspec(3, columns, height_ratios=[tall, tall, 0.09])
        heading(figure, seen.name, details)
        picture, contour, raw, kept = (figure.add_subplot(grid[place]) for place in ((0, 0), (1, 0), (0, 1), (1, 1)))
        draw_picture(picture, seen, "Events, all steps" if seen.events else "Image")
        draw_significant(contour, seen, side, narrow=columns == 3)
        scale = scale_of(seen.map)
        draw_map(raw, seen.map, scale, "Attention", seen)
        draw_map(kept, seen.regularized, scale, kept_title(seen, columns == 3), seen, empty=True)
        colour_bar(figure, figure.add_subplot(grid[2, 1]), scale, seen.score, MAPS, 66 // columns)
        legend = figure.add_subplot(grid[2, 0])
        legend.axis("off")
        legend.legend(
            handles=_legend(seen, columns == 3), loc="upper left", bbox_to_anchor=(0.02, 1.2), fontsize=7,
            borderaxespad=0, borderpad=0, labelspacing=0.3, handlelength=1.4,
        )  # fmt: skip
        if seen.energies is not None:
            _draw_energy(figure, [grid[row, 2] for row in range(3)], seen, *seen.energies)
        return finish(figure, note)


def overview(rows: Sequence[Seen], note: str = "") -> Figure:
    """Several images below each other at the width of a page, one row each; every row has its own colour scale."""
    with figure_style():
        energies = any(seen.energies is not None for seen in rows)
        columns = 5 if energies else 4
        side = (WIDTH - 1.1) / columns if energies else 1.3
        tall = max(side * seen.picture.shape[0] / seen.picture.shape[1] for seen in rows)
        width = WIDTH if energies else columns * side + 1.0
        figure = Figure(figsize=(width, len(rows) * (tall + 0.16) + 0.75), layout="constrained")
        set_layout(figure, w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
        grid = figure.add_gridspec(len(rows), columns + 1, width_ratios=[side] * columns + [0.09])
        scales = f"{rows[0].details}. Colours: {rows[0].score}" + (", a scale per row" if len(rows) > 1 else "")
        scales += "; energy: from 0 to the largest of a token" if energies else ""
        heading(figure, rows[0].model, wrapped(scales, width, 7))
        for place, seen in enumerate(rows):
            axes = [figure.add_subplot(grid[place, column]) for column in range(columns)]
            first, scale = place == 0, scale_of(seen.map)
            draw_picture(axes[0], seen, ("Events, all steps" if seen.events else "Image") if first else "")
            draw_map(axes[1], seen.map, scale, "Attention" if first else "", seen)
            title = kept_title(seen, True) if first else ""
            draw_map(axes[2], seen.regularized, scale, title, seen, empty=True)
            draw_significant(axes[3], seen, side, title="Significant" if first else "")
            axes[3].set_xlabel(f"{seen.share} of tokens", fontsize=8, labelpad=2)
            axes[0].set_ylabel(short(seen.name, min(20, max(8, int(16 * tall)))), fontsize=8, labelpad=3)
            if seen.energies is not None:
                energy, spurious = seen.energies
                noise = Normalize(0, float(energy.max()) or 1.0)
                title = "Energy on noise" if first else ""
                draw_map(axes[4], spurious, noise, title, seen, empty=True, name=ENERGY)
                text = f"{_noise_share(energy, spurious)} of {joules(float(energy.sum()))}"
                axes[4].set_xlabel(text, fontsize=8, labelpad=2)
            bar = figure.add_subplot(grid[place, columns])
            colour_bar(figure, bar, scale, "", MAPS, vertical=True)
        return finish(figure, wrapped(note, width, 8))


def _draw_energy(figure: Figure, cells: Sequence[SubplotSpec], seen: Seen, energy: Floats, spurious: Floats) -> None:
    """The energy of every token and below it the part spent on noise, on one scale that begins at 0."""
    unit, factor = energy_unit([float(energy.max())])
    scale = Normalize(0, float(energy.max()) / factor or 1.0)
    whole, noise, bar = (figure.add_subplot(cell) for cell in cells)
    title = f"Spent on\nnoise: {_noise_share(energy, spurious)}"
    draw_map(whole, energy / factor, scale, "Energy,\nall blocks", seen, name=ENERGY)
    draw_map(noise, spurious / factor, scale, title, seen, empty=True, name=ENERGY)
    colour_bar(figure, bar, scale, f"{unit} per token", ENERGY)


def _noise_share(energy: Floats, spurious: Floats) -> str:
    total = float(energy.sum())
    return percent(float(spurious.sum()) / total, 0) if total > 0 else "none"


def _legend(seen: Seen, narrow: bool) -> list[Any]:
    line = Line2D(
        [],
        [],
        color=BRIGHT,
        linewidth=1.2,
        label=seen.rule if narrow or len(seen.rule) > ROOM else f"significant: {seen.rule}",
    )
    line.set_path_effects([Stroke(linewidth=2.6, foreground=INK), Normal()])
    whole = bool(seen.on_pixels(seen.map)[1].all())
    handles = [line, Patch(facecolor=NOTHING, label="nothing left" if whole else "nothing left, or no token")]
    if seen.events:
        handles += [Patch(facecolor=ON, label="ON events"), Patch(facecolor=OFF, label="OFF events")]
    return handles
