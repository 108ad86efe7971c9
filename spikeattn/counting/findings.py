"""What has been found of one forward pass so far: parts of counts, and what the values of its tensors are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from spikeattn.counting.weighed_ahead import Weighed
from spikeattn.storage.columns import Key
from spikeattn.tracing.layout import Axes


class Findings:
    """The state of a tally; everything stays on the device that made it.

    Attributes:
        sums: parts of each column: the time step where the calls are the steps, the axes, [P, B].
        flags: [3] bool by tensor, see `kinds.value_flags`; a fourth one on the input: it varies over time.
        extremes: [2], the lowest and the highest value by tensor.
        weighed: by tensor, what a layer that will receive it asks of it; None where that cannot be kept.
        broken: by tensor, whether what should hold 0 and 1 alone holds something else.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []
        self.sums: dict[Key, list[tuple[int | None, Axes, Tensor]]] = defaultdict(list)
        self.flags: dict[str, Tensor] = {}
        self.extremes: dict[str, Tensor] = {}
        self.weighed: dict[str, Weighed | None] = {}
        self.broken: dict[str, Tensor] = {}

    def later(self, note: Callable[[], None]) -> None:
        """Something to be noted when there is time; all that is asked of this object meanwhile is asked after it."""
        self._waiting.append(note)

    def settle(self) -> None:
        """Note what waits; one after another takes a fraction of the time that it takes in between."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for note in waiting:
                note()

    def add(self, measure: str, name: str, t: int | None, value: Tensor, axes: Axes) -> None:
        """A part of a column."""
        self.settle()
        self.sums[measure, name].append((t, axes, value))

    def add_flags(self, name: str, flags: Tensor) -> None:
        """What some of the values of a tensor are."""
        self.flags[name] = flags | self.flags[name] if name in self.flags else flags

    def add_extremes(self, name: str, found: Tensor) -> None:
        """[2], the lowest and the highest of some of the values of a tensor."""
        known = self.extremes.get(name)
        if known is not None:
            found = torch.stack([torch.minimum(found[0], known[0]), torch.maximum(found[1], known[1])])
        self.extremes[name] = found

    def add_broken(self, name: str, broken: Tensor) -> None:
        """Whether some of the values of a tensor that should hold 0 and 1 alone are others."""
        self.broken[name] = broken | self.broken[name] if name in self.broken else broken
