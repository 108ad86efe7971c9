"""A profile: the first screen of its page, and its plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from numpy.typing import NDArray

from spikeattn.energy.estimate import EnergyTable
from spikeattn.errors import unknown
from spikeattn.reporting.figures.charts import draw_blocks, draw_energy
from spikeattn.reporting.figures.drawing import ALERT, NARROW
from spikeattn.reporting.figures.heatmap import draw_rates, rate_heatmap
from spikeattn.reporting.notebook.fragment import drawing, fragment
from spikeattn.reporting.notebook.into_axes import axes_of
from spikeattn.reporting.page.cards import cards
from spikeattn.reporting.page.cautions import cautions
from spikeattn.reporting.page.facts import FIGURES, facts_of, strip
from spikeattn.reporting.tables.run_tables import block_energy, rate_table
from spikeattn.reporting.tables.sheets import sheet_of
from spikeattn.runs.firing_rates import rates
from spikeattn.storage.counts import Counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from spikeattn.runs.result import Profile

PLOTS = ("energy", "blocks", "rates")
ROW = 0.3  # inches of a bar, and a third less of a row of the heat map


@dataclass(frozen=True)
class _Mean:
    """A count table of one image, the mean of all: its rates have no intervals, which take minutes of 50,000 images."""

    counts: Counts
    n_images: int = 1

    def column(self, measure: str, name: str) -> NDArray[Any]:
        return self.counts.column(measure, name).mean(axis=0, keepdims=True)

    def fan(self, synapse: str, by: str = "abs") -> NDArray[Any]:
        return self.counts.fan(synapse, by).mean(axis=0, keepdims=True)

    @property
    def time_steps(self) -> int:
        return self.counts.time_steps


def html(profile: Profile, summary: dict[str, Any], energy: EnergyTable) -> str:
    """The numbers of the page's first screen, two tables to unfold.

    Args:
        summary: of the profile, under the costs and the convention of `energy`.
    """
    fired = _rates(profile)
    return fragment(
        "profile.html.j2",
        title=str(profile.ledger.model.get("name") or "model"),
        untrained=profile.untrained,
        facts=facts_of(profile),
        cards=cards(profile, summary, energy),
        warnings=cautions(profile, energy, fired),
        strip=strip(energy),
        convention=energy.convention,
        costs=energy.costs,
        sheet=sheet_of(energy),
        rates=drawing(rate_heatmap(rate_table(fired)), FIGURES["firing_rates"]),
    )


def _rates(profile: Profile) -> pd.DataFrame:
    """Firing rates without intervals."""
    return rates(profile.ledger, _Mean(profile.counts))


def plot(profile: Profile, ax: Any, what: str) -> Axes:
    """See `Profile.plot`."""
    if what not in PLOTS:
        raise unknown("plot", what, PLOTS)
    if what == "energy":
        energy = profile.energy()
        axes = axes_of(ax, (NARROW, 0.8 + ROW * len(energy)))
        draw_energy(axes, energy)
    elif what == "blocks":
        blocks = block_energy(profile)
        axes = axes_of(ax, (NARROW, 1.5 + ROW * blocks["block"].nunique()))
        draw_blocks(axes, blocks)
    else:
        table = rate_table(_rates(profile))
        axes = axes_of(ax, (NARROW, 1.0 + 0.2 * len(table)))
        draw_rates(axes, table)
    if profile.untrained:
        axes.set_title("UNTRAINED model: the weights are random", color=ALERT, fontsize=8, loc="left")
    return axes
