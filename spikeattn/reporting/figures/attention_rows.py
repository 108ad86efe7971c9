"""Attention in rows: several images of one network, and one image through two networks."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from spikeattn.boundary.number_format import joules
from spikeattn.reporting.figures.attention_drawing import (
    Seen,
    colour_bar,
    draw_heat,
    draw_picture,
    draw_significant,
    heading,
    heat_colours,
    scale_of,
    wrapped,
)
from spikeattn.reporting.figures.attention_grids import agreement, agreement_text
from spikeattn.reporting.figures.attention_panels import ENERGY, noise_share
from spikeattn.reporting.figures.drawing import WIDTH, figure_style, finish, set_layout, short

SIDE = 1.3  # inches of a picture where there is room


def overview(rows: Sequence[Seen], note: str = "") -> Figure:
    """Several images below each other at the width of a page, one row each, all on one colour scale."""
    with figure_style():
        energies = any(seen.energies is not None for seen in rows)
        questions = list(rows[0].significant)
        columns = 2 + len(questions) + energies
        side = min(SIDE, (WIDTH - 1.1) / columns)
        tall = max(side * seen.picture.shape[0] / seen.picture.shape[1] for seen in rows)
        width = columns * side + 1.1
        figure = Figure(figsize=(width, len(rows) * (tall + 0.16) + 0.75), layout="constrained")
        set_layout(figure, w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
        grid = figure.add_gridspec(len(rows), columns + 1, width_ratios=[side] * columns + [0.09])
        details = f"{rows[0].details}; outlined: {rows[0].rule}"
        most = max((float(seen.energies[0].max()) for seen in rows if seen.energies is not None), default=0.0)
        most = rows[0].most_energy or most or 1.0
        details += f"; energy: from 0 to {joules(most)} per token" if energies else ""
        heading(figure, rows[0].model, wrapped(details, width, 7))
        scale = rows[0].scale or scale_of(*(seen.map for seen in rows))
        for place, seen in enumerate(rows):
            axes = [figure.add_subplot(grid[place, column]) for column in range(columns)]
            titles = ["Events, all steps" if seen.events else "Image", "Attention", *map(seen.title, questions)]
            titles = titles if place == 0 else [""] * len(titles)
            draw_picture(axes[0], seen, titles[0])
            axes[0].set_ylabel(short(seen.name, min(20, max(8, int(16 * tall)))), fontsize=8, labelpad=3)
            draw_heat(axes[1], seen, titles[1], scale)
            _draw_answers(axes[2:], seen, questions, side, titles[2:])
            if seen.energies is not None:
                energy, spurious = seen.energies
                title = "Energy on noise" if place == 0 else ""
                draw_heat(axes[-1], seen, title, Normalize(0, most), spurious, ENERGY, empty=True)
                text = f"{noise_share(energy, spurious)} of {joules(float(energy.sum()))}"
                axes[-1].set_xlabel(text, fontsize=8, labelpad=2)
        bar, tallest = figure.add_subplot(grid[: min(3, len(rows)), columns]), min(3, len(rows)) * tall
        colour_bar(figure, bar, scale, rows[0].score, heat_colours(), max(14, int(20 * tallest)), vertical=True)
        return finish(figure, wrapped(note, width, 8))


def beside(first: Seen, second: Seen, questions: Sequence[str], reason: str = "", note: str = "") -> Figure:
    """Two networks that look at one image, each with its own colour scale; how far they agree stands in the heading.

    Args:
        questions: that both can be asked, of `shared`; what is significant to others is not shown.
        reason: why these, in a sentence.
        note: a line of warning under the figure.
    """
    with figure_style():
        columns = 1 + len(questions)
        tall = SIDE * first.picture.shape[0] / first.picture.shape[1]
        width = columns * SIDE + 1.7
        texts = [f"{first.model}: {first.details}", f"{second.model}: {second.details}", reason]
        for question in questions:
            name = f"{question}: " if len(first.significant) + len(second.significant) > 2 else ""
            texts.append(f"{name}{agreement_text(agreement(first.tokens(question), second.tokens(question)))}")
        details = "\n".join(wrapped(line, width, 7) for line in texts if line)
        figure = Figure(figsize=(width, 2 * (tall + 0.4) + 0.65 + 0.125 * details.count("\n")), layout="constrained")
        set_layout(figure, w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02)
        grid = figure.add_gridspec(2, columns + 1, width_ratios=[SIDE] * columns + [0.09])
        heading(figure, first.name, details)
        for row, seen in enumerate((first, second)):
            axes = [figure.add_subplot(grid[row, column]) for column in range(columns)]
            draw_heat(axes[0], seen, "Attention")
            axes[0].set_ylabel(short(seen.model, max(9, int(18 * tall))), fontsize=7, labelpad=3)
            alone = len(first.significant) + len(second.significant) == 2
            titles = ["Significant" if alone else question.capitalize() for question in questions]
            _draw_answers(axes[1:], seen, questions, SIDE, titles)
            bar = figure.add_subplot(grid[row, columns])
            colour_bar(figure, bar, seen.colours, seen.score, heat_colours(), max(14, int(20 * tall)), vertical=True)
        return finish(figure, wrapped(note, width, 8))


def _draw_answers(
    axes: Sequence[Axes], seen: Seen, questions: Sequence[str], side: float, titles: Sequence[str]
) -> None:
    """What is significant to each question, with its share below."""
    for place, question, title in zip(axes, questions, titles, strict=False):
        draw_significant(place, seen, question, side, title)
        place.set_xlabel(f"{seen.share(question)} of tokens", fontsize=8, labelpad=2)
