"""What a user watches while a run goes on: images per second, time left, and the energy so far.

The energy is an estimate to watch and no stopping rule: looking again and again until an interval is small enough makes
it wrong. The result of a run is computed from its count table alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import pyarrow as pa

from spikeattn.boundary.number_format import energy_unit
from spikeattn.compat.text_bars import text_bar, watched
from spikeattn.energy.activity import Constant, Count
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import PJ_TO_MJ, get_costs
from spikeattn.energy.rules import terms_of
from spikeattn.runs.ticking import ticking
from spikeattn.storage import columns
from spikeattn.storage.columns import Key
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.parts import Part

_SAME = {"abs": "nnz", "fan_abs": "fan_nnz", "pairs_abs": "pairs"}  # of binary tensors: one column for both
_NORMAL = 1.96


class RunningEnergy:
    """Mean energy per image over the images so far, in the default convention and cost table.

    An image's energy is linear in its counts, so that a batch costs one product per column.

    Attributes:
        sums: number of images, sum of their mJ, sum of squares.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.sums = np.zeros(3)
        self._fixed = 0.0
        self._weights: dict[Key, np.ndarray] = {}
        costs = get_costs()
        for term in terms_of(ledger, get_convention()):
            if not costs.has(term.op):
                continue
            price = costs.price(term.op) * term.factor * PJ_TO_MJ
            if isinstance(term.source, Constant):
                self._fixed += price * term.source.times
            elif isinstance(term.source, Count):
                self._charge(ledger, term.source, price)

    def _charge(self, ledger: Ledger, source: Count, price: float) -> None:
        key = (source.measure, source.name)
        if source.measure.startswith("fan_"):
            synapse = ledger.synapse(source.name)
            if synapse.fan_out is not None:
                key, price = (source.measure.removeprefix("fan_"), synapse.input), price * synapse.fan_out
        steps = np.zeros(ledger.time_steps)
        steps[: 1 if source.once else None] = price
        self._weights[key] = self._weights.get(key, 0) + steps

    def add(self, counts: Mapping[Key, np.ndarray]) -> None:
        """Take the counts of one batch, [T, B] by measure and name."""
        energy = self._fixed + sum(
            weights[: len(column)] @ column
            for weights, column in (
                (weights, counts[key if key in counts else (_SAME[key[0]], key[1])])
                for key, weights in self._weights.items()
            )
        )
        self.sums += (np.size(energy), np.sum(energy), np.sum(np.square(energy)))

    def add_table(self, table: pa.Table) -> None:
        """Take rows of a count table."""
        counts: dict[Key, list[np.ndarray]] = {}
        for name in table.column_names:
            if (counted := columns.counted(name)) is not None:
                counts.setdefault(counted.key, []).append(table[name].to_numpy())
        self.add({key: np.stack(columns) for key, columns in counts.items()})


def estimate(sums: Sequence[float]) -> str:
    """Mean energy per image and half the width of its 95 % interval, such as "4.9 mJ ± 0.1"; empty below 2 images."""
    n, total, squares = sums
    if n < 2:
        return ""
    mean = total / n
    half = _NORMAL * math.sqrt(max(squares - n * mean * mean, 0.0) / (n - 1) / n)
    unit, factor = energy_unit([mean])
    mean, half = mean / factor, half / factor
    digits = 3 if half <= 0 else min(6, max(0, -math.floor(math.log10(half))))
    return f"{mean:.{digits}f} {unit} ± {half:.{digits}f}"


class Bar:
    """The progress of a process: images, images per second, time left, energy so far; see `text_bar`.

    Args:
        total: images that it is to take, with those that are done; None if not known.
        earlier: parts that interrupted processes have left.
        shown: whether there is a bar, None where somebody looks on. Where there is none, nothing is computed.
        what: whose progress it is, where it is one of several processes.
    """

    def __init__(self, total: int | None, earlier: Sequence[Part], shown: bool | None, what: str | None = None) -> None:
        self._earlier: Sequence[Part] = earlier
        self._energy: RunningEnergy | None = None
        self._shown = watched() if shown is None else shown
        done = sum(part.images for part in earlier)
        self._bar = text_bar(self._shown, desc=what, total=total, initial=done, unit="image")
        self._moving = ExitStack()
        self._moving.enter_context(ticking(self._bar))

    def start(self, ledger: Ledger) -> None:
        """Take the structure of the model, once it is known."""
        if self._shown:
            self._energy = RunningEnergy(ledger)
            for part in self._earlier:
                if part.table is not None:
                    self._energy.add_table(part.table)
        self._earlier = ()

    def add(self, images: int, counts: Mapping[Key, np.ndarray] | None = None) -> None:
        """Take one batch."""
        if self._energy is not None and counts is not None:
            self._energy.add(counts)
            if text := estimate(self._energy.sums.tolist()):
                self._bar.set_postfix_str(f"energy {text}", refresh=False)
        self._bar.update(images)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._moving.close()
        self._bar.close()
