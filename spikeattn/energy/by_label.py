"""Energy per class: the same counts, priced for the images of one label at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spikeattn.energy.activity import Activity, Remembering, Source
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import CostTable
from spikeattn.energy.estimate import price
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES, images_by_label
from spikeattn.storage.ledger import Ledger


@dataclass(frozen=True)
class SelectedImages:
    """Some images of an activity."""

    activity: Activity
    images: NDArray[Any]

    @property
    def ledger(self) -> Ledger:
        """Of the activity."""
        return self.activity.ledger

    @property
    def n_images(self) -> int:
        """Images in the selection."""
        return len(self.images)

    def total(self, source: Source) -> NDArray[Any]:
        """Sum of a source over the time steps, [n_images]."""
        return self.activity.total(source)[self.images]


def energy_by_label(
    activity: Activity,
    labels: ArrayLike,
    costs: CostTable,
    convention: Convention,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """The rows of the energy table for every label in rising order, each from its own images alone.

    Returns:
        Columns label, n_images and those of `EnergyTable`; share is of the label's own total.
    """
    remembering, tables = Remembering(activity), []
    for label, images in images_by_label(labels, activity.n_images).items():
        selected = SelectedImages(remembering, images)
        table = pd.DataFrame(price(selected, costs, convention, replicates, seed, confidence))
        table.insert(0, "label", label)
        table.insert(1, "n_images", len(images))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
