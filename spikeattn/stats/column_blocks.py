"""Intervals of more columns than fit into memory beside each other: of many images, a block of columns at a time.

All columns of a run are resampled alike: `bootstrap.py` draws the same images for every block of them. So a block
costs its draws once more (half a minute for a million images), and its limits are those of the whole table but for
roundings in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from spikeattn.stats.intervals import Floats, Intervals, mean_intervals

_BYTES = 1 << 29  # of a block: 50,000 images have 1300 columns in one, a million 67; its copies take as much again


def columns_at_once(n_images: int) -> int:
    """How many columns of so many images make a block."""
    return max(1, _BYTES // (8 * n_images))


def intervals_by_columns(
    make: Callable[[slice], Floats],
    n_images: int,
    columns: int,
    replicates: int,
    seed: int,
    confidence: float,
    ceiling: Floats,
    floor: Floats,
    labels: NDArray[np.integer] | None = None,
) -> Intervals:
    """`mean_intervals` of a table of which `make` gives some columns, [N, part]; arguments as there."""
    at_once, found = columns_at_once(n_images), []
    for start in range(0, columns, at_once):
        part = slice(start, min(start + at_once, columns))
        found.append(
            mean_intervals(make(part), replicates, seed, confidence, ceiling[part], floor[part], labels=labels)
        )
    return joined(found)


def joined(found: Sequence[Intervals]) -> Intervals:
    """The intervals of blocks of columns as those of one table."""
    if len(found) == 1:
        return found[0]
    arrays = ("value", "low", "high", "method", "nonzero_images")
    every = {name: np.concatenate([getattr(each, name) for each in found]) for name in arrays}
    return Intervals(**every, n_images=found[0].n_images, confidence=found[0].confidence)
