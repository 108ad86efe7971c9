"""Axes to draw into: those of the caller, or those of a new figure that notebooks and windows show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.figures.drawing import INK, MUTED, RULE, figure_style, set_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes_of(ax: Any, size: tuple[float, float]) -> Axes:
    """`ax`, or the axes of a new figure of pyplot, white and of this size in inches.

    Raises:
        SpikeattnError: something that is no axes, such as a figure.
    """
    from matplotlib.axes import Axes

    if isinstance(ax, Axes):
        _dress(ax)
        return ax
    if ax is not None:
        raise SpikeattnError(f"ax is {shown(ax)}; give axes of matplotlib, such as fig.add_subplot(), or leave it out")
    import matplotlib.pyplot as plt

    with figure_style():  # white, as inks are dark and a notebook may be, too
        figure = plt.figure(figsize=size, layout="constrained", facecolor="white")
        set_layout(figure, w_pad=0.1, h_pad=0.05)  # of bars inside axes constrained layout leaves the last line out
        return figure.add_subplot()


def _dress(axes: Axes) -> None:
    """The style of the page's charts for axes that were made outside of it; texts and labels keep the caller's."""
    axes.set_axisbelow(True)
    axes.tick_params(color=MUTED, labelcolor=INK, grid_color=RULE, grid_linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
