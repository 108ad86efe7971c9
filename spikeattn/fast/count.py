"""Counts of a tensor on the CPU in one pass over its memory, by the C kernels of `count.c`.

What the kernels do not take, in type or in memory, is counted by torch (`counting.sums`), to the same numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from math import prod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from spikeattn.fast import native
from spikeattn.tracing.kinds import NEAR, ROUNDINGS, is_dense

_SMALL = 1 << 17  # elements that one thread counts sooner than several have started, which takes some 10 us
_LEAST = 64  # elements of a piece of memory: of smaller ones, torch makes a copy as fast as they are found
_CHUNK = 1 << 12  # numbers of float64 asked for at a time: those of some hundred tensors
_HEAVIEST = 1 << 19  # a fan-out from which the sources' integers could overflow: 4096 of them make a block
ROUNDING = ROUNDINGS * torch.finfo(torch.float32).eps
FRACTION, _NEGATIVE, _ABOVE, NOT_BINARY, NOT_A_NUMBER, INEXACT = 1, 2, 4, 8, 16, 32  # the source's flags


class Counted(NamedTuple):
    """What one pass over a tensor [P, B, ...] has found.

    Attributes:
        nonzero: [P, B] float64.
        sum: [P, B] float64 of |value|; of values that are no integers not to be used; None for 0/1 tensors.
        fan_nonzero, fan_sum: the same, weighed with a fan-out; None without one.
        flags: bits of the source.
        extremes: [2] float32, the lowest and the highest value, or None where nobody asked.
    """

    nonzero: Tensor
    sum: Tensor | None
    fan_nonzero: Tensor | None
    fan_sum: Tensor | None
    flags: int
    extremes: Tensor | None

    @property
    def not_binary(self) -> bool:
        """Some value is neither 0 nor 1."""
        return bool(self.flags & NOT_BINARY)

    @property
    def fraction(self) -> bool:
        """Some value is no integer."""
        return bool(self.flags & FRACTION)

    @property
    def negative(self) -> bool:
        """Some value is below 0."""
        return bool(self.flags & _NEGATIVE)

    @property
    def above(self) -> bool:
        """Some value is above 1 in size."""
        return bool(self.flags & _ABOVE)

    @property
    def inexact(self) -> bool:
        """Some count or sum is so large that float64 may have rounded it."""
        return bool(self.flags & INEXACT)


def lies(x: Tensor) -> tuple[torch.Size, tuple[int, ...]]:
    """Shape and strides of a tensor; 0 for those of axes of one element, which say nothing."""
    return x.shape, tuple(0 if size == 1 else stride for size, stride in zip(x.shape, x.stride(), strict=True))


class Slots:
    """Memory for the counts of a pass, taken piece by piece: asking for it tensor by tensor takes longer than counting.

    Args:
        size: numbers of float64 that will probably be taken.

    Attributes:
        taken: so many were.
    """

    def __init__(self, size: int = 0) -> None:
        self.taken = 0
        self._size = size
        self._chunk, self._start, self._end, self._address = torch.empty(0), 0, 0, 0

    def take(self, n: int) -> tuple[int, Tensor, int]:
        """The address of the next n numbers, the tensor that they are part of, and the place where they begin."""
        if self._start + n > self._end:
            self._chunk = torch.empty(max(self._size - self.taken, n, _CHUNK), dtype=torch.float64)
            self._start, self._end, self._address = 0, len(self._chunk), self._chunk.data_ptr()
        start = self._start
        self._start += n
        self.taken += n
        return self._address + 8 * start, self._chunk, start


class Maker(NamedTuple):
    """What makes a tensor, block by block before they are counted.

    Attributes:
        currents: address of what it is made of, which lies as it does.
        quantiser, norm: addresses of a `struct quantiser` and a `struct norm` of the source; 0 for no norm.
    """

    currents: int
    quantiser: int
    norm: int


class Read(NamedTuple):
    """What a reader has found, to be looked at when there is time."""

    reader: Reader
    memory: Tensor
    start: int
    flags: int

    @property
    def fraction(self) -> bool:
        """Some value is no integer."""
        return bool(self.flags & FRACTION)

    def counted(self) -> Counted:
        """The counts, taken apart."""
        return self.reader.counted(self.memory, self.start, self.flags)


_READY = Maker(0, 0, 0)


class Reader:
    """Counts the tensors of one shape in one layout of memory; what that takes is worked out once.

    A network has hundreds of tensors, and what Python does for each adds up to more than reading them.

    Attributes:
        shape, strides: of these tensors, [P, B, ...].
        lies: of these tensors, too.
    """

    def __init__(
        self, x: Tensor, layout: _Layout, unit: float | None, fan: Tensor | None, extremes: bool, real: bool
    ) -> None:  # fmt: skip
        self.shape, self.strides = x.shape, x.stride()
        self.lies = lies(x)
        self._rows, self._elements = prod(x.shape[:2]), x.numel()
        self._valued, self._weighed, self._extremes = unit is not None, fan is not None, extremes and unit is not None
        self._held = layout.offsets, fan  # whose memory the function is given
        self._function = _counter(native.library())
        weights, space = (None, 1) if fan is None else (fan.data_ptr(), fan.numel())
        self._before = (
            layout.offsets.data_ptr(), self._rows, layout.parts, layout.n, unit or 0.0, NEAR, ROUNDING, real, weights,
            space, layout.side,
        )  # fmt: skip

    def __call__(self, x: Tensor, slots: Slots, maker: Maker = _READY) -> Read | None:
        """The counts of a tensor that is `readable`, and of that shape and layout; None where a value is NaN.

        Args:
            maker: what makes it first; it is there as it is without.
        """
        rows = self._rows
        address, memory, start = slots.take(4 * rows + 1)  # the last one holds the extremes, two of float32
        low_high = address + 32 * rows if self._extremes else None
        threads = threads_for(self._elements)
        flags = self._function(x.data_ptr(), *maker, *self._before, address, low_high, threads)
        return None if flags & NOT_A_NUMBER else Read(self, memory, start, flags)

    def counted(self, memory: Tensor, start: int, flags: int) -> Counted:
        """What stands in memory that a call has written."""
        end = start + 4 * self._rows
        nonzero, fan_nonzero, sums, fan_sums = memory[start:end].view(4, *self.shape[:2]).unbind()
        return Counted(
            nonzero,
            sums if self._valued else None,
            fan_nonzero if self._weighed else None,
            fan_sums if self._valued and self._weighed else None,
            flags,
            memory[end : end + 1].view(torch.float32) if self._extremes else None,
        )


# Counts of a tensor that were taken when it was made: by measure, or what a reader has found.
Left = Mapping[str, Tensor] | Read


def usable() -> bool:
    """Whether this machine has the kernels."""
    return native.build().kernels is not None


def fan_out(weights: Tensor) -> Tensor | None:
    """Fan-outs of positions [*space] as the kernels read them; None where these have no room for them, or some are no
    whole numbers."""
    if weights.numel() == 0 or weights.dim() == 0:
        return None
    fits = 0 <= weights.min() and weights.max() < _HEAVIEST
    whole = weights.to("cpu", torch.int32).contiguous()
    return whole if fits and bool((whole == weights.cpu()).all()) else None


def reader(
    x: Tensor, unit: float | None, fan: Tensor | None = None, extremes: bool = False, real: bool = False
) -> Reader | None:
    """What counts tensors [P, B, ...] like this one; None where the kernels cannot.

    Args:
        unit: what the values are whole multiples of; None where they should be 0 and 1 alone.
        fan: of `fan_out`; its axes are the last ones of `x`.
        real: they are known to be no integers.
    """
    if not readable(x) or x.dim() < 3:
        return None
    layout = _layout(x.shape, x.stride(), 0 if fan is None else fan.dim())
    return None if layout is None else Reader(x, layout, unit, fan, extremes, real)


def count(x: Tensor, unit: float | None, fan: Tensor | None = None, extremes: bool = False) -> Counted | None:
    """Count [P, B, ...] as `reader` says; None where the kernels cannot, or where a value is NaN."""
    made = reader(x, unit, fan, extremes)
    read = None if made is None else made(x, Slots())
    return None if read is None else read.counted()


def sum_sizes(x: Tensor) -> Tensor | None:
    """Sums of |value| in double of real numbers [P, B, ...] -> [P, B], in the order of `sums.pairwise`; None where the
    kernels cannot."""
    if not readable(x) or x.dim() < 3:
        return None
    sizes, strides = _axes_of_row(x.shape[2:], x.stride()[2:])
    out = torch.empty(x.shape[:2], dtype=torch.float64)
    native.ask(
        "sum_sizes", x, offsets_of(tuple(x.shape[:2]), x.stride()[:2]), out.numel(), len(sizes), sizes, strides,
        prod(x.shape[2:]), out, ctypes.c_int(threads_for(x.numel())),
    )  # fmt: skip
    return out


@lru_cache(maxsize=1024)  # shapes and strides of the tensors of a few networks
def _axes_of_row(shape: Sequence[int], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Sizes and strides of a row, axes that lie within each other without gaps as one."""
    sizes, steps = [1], [1]
    for size, stride in zip(shape, strides, strict=True):
        if sizes[-1] == 1:
            sizes[-1], steps[-1] = size, stride
        elif steps[-1] == stride * size:
            sizes[-1], steps[-1] = sizes[-1] * size, stride
        elif size != 1:
            sizes.append(size)
            steps.append(stride)
    return torch.tensor(sizes), torch.tensor(steps)


def readable(x: Tensor) -> bool:
    """Whether the kernels read tensors of this kind at all."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.layout == torch.strided
    return plain and x.numel() > 0 and not x.is_neg() and type(x) in (Tensor, torch.nn.Parameter) and usable()


@cache
def _counter(library: ctypes.CDLL) -> Callable[..., int]:
    """The function of `count.c`: a network has hundreds of tensors, and converting each argument takes its time."""
    function: Any = library.spikeattn_count
    address, whole, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    function.restype = whole
    function.argtypes = (
        address, address, address, address, address, whole, whole, whole, number, number, number, ctypes.c_int,
        address, whole, whole, address, address, ctypes.c_int,
    )  # fmt: skip
    return cast("Callable[..., int]", function)


class _Layout(NamedTuple):
    """How the rows of a tensor [P, B, *others, *space] lie in memory.

    Attributes:
        side: so many elements of a row that share a position lie side by side.
        offsets: where each piece begins, in elements.
        parts: pieces of a row.
        n: elements of a piece.
    """

    side: int
    offsets: Tensor
    parts: int
    n: int


def _layout(shape: Sequence[int], strides: Sequence[int], spatial: int) -> _Layout | None:
    """How rows lie; None where the kernels do not read them: in other orders, or in pieces of a few elements."""
    row = torch.empty_strided(tuple(shape[2:]), tuple(strides[2:]), device="meta")
    side = _side(row, spatial)
    if side is not None:
        return _Layout(side, offsets_of(tuple(shape[:2]), tuple(strides[:2])), 1, row.numel())
    whole = _side_by_side(row, spatial)
    n = prod(row.shape[axis] for axis in whole)
    if n < _LEAST:
        return None
    outer = [0, 1, *(axis + 2 for axis in range(row.dim()) if axis not in whole)]
    offsets = offsets_of(tuple(shape[axis] for axis in outer), tuple(strides[axis] for axis in outer))
    return _Layout(1, offsets, row.numel() // n, n)


def _side(row: Tensor, spatial: int) -> int | None:
    if row.is_contiguous():
        return 1
    if spatial == 0:
        return 1 if is_dense(row) else None
    others = row.dim() - spatial
    turned = row.permute(*range(others, row.dim()), *range(others))
    return prod(row.shape[:others]) if turned.is_contiguous() else None


def _side_by_side(row: Tensor, spatial: int) -> list[int]:
    """Axes whose elements lie side by side without gaps: the last ones, among them all of space, or any without it."""
    axes = list(range(row.dim()))
    axes = axes[::-1] if spatial else sorted(axes, key=row.stride)
    found, n = list[int](), 1
    for axis in axes:
        if row.shape[axis] != 1 and row.stride(axis) != n:
            break
        found.append(axis)
        n *= row.shape[axis]
    return found if len(found) >= spatial else []


@lru_cache(maxsize=1024)  # shapes and strides of the tensors of a few networks; an entry holds P * B numbers
def offsets_of(sizes: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Where each row or matrix begins, in elements, in the order of the indices before it."""
    at = torch.zeros((), dtype=torch.int64)
    for size, stride in zip(sizes, strides, strict=True):
        at = at.unsqueeze(-1) + torch.arange(size) * stride
    return at.flatten().contiguous()


def threads_for(elements: int) -> int:
    """How many threads count so many elements."""
    return 1 if elements <= _SMALL else torch.get_num_threads()
