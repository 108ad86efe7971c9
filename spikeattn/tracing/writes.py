"""The label of a tensor after an operation has written into memory that it shares, of which it may see another part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikeattn.tracing import labels
from spikeattn.tracing.labels import ANY

# Per axis of the whole: which axis of the part it is (None: one of its places), where it begins, how long it is.
Box = list[tuple[int | None, int, int]]


def written_into(other: Tensor, before: Tensor | None, tensor: Tensor, after: Tensor | None) -> Tensor | None:
    """One field of `other`, `before` the write, where `tensor`, of the same memory, holds `after` now.

    A write into a range of each axis, such as the border of a padded image, is followed without a label for every
    element; only views whose axes do not fit each other are laid out as they lie in memory.
    """
    if other.dtype != tensor.dtype or other.dim() == 0:
        return after if before is None else before
    old = labels.constant(ANY, other.dim()) if before is None else before
    new = labels.constant(ANY, tensor.dim()) if after is None else after
    box = _box(tensor, other)
    if box is not None:
        return _overlaid(old, new, box, other.shape)
    box = _box(other, tensor)
    if box is not None:
        return labels.compact(_turned(_narrowed(new, box), [axis for axis, _, _ in box], other.dim()))
    return _in_memory(other, old, tensor, new)


def _box(part: Tensor, whole: Tensor) -> Box | None:
    """The range of each axis of `whole` that `part` holds; None where it is no such range of it."""
    axes = [axis for axis, size in enumerate(whole.shape) if size > 1]
    axes.sort(key=lambda axis: whole.stride(axis))
    reach = 1
    for axis in axes:
        if whole.stride(axis) < reach:
            return None  # repeated or overlapping elements
        reach = whole.stride(axis) * whole.shape[axis]
    own = {part.stride(axis): axis for axis, size in enumerate(part.shape) if size > 1}
    rest = int(part.storage_offset()) - int(whole.storage_offset())
    found: Box = [(None, 0, 1)] * whole.dim()
    for axis in reversed(axes):
        mine = own.pop(whole.stride(axis), None)
        start, rest = divmod(rest, whole.stride(axis))
        size = 1 if mine is None else part.shape[mine]
        if start < 0 or start + size > whole.shape[axis]:
            return None
        found[axis] = (mine, start, size)
    shared = sum(size > 1 for size in part.shape) == sum(mine is not None for mine, _, _ in found)
    return found if rest == 0 and not own and shared and part.numel() else None


def _overlaid(old: Tensor, new: Tensor, box: Box, shape: Sequence[int]) -> Tensor:
    """The label of the whole with that of a part of it laid over, expanded along no more axes than it takes."""
    new = _turned(new, _places(box, new.dim()), len(shape))
    if bool((_narrowed(old, box) == new).all()):
        return old
    varies = [
        length < size or old.shape[axis] > 1 or new.shape[axis] > 1
        for axis, (size, (_, _, length)) in enumerate(zip(shape, box, strict=True))
    ]
    out = old.expand([size if wide else 1 for size, wide in zip(shape, varies, strict=True)]).clone()
    _narrowed(out, box).copy_(new)
    return labels.compact(out)


def _narrowed(label: Tensor, box: Box) -> Tensor:
    """The label in a box; along axes on which it is constant it is what it is."""
    for axis, (_, start, size) in enumerate(box):
        if label.shape[axis] > 1:
            label = label.narrow(axis, start, size)
    return label


def _places(box: Box, rank: int) -> list[int | None]:
    """Per axis of the part, the axis of the whole that it is; None for axes of one place."""
    places: list[int | None] = [None] * rank
    for place, (axis, _, _) in enumerate(box):
        if axis is not None:
            places[axis] = place
    return places


def _turned(label: Tensor, places: Sequence[int | None], rank: int) -> Tensor:
    """The label with each axis at another place among so many; those without a place have one entry."""
    order = sorted((place, axis) for axis, place in enumerate(places) if place is not None)
    shape = [1] * rank
    for place, axis in order:
        shape[place] = label.shape[axis]
    alone = [axis for axis, place in enumerate(places) if place is None]
    return label.permute([*alone, *(axis for _, axis in order)]).reshape(shape)


def _in_memory(other: Tensor, old: Tensor, tensor: Tensor, new: Tensor) -> Tensor:
    """The same for views of any kind, with an entry for every element of the memory."""
    memory = torch.full((max(_end(other), _end(tensor)),), ANY, dtype=torch.int32)
    memory.as_strided(other.shape, other.stride(), other.storage_offset()).copy_(old.expand(other.shape))
    memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).copy_(new.expand(tensor.shape))
    return labels.compact(memory.as_strided(other.shape, other.stride(), other.storage_offset()).clone())


def _end(tensor: Tensor) -> int:
    reach: Any = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.storage_offset() + reach + 1)
