"""Energy per class: the same counts, priced for the images of one label at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spikeattn.energy.activity import Activity
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.counted_terms import Constant, Count, Rate
from spikeattn.energy.estimate import price
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES, images_by_label
from spikeattn.storage.ledger import Ledger


@dataclass(frozen=True)
class SelectedImages:
    """Some images of an activity; selections that share `totals` evaluate every source once."""

    activity: Activity
    images: NDArray[Any]
    totals: dict[Constant | Rate | Count, NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def n_images(self) -> int:
        """Images in the selection."""
        return len(self.images)

    def total(self, source: Constant | Rate | Count) -> NDArray[Any]:
        """Sum of a source over the time steps, [n_images]."""
        if source not in self.totals:
            self.totals[source] = self.activity.total(source)
        return self.totals[source][self.images]


def energy_by_label(
    ledger: Ledger,
    activity: Activity,
    labels: ArrayLike,
    costs: str | Path | CostTable,
    convention: str | Convention,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """The rows of the energy table for every label in rising order, each from its own images alone.

    Returns:
        Columns label, n_images and those of `EnergyTable`; share is of the label's own total.
    """
    costs, totals, tables = get_costs(costs), {}, []
    for label, images in images_by_label(labels, activity.n_images).items():
        selected = SelectedImages(activity, images, totals)
        table = pd.DataFrame(price(ledger, selected, costs, convention, replicates, seed, confidence))
        table.insert(0, "label", label)
        table.insert(1, "n_images", len(images))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
