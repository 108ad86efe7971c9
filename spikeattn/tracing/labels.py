"""Labels: which image, and which time step, every row of a tensor belongs to.

A label is a small whole-number tensor with the axes of the tensor it describes and size 1 along those on which it is
constant; it costs bytes where the tensor costs megabytes. Several *fields* are carried side by side: the image, the
time step, and the candidates for the axis of time (see `births`). What no data reach has no label.

Two ideas make labels usable. Position and taint: `x - x.mean(0)` mixes images, but its rows still stand where the
images of x stand; the position is kept and the field remembers the operation that joined. Time is causal: an
elementwise join of two steps is the later one (recurrence, `x[1:] - x[:-1]`), while sums and products over an axis of
steps belong to no single one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor

ANY = -1  # depends on no image (or step) in particular
MIXED = 1 << 30  # depends on several; larger than every index, so that a maximum keeps it
IMAGE, TIME = "image", "time"
_FEW = 256  # entries up to which Python is faster than torch
_SMALL = 1 << 16  # labels up to this size are searched for axes along which they are constant after all


@dataclass(frozen=True, eq=False)
class Label:
    """The fields of one tensor.

    Attributes:
        fields: by name; a field that is missing is ANY everywhere.
        joined: by field, the operation that first joined several of its values on the way here.
        loose: the operation that picked rows by their values, after which an image has no fixed rows; or None.
    """

    fields: Mapping[str, Tensor] = field(default_factory=dict)
    joined: Mapping[str, str] = field(default_factory=dict)
    loose: str | None = None

    def get(self, name: str) -> Tensor | None:
        """The field, or None where it is ANY everywhere."""
        return self.fields.get(name)

    def with_field(self, name: str, values: Tensor) -> Label:
        """The label with one field set."""
        return replace(self, fields={**self.fields, name: values})

    def without(self, names: set[str]) -> Label:
        """The label without these fields."""
        return replace(self, fields={name: values for name, values in self.fields.items() if name not in names})


NOTHING = Label()


def arange(n: int, axis: int, rank: int) -> Tensor:
    """0..n-1 along one axis."""
    return torch.arange(n, dtype=torch.int32).view([n if d == axis else 1 for d in range(rank)])


def constant(value: int, rank: int) -> Tensor:
    """The same value everywhere."""
    return torch.full([1] * rank, value, dtype=torch.int32)


def ranked(label: Tensor, rank: int) -> Tensor:
    """The label with leading axes of size 1 up to this rank, as broadcasting adds them."""
    return label.view((1,) * (rank - label.dim()) + tuple(label.shape)) if label.dim() < rank else label


def strict(a: Tensor, b: Tensor) -> Tensor:
    """What depends on both: the value where they agree, MIXED where they do not."""
    same = (a == b) | (b == ANY)
    return torch.where(a == ANY, b, torch.where(same, a, MIXED))


def position(a: Tensor, b: Tensor) -> Tensor:
    """Like `strict`, but a value beside MIXED keeps its place."""
    a, b = torch.broadcast_tensors(a, b)
    out = strict(a, b)
    out = torch.where((a == MIXED) & (b != ANY), b, out)
    return torch.where((b == MIXED) & (a != ANY), a, out)


def later(a: Tensor, b: Tensor) -> Tensor:
    """The later of two steps; MIXED beside a step keeps the step."""
    a, b = torch.broadcast_tensors(a, b)
    out = torch.maximum(a, b)
    return torch.where(out == MIXED, torch.where(torch.minimum(a, b) == ANY, MIXED, torch.minimum(a, b)), out)


def join_along(label: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
    """Everything along these axes in one: the value where all agree, MIXED where they do not."""
    varying = [axis for axis in axes if label.shape[axis] > 1]
    if varying:
        high = label.amax(varying, keepdim=True)
        low = torch.where(label == ANY, MIXED, label).amin(varying, keepdim=True)
        label = torch.where((high == ANY) | (low == high), high, MIXED)
    if not keep:
        for axis in sorted((a % label.dim() for a in axes), reverse=True):
            label = label.squeeze(axis)
    return label


def compact(label: Tensor) -> Tensor:
    """Size 1 along the axes on which the label does not vary."""
    for axis, (size, stride) in enumerate(zip(label.shape, label.stride(), strict=True)):
        if size > 1 and (stride == 0 or label.numel() <= _SMALL):
            first = label.narrow(axis, 0, 1)
            if stride == 0 or bool((label == first).all()):
                label = first
    return label


def reshape(label: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """The label of a tensor whose elements are the same in the same order; expanded only where it varies."""
    if tuple(old) == tuple(new):
        return label
    if not prod(old):
        return label.reshape([1] * len(new)) if label.numel() == 1 else constant(ANY, len(new))
    wide: list[int] = []  # the label's shape in groups of axes that hold the same elements
    shape: list[int] = []
    for olds, news in _groups(old, new):
        varies = any(label.shape[axis] > 1 for axis in olds)
        wide += [old[axis] if varies else 1 for axis in olds]
        shape += [new[axis] if varies else 1 for axis in news]
    return compact(label.expand(wide).reshape(shape))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes of both shapes that hold the same elements."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        olds: list[int] = []
        news: list[int] = []
        left = right = 1
        while True:
            if i < len(old) and (left < right or not olds):
                left *= old[i]
                olds.append(i)
                i += 1
            elif j < len(new) and (right < left or not news):
                right *= new[j]
                news.append(j)
                j += 1
            else:
                break
            if left == right and olds and news:
                break
        groups.append((olds, news))
    return groups


def values_of(label: Tensor) -> list[int]:
    """The values that occur, but for ANY and MIXED."""
    found = sorted(set(label.flatten().tolist())) if label.numel() <= _FEW else label.unique().tolist()
    return [value for value in found if value not in (ANY, MIXED)]


def by_presence(label: Tensor, shape: Sequence[int], run: Callable[[Tensor], Tensor]) -> Tensor:
    """The label behind an operation that adds, picks or moves elements, from which values reach which output.

    Args:
        run: the operation with its operand replaced by zeros and ones; its result is above 0 where a one arrived.
    """
    out: Tensor | None = None
    full = label.expand(tuple(shape))
    for value in [*values_of(label), *([MIXED] if bool((label == MIXED).any()) else [])]:
        there = run((full == value).float()) > 0
        one = torch.where(there, torch.tensor(value, dtype=torch.int32), torch.tensor(ANY, dtype=torch.int32))
        out = one if out is None else strict(out, one)
    return constant(ANY, len(shape)) if out is None else compact(out)


def along(label: Tensor, axis: int) -> list[int] | None:
    """The values along one axis; None where it does not tell them, since they vary along others too."""
    others = [a for a in range(label.dim()) if a != axis]
    line = join_along(label, others).flatten().tolist()
    return None if MIXED in line else line
