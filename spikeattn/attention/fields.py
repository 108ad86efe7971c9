"""Where the elements of a tensor look: ranges of pixels, carried through the operations of a forward pass.

A *field* gives every element of a tensor the range [low, high] of some coordinate of the input that it is made from:
the rows of its receptive field, its columns, or the number of its image. Ranges are small tensors with the axes of the
tensor that they describe and size 1 along those on which they are constant. low = +inf, high = -inf says "no place", as
of class tokens and weights; it joins with nothing. Padding counts as pixels outside the image, so ranges are never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spikeattn.tracing import labels

INF = float("inf")


class Field(NamedTuple):
    """Ranges of a coordinate, both with the rank of the tensor they describe."""

    low: Tensor
    high: Tensor

    def map(self, act: Callable[[Tensor], Tensor]) -> Field:
        """The same operation on both ends."""
        low = act(self.low)
        return Field(low, low if self.high is self.low else act(self.high))


Maybe = Field | None  # None: no place anywhere


def along(size: int, axis: int, rank: int) -> Field:
    """Positions 0, 1, ... of one axis."""
    line = torch.arange(size, dtype=torch.float32).view([size if a == axis else 1 for a in range(rank)])
    return Field(line, line)


def compact(x: Tensor) -> Tensor:
    """Size 1 along the axes on which nothing varies."""
    for axis, (size, stride) in enumerate(zip(x.shape, x.stride(), strict=True)):
        if size > 1:
            first = x.narrow(axis, 0, 1)
            if stride == 0 or bool((x == first).all()):
                x = first
    return x


def tidy(field: Field) -> Maybe:
    """Compact; None where no element has a place."""
    found = field.map(compact)
    return None if found.low.numel() == 1 and bool(found.low.isinf()) else found


def hull(fields: Sequence[Maybe], rank: int) -> Maybe:
    """What is made elementwise from several, with broadcasting: the ranges that cover them all."""
    known = [field.map(lambda x: labels.ranked(x, rank)) for field in fields if field is not None]
    if not known:
        return None
    first = known[0]
    for other in known[1:]:
        if other.low is not first.low:
            first = Field(torch.minimum(first.low, other.low), torch.maximum(first.high, other.high))
    return first


def reshape(field: Field, old: Sequence[int], new: Sequence[int]) -> Field:
    """Behind a view of another shape."""
    return field.map(lambda x: labels.reshape(x, old, new))


def expanded(field: Field, shape: Sequence[int]) -> Field:
    """With all axes in full, without memory for it."""
    return field.map(lambda x: x.expand(tuple(shape)))


def reduced(field: Maybe, axes: Sequence[int], place: bool = True) -> Maybe:
    """Behind a sum over some axes, which keep size 1.

    With `place`, what joins all that differ has no place of its own any more, as behind a mean over the image.
    """
    if field is None:
        return None
    varying = [axis for axis in axes if field.low.shape[axis] > 1]
    if not varying:
        return field
    made = Field(field.low.amin(varying, keepdim=True), field.high.amax(varying, keepdim=True))
    if place and max(made.low.shape, default=1) == 1:
        return None
    return tidy(made)


def windowed(field: Maybe, axis: int, size: int, kernel: int, stride: int, padding: int, dilation: int) -> Maybe:
    """Behind a window that moves along an axis: `size` outputs, each from `kernel` positions."""
    if field is None or field.low.shape[axis] == 1:
        return field
    length, reach = field.low.shape[axis], (kernel - 1) * dilation + 1
    behind = max(0, (size - 1) * stride + reach - padding - length)
    starts = torch.arange(size) * stride
    taps = (starts[:, None] + torch.arange(kernel) * dilation).flatten()  # [outputs * kernel]

    def ends(x: Tensor, least: bool) -> Tensor:
        wide = extended(x, axis, padding, behind, least)
        parts = wide.index_select(axis, taps).unflatten(axis, (size, kernel))
        return parts.amin(axis + 1) if least else parts.amax(axis + 1)

    return Field(ends(field.low, True), ends(field.high, False))


def extended(x: Tensor, axis: int, before: int, behind: int, least: bool) -> Tensor:
    """With positions before and behind an axis, at the distances that its first and last ones have; less than 0 cuts.

    Of an axis with a single position the distance is not known: then what is padded lies where this one does.
    """
    size = x.shape[axis]
    if size == 1:
        return x
    nowhere = INF if least else -INF
    parts = [x.narrow(axis, max(-before, 0), size - max(-before, 0) - max(-behind, 0))]
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, size - 1, 1)
    shape = [-1 if a == axis else 1 for a in range(x.dim())]
    if before > 0:
        step = x.narrow(axis, 1, 1) - first
        parts.insert(0, first - step * torch.arange(before, 0, -1, dtype=x.dtype).view(shape))
    if behind > 0:
        step = last - x.narrow(axis, size - 2, 1)
        parts.append(last + step * torch.arange(1, behind + 1, dtype=x.dtype).view(shape))
    return torch.cat([part.nan_to_num(nan=nowhere, posinf=INF, neginf=-INF) for part in parts], axis)


def pooled(field: Maybe, axis: int, size: int) -> Maybe:
    """Behind an adaptive pool to `size` outputs along an axis."""
    if field is None or field.low.shape[axis] == 1:
        return field
    length = field.low.shape[axis]
    ranges = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
    low = torch.cat([field.low.narrow(axis, a, b - a).amin(axis, keepdim=True) for a, b in ranges], axis)
    high = torch.cat([field.high.narrow(axis, a, b - a).amax(axis, keepdim=True) for a, b in ranges], axis)
    return None if size == 1 else Field(low, high)
