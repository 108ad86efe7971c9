"""Fan-out-weighted counts that are taken while a tensor is counted anyway, for the layer that will receive it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from weakref import ref

import torch
from torch import Tensor

Counts = Callable[[], tuple[Tensor, Tensor | None]]
Place = tuple[int, torch.Size, tuple[int, ...]]  # where the parts [P, B, ...] of a tensor lie, shape and strides


class Weighed(NamedTuple):
    """Counts of a tensor, weighed with `weights`; good for as long as it is as it was.

    Attributes:
        counts: gives those of its non-zeros, [P, B], and those of its values, None for 0/1 tensors.
    """

    made: ref[Tensor]
    version: int
    place: Place
    t: int | None
    weights: Tensor
    counts: Counts

    def holds_for(self, x: Tensor, place: Place, t: int | None, weights: Tensor) -> bool:
        """Whether these are the counts of another view of the same memory, in the same order, unchanged since."""
        if self.weights is not weights or self.place != place or self.t != t or self.made() is None:
            return False
        return not x.is_inference() and x._version == self.version


def weighed(x: Tensor, place: Place, t: int | None, weights: Tensor, counts: Counts) -> Weighed | None:
    """Counts to be kept; None where nobody could tell later whether the tensor has changed."""
    return None if x.is_inference() else Weighed(ref(x), x._version, place, t, weights, counts)
