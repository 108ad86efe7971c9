"""One map over its image in axes of any figure, and how often every p occurs among the tokens of many maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from spikeattn.reporting.figures.attention_drawing import Seen, colour_bar, draw_heat, heat_colours, outline
from spikeattn.reporting.figures.drawing import INK, MUTED, PALETTE, figure_style
from spikeattn.reporting.figures.tips import tip

BINS = 20  # of p from 0 to 1: the first is that of .05


def draw_overlay(axes: Axes, seen: Seen, question: str | None, title: str, bar: bool = True) -> None:
    """The map over the image, the outline of what is significant to a question, and the scale beside it.

    Args:
        question: None for no outline.
    """
    with figure_style():
        draw_heat(axes, seen, title)
        figure = axes.get_figure(root=True)
        assert figure is not None  # axes are made in one
        if question is not None:
            side = axes.get_window_extent().width / figure.dpi
            outline(axes, seen.mask(question), seen, side)
        if bar:
            beside = axes.inset_axes((1.03, 0, 0.045, 1))
            wide = max(14, int(18 * axes.get_window_extent().height / figure.dpi))  # characters along the bar
            colour_bar(figure, beside, seen.colours, seen.score, heat_colours(), wide, vertical=True)


def draw_p_values(axes: Axes, values: Mapping[str, NDArray[np.float64]], rule: Mapping[str, str]) -> None:
    """The share of tokens in every twentieth of p, by question; noise alone has them all alike.

    Args:
        values: p of any number of tokens, by question.
        rule: what of them is significant, in words, by question.
    """
    with figure_style():
        edges = np.linspace(0, 1, BINS + 1)
        for number, (question, p) in enumerate(values.items()):
            shares = np.histogram(np.clip(p, 0, 1), edges)[0] / max(p.size, 1)
            colour = PALETTE[(0, 4)[number % 2]]
            steps = axes.stairs(shares, edges, color=colour, linewidth=1.6, label=f"{question}: {rule[question]}")
            axes.stairs(shares, edges, color=colour, alpha=0.15, fill=True)
            tip(steps, f"{question}: {shares[0] * 100:.1f} % of tokens have p below {edges[1]:.2f}")
        axes.axhline(1 / BINS, color=MUTED, linestyle=(0, (4, 3)), linewidth=1, label="noise alone")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, None)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))
        axes.set_xlabel("p of a token")
        axes.set_ylabel("Tokens", color=INK)
        axes.grid(axis="y")
        axes.legend(fontsize=7.5, handlelength=1.4, loc="upper right")
