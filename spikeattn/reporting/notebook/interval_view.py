"""An interval, or a quantity with its unit: a line of text with a whisker, and a point with one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from spikeattn.boundary.number_format import energy_unit, known
from spikeattn.reporting.figures.drawing import NARROW, PALETTE, figure_style
from spikeattn.reporting.notebook.fragment import fragment
from spikeattn.reporting.notebook.into_axes import axes_of
from spikeattn.reporting.tables.run_tables import INTERVAL_METHODS
from spikeattn.stats.intervals import Interval
from spikeattn.stats.quantity import ENERGY, Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN = 0.15  # of the whisker's length, left free on both sides


def html(found: Interval) -> str:
    """Value and limits, how they came about, and the value between its limits."""
    method = found.method.partition(",")[0]
    how = INTERVAL_METHODS.get(method, method)
    told = how if method in ("none", "constant") else f"{found.confidence * 100:g} %, {how}"
    whisker = None
    if all(math.isfinite(x) for x in (found.low, found.value, found.high)) and found.high > found.low:
        place = (found.value - found.low) / (found.high - found.low)
        whisker = f"{100 * (MARGIN + (1 - 2 * MARGIN) * min(max(place, 0.0), 1.0)):.1f}"
    return fragment("interval.html.j2", text=str(found), told=told, place=whisker, margin=f"{100 * MARGIN:g}")


def plot(found: Interval, ax: Any, at: float, label: str, color: str | None) -> Axes:
    """See `Interval.plot`."""
    new = ax is None
    axes = axes_of(ax, (NARROW, 1.1))
    unit, factor = "", 1.0
    if isinstance(found, Quantity):
        # several go into the same axes, so there the unit is that of the fields and not the one that suits this value
        unit, factor = energy_unit([found.value]) if new and found.unit == ENERGY else (found.unit, 1.0)
    colour = color or PALETTE[0]
    with figure_style():
        if known(found.low) and known(found.high):
            low, high = found.low / factor, found.high / factor
            axes.plot([low, high], [at, at], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([low, high], [at, at], "|", color=colour, markersize=8, markeredgewidth=1.6)
        axes.plot([found.value / factor], [at], "o", color=colour, markersize=5)
        if label:
            places = {
                float(y): text.get_text() for y, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
            }
            kept = {y: text for y, text in places.items() if text and not new and _own(axes)} | {float(at): label}
            axes.set_yticks(list(kept), list(kept.values()))
            axes.set_gid("intervals")
        elif new:
            axes.set_yticks([])
        if new:
            axes.set_ylim(at - 1, at + 1)
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
            per = f" per {found.per}" if isinstance(found, Quantity) and found.per else ""
            axes.set_xlabel(f"{unit}{per}" or "value")
    return axes


def _own(axes: Axes) -> bool:
    """Whether the ticks along y are the labels of intervals that were drawn before."""
    return axes.get_gid() == "intervals"
