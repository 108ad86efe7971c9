"""Amounts: what the terms of a convention come to on an activity, term by term or added up by part.

The one place where terms meet counts. Energies, comparisons and waterfalls are sums of these amounts x prices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from spikeattn.energy.activity import Activity, Constant, Count
from spikeattn.energy.conventions import Convention
from spikeattn.energy.rules import Term, terms_of
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger
from spikeattn.structure.entry import PARTS

OPS = ("mac", "sop", "ac", "mask")
_ROWS = 1 << 14  # images at a time: 24 MB of 45 keys (8 blocks of a network, part by part)
COLUMNS = {"mac": "macs", "sop": "sops", "ac": "acs", "mask": "mask_ops"}  # the column of each in a table

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Amount:
    """What one term comes to.

    Attributes:
        total: [N], the sum of the term's source over the time steps; whole numbers where it is an exact count.
    """

    term: Term
    total: NDArray[Any]

    @property
    def per_image(self) -> NDArray[Any]:
        """Operations of every image, [N]."""
        return self.total * self.term.factor


@dataclass(frozen=True, eq=False)
class Amounts(Generic[K]):
    """Operations by key (a part, or a part of a block) and kind.

    Attributes:
        n_images: N.
        columns: [N] over all time steps, by the places of key and kind; a kind that a key has none of is absent.
        floor: [keys, OPS], what every image has, whatever spikes.
        ceiling: [keys, OPS], the most that one image can have; infinite for integer spikes.
        full: [keys, OPS], what spikes would add to the floor if every element of every tensor were one spike.
    """

    keys: tuple[K, ...]
    n_images: int
    columns: Mapping[tuple[int, int], Floats]
    floor: Floats
    ceiling: Floats
    full: Floats

    @property
    def per_image(self) -> Floats:
        """All of them, [N, keys, OPS]: of a million images and 50 keys 1.6 GB. `blocks` are the same, row by row."""
        return self._rows(slice(0, self.n_images))

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Consecutive rows of `per_image`, and which they are."""
        for start in range(0, self.n_images, _ROWS):
            rows = slice(start, min(start + _ROWS, self.n_images))
            yield rows, self._rows(rows)

    def mean(self) -> Floats:
        """Operations per image, [keys, OPS]: to the last digit the mean of `per_image`, which adds row after row."""
        total = np.zeros((1, len(self.keys), len(OPS)))
        for _, block in self.blocks():
            total = np.concatenate([total, block]).sum(axis=0, keepdims=True)
        return total[0] / self.n_images

    def _rows(self, rows: slice) -> Floats:
        block = np.zeros((rows.stop - rows.start, len(self.keys), len(OPS)))
        for (key, kind), column in self.columns.items():
            block[:, key, kind] = column[rows]
        return block

    @property
    def bounded(self) -> NDArray[np.bool_]:
        """Whether no image can have more than `ceiling`, [keys]."""
        return np.asarray(np.isfinite(self.ceiling).all(axis=1))

    def over(self, keys: Sequence[K]) -> Amounts[K]:
        """The same in the order of these keys, which hold all of its own; 0 in those that it has not."""
        places = [keys.index(key) for key in self.keys]
        floor, ceiling, full = np.zeros((3, len(keys), len(OPS)))
        floor[places], ceiling[places], full[places] = self.floor, self.ceiling, self.full
        columns = {(places[key], kind): column for (key, kind), column in self.columns.items()}
        return replace(self, keys=tuple(keys), columns=columns, floor=floor, ceiling=ceiling, full=full)


def amounts_of(activity: Activity, convention: Convention) -> Iterator[Amount]:
    """What each term of a convention comes to, in the order of `rules.terms_of`.

    Raises:
        SpikeattnError: as `rules.terms_of`, or the activity does not hold what a term needs.
    """
    for term in terms_of(activity.ledger, convention):
        yield Amount(term, activity.total(term.source))


def amounts_by(key: Callable[[Term], K], activity: Activity, convention: Convention) -> Amounts[K]:
    """The amounts of all terms added up by a key, in the order in which the keys first come."""
    sums: dict[K, Floats] = {}  # floor, ceiling and full
    columns: dict[tuple[int, int], Floats] = {}
    for amount in amounts_of(activity, convention):
        term, kind = amount.term, OPS.index(amount.term.op)
        if key(term) not in sums:
            sums[key(term)] = np.zeros((3, len(OPS)))
        floor, ceiling, full = sums[key(term)]
        place = list(sums).index(key(term)), kind
        if place not in columns:
            columns[place] = np.zeros(activity.n_images)
        columns[place] += amount.per_image
        ceiling[kind] += term.ceiling
        if isinstance(term.source, Constant):
            floor[kind] += term.source.times * term.factor
        else:
            full[kind] += full_of(term, activity.ledger)
    limits = np.array(list(sums.values())).reshape(len(sums), 3, len(OPS))
    return Amounts(tuple(sums), activity.n_images, columns, limits[:, 0], limits[:, 1], limits[:, 2])


def amounts_by_part(activity: Activity, convention: Convention) -> Amounts[str]:
    """The amounts of all terms added up by part, in the order of the network."""
    amounts = amounts_by(lambda term: term.part, activity, convention)
    return amounts.over(sorted(amounts.keys, key=part_order))


def part_order(part: str) -> tuple[int, str]:
    """Sorts parts in the order of the network, those of other models behind them by name."""
    return (PARTS.index(part) if part in PARTS else len(PARTS)), part


def full_of(term: Term, ledger: Ledger) -> float:
    """Operations of a term if every element of its tensors were one spike at every time step."""
    if np.isfinite(term.ceiling):
        return term.ceiling
    source = term.source
    assert not isinstance(source, Constant)  # its ceiling is what it comes to
    times = 1 if source.once else ledger.time_steps
    if not isinstance(source, Count):
        return term.factor * len(source.tensors) * times
    if source.measure.startswith("fan_"):
        return float(ledger.synapse(source.name).dense_macs * times)
    if source.measure.startswith("pairs"):
        return float(ledger.product(source.name).elements * times)
    return term.factor * ledger.tensor(source.name).elements * times
