"""Amounts: what the terms of a convention come to on an activity, term by term or added up by part.

The one place where terms meet counts. Energies, comparisons and waterfalls are sums of these amounts x prices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
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
        per_image: [N, keys, OPS], over all time steps.
        floor: [keys, OPS], what every image has, whatever spikes.
        ceiling: [keys, OPS], the most that one image can have; infinite for integer spikes.
        full: [keys, OPS], what spikes would add to the floor if every element of every tensor were one spike.
    """

    keys: tuple[K, ...]
    per_image: Floats
    floor: Floats
    ceiling: Floats
    full: Floats

    @property
    def bounded(self) -> NDArray[np.bool_]:
        """Whether no image can have more than `ceiling`, [keys]."""
        return np.asarray(np.isfinite(self.ceiling).all(axis=1))

    def over(self, keys: Sequence[K]) -> Amounts[K]:
        """The same in the order of these keys, which hold all of its own; 0 in those that it has not."""
        places = [keys.index(key) for key in self.keys]
        shape = (len(keys), len(OPS))
        per_image = np.zeros((len(self.per_image), *shape))
        floor, ceiling, full = np.zeros((3, *shape))
        per_image[:, places] = self.per_image
        floor[places], ceiling[places], full[places] = self.floor, self.ceiling, self.full
        return Amounts(tuple(keys), per_image, floor, ceiling, full)


def amounts_of(activity: Activity, convention: Convention) -> Iterator[Amount]:
    """What each term of a convention comes to, in the order of `rules.terms_of`.

    Raises:
        SpikeattnError: as `rules.terms_of`, or the activity does not hold what a term needs.
    """
    for term in terms_of(activity.ledger, convention):
        yield Amount(term, activity.total(term.source))


def amounts_by(key: Callable[[Term], K], activity: Activity, convention: Convention) -> Amounts[K]:
    """The amounts of all terms added up by a key, in the order in which the keys first come."""
    sums: dict[K, tuple[Floats, Floats, Floats, Floats]] = {}
    for amount in amounts_of(activity, convention):
        term, kind = amount.term, OPS.index(amount.term.op)
        if key(term) not in sums:
            sums[key(term)] = np.zeros((activity.n_images, len(OPS))), *np.zeros((3, len(OPS)))
        per_image, floor, ceiling, full = sums[key(term)]
        per_image[:, kind] += amount.per_image
        ceiling[kind] += term.ceiling
        if isinstance(term.source, Constant):
            floor[kind] += term.source.times * term.factor
        else:
            full[kind] += full_of(term, activity.ledger)
    if not sums:
        return Amounts((), np.zeros((activity.n_images, 0, len(OPS))), *np.zeros((3, 0, len(OPS))))
    per_images, floors, ceilings, fulls = zip(*sums.values(), strict=True)
    return Amounts(tuple(sums), np.stack(per_images, axis=1), np.stack(floors), np.stack(ceilings), np.stack(fulls))


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
