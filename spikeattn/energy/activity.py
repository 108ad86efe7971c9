"""What the terms of a convention are evaluated on: the counts of a run per image, or a published table of rates.

An activity answers for every source of operations (a constant, a firing rate, an exact count) how large it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger import Ledger


@dataclass(frozen=True)
class Constant:
    """The same for every image: `times` is the number of time steps at which it is charged."""

    times: int


@dataclass(frozen=True)
class Rate:
    """The firing rates of these tensors, added up; by "nnz" (share of non-zero elements) or "abs" (mean |value|).

    `once` takes the first time step alone: the layer runs once per image, and its input is the same at every step.
    `least` takes one of the tensors instead of all: the one with the smallest mean over images and time steps.
    """

    tensors: tuple[str, ...]
    by: str
    once: bool = False
    least: bool = False


@dataclass(frozen=True)
class Count:
    """A column of the count table: "nnz" or "abs" of a tensor, "fan_nnz" or "fan_abs" of a synapse, "pairs" or
    "pairs_abs" of a product.

    `once` as in `Rate`.
    """

    measure: str
    name: str
    once: bool = False


Source = Constant | Rate | Count


class CountTable(Protocol):
    """What is needed of `storage.counts.Counts`: columns [N, T] per tensor, synapse and product."""

    @property
    def n_images(self) -> int: ...
    @property
    def time_steps(self) -> int: ...
    def column(self, measure: str, name: str) -> NDArray[Any]: ...
    def fan(self, synapse: str, by: str = "abs") -> NDArray[Any]: ...


@runtime_checkable
class Run(Protocol):
    """A finished run: `runs.Profile`, or anything with these two."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def counts(self) -> CountTable: ...


def check_run(name: str, run: Any) -> None:
    """Refuse what is no finished run.

    Raises:
        SpikeattnError: naming the argument.
    """
    if not isinstance(run, Run):
        raise SpikeattnError(
            f"{name} is {shown(run)}; give the result of spikeattn.profile, or Profile.load(folder) of a finished run"
        )


@runtime_checkable
class Activity(Protocol):
    """Anything terms can be evaluated on: `total` is the sum of a source over the time steps, [n_images]."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def n_images(self) -> int: ...
    def total(self, source: Source) -> NDArray[Any]: ...


@dataclass(frozen=True)
class CountedActivity:
    """The per-image count table of a run; totals of exact counts are integers.

    Raises:
        SpikeattnError: the counts are of another ledger, zero images, another number of time steps than the ledger,
            NaN, or more spikes than elements.
    """

    ledger: Ledger
    counts: CountTable

    def __post_init__(self) -> None:
        owner = getattr(self.counts, "ledger", None)
        if owner is not None and owner is not self.ledger and owner.hash() != self.ledger.hash():
            raise SpikeattnError(
                "the count table belongs to another model or input size than this ledger (their hashes differ): take "
                "both from the same run"
            )
        if self.counts.n_images < 1:
            raise SpikeattnError("the count table holds zero images; profile at least one")
        if self.counts.time_steps != self.ledger.time_steps:
            raise SpikeattnError(
                f"the count table has {self.counts.time_steps} time steps, the ledger {self.ledger.time_steps}: "
                "they come from different runs"
            )

    @property
    def n_images(self) -> int:
        """Images in the count table."""
        return self.counts.n_images

    def total(self, source: Source) -> NDArray[Any]:
        """Sum of a source over the time steps, [N]."""
        if isinstance(source, Constant):
            return np.full(self.n_images, source.times, dtype=np.int64)
        steps = slice(1 if source.once else None)
        if isinstance(source, Count):
            return self._column(source.measure, source.name, steps)
        tensors = [self.ledger.tensor(name) for name in source.tensors]
        rates = np.stack([self._column(source.by, t.name, steps) / t.elements for t in tensors])
        return rates[rates.mean(axis=1).argmin()] if source.least else rates.sum(axis=0)

    def _column(self, measure: str, name: str, steps: slice) -> NDArray[Any]:
        if measure.startswith("fan_"):
            column = self.counts.fan(name, by=measure.removeprefix("fan_"))
        else:
            column = self.counts.column(measure, name)
        total = np.asarray(column)[:, steps].sum(axis=1)
        if not np.isfinite(total).all() or (total < 0).any():
            raise SpikeattnError(f"the counts of {name!r} hold NaN or negative numbers; the run is not usable")
        if measure != "nnz":
            return total
        most = self.ledger.tensor(name).elements * self.ledger.time_steps
        if (total > most).any():
            raise SpikeattnError(
                f"tensor {name!r}: {total.max()} non-zero elements counted, but the ledger lists only {most} over "
                f"{self.ledger.time_steps} time steps: the count table does not belong to this ledger"
            )
        return total


class Remembering:
    """An activity that evaluates every source once: conventions, and the classes of a data set, share most of them."""

    def __init__(self, activity: Activity) -> None:
        self.ledger, self.n_images = activity.ledger, activity.n_images
        self._activity = activity
        self._known: dict[Source, NDArray[Any]] = {}

    def total(self, source: Source) -> NDArray[Any]:
        """Sum of a source over the time steps, [n_images]."""
        if source not in self._known:
            self._known[source] = self._activity.total(source)
        return self._known[source]
