"""Spike pairs of matrix products on the CPU, by the C kernels of `pairs.c`: from the marginals, without a product."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from spikeattn.fast import count, native
from spikeattn.tracing.kinds import NEAR


class Pairs(NamedTuple):
    """What meets in a product.

    Attributes:
        pairs: [P, B] float64.
        by_value: the same, where integer spikes count as their value says; None where nobody asked.
        not_binary: some value is neither 0 nor 1.
    """

    pairs: Tensor
    by_value: Tensor | None
    not_binary: bool


class PairReader:
    """Counts the pairs of operands of two shapes in two layouts of memory; what that takes is worked out once."""

    def __init__(self, a: Tensor, b: Tensor, units: tuple[float, float], by_value: bool) -> None:
        outer = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = a.expand(*outer, *a.shape[-2:]), b.expand(*outer, *b.shape[-2:])
        self._by_value, self._outer = by_value, (2, *outer[:2])
        self._threads = a.numel() + b.numel()
        self._held = [count.offsets_of(tuple(outer), x.stride()[:-2]) for x in (a, b)]
        self._function = _counter(native.library())
        self._a = self._held[0].data_ptr(), a.stride(-1), a.shape[-2], a.stride(-2), units[0]
        self._b = self._held[1].data_ptr(), b.stride(-2), b.shape[-1], b.stride(-1), units[1]
        self._sizes = prod(outer[:2]), prod(outer[2:]), a.shape[-1], NEAR, count.ROUNDING, by_value

    def __call__(self, a: Tensor, b: Tensor, slots: count.Slots) -> Read | None:
        """The pairs of operands that are `count.readable`, and of those shapes and layouts; None where values are no
        whole multiples of their units, or a count is too large for float64."""
        address, memory, start = slots.take(2 * self._sizes[0])
        threads = count.threads_for(self._threads)
        flags = self._function(a.data_ptr(), *self._a, b.data_ptr(), *self._b, *self._sizes, address, threads)
        if flags & count.INEXACT or (self._by_value and flags & (count.FRACTION | count.NOT_A_NUMBER)):
            return None
        return Read(self, memory, start, flags)

    def pairs(self, memory: Tensor, start: int, flags: int) -> Pairs:
        """What stands in memory that a call has written."""
        pairs, by_value = memory[start : start + 2 * self._sizes[0]].view(self._outer).unbind()
        return Pairs(pairs, by_value if self._by_value else None, bool(flags & count.NOT_BINARY))


class Read(NamedTuple):
    """What a reader has found, to be looked at when there is time."""

    reader: PairReader
    memory: Tensor
    start: int
    flags: int

    def pairs(self) -> Pairs:
        """The counts, taken apart."""
        return self.reader.pairs(self.memory, self.start, self.flags)


def reader(a: Tensor, b: Tensor, units: tuple[float, float], by_value: bool) -> PairReader | None:
    """What counts the pairs of operands [P, B, ..., N, K] and [P, B, ..., K, M] like these; None where the kernels
    cannot.

    Args:
        units: what the values of each are whole multiples of.
        by_value: pairs by value, too.
    """
    fit = a.dim() == b.dim() > 3 and a.shape[-1] == b.shape[-2]
    return PairReader(a, b, units, by_value) if fit and count.readable(a) and count.readable(b) else None


@cache
def _counter(library: ctypes.CDLL) -> Callable[..., int]:
    """The function of `pairs.c`, with the types of its arguments."""
    function: Any = library.spikeattn_pairs
    address, whole, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    operand = (address, address, whole, whole, whole, number)
    function.restype = whole
    function.argtypes = (
        *operand, *operand, whole, whole, whole, number, number, ctypes.c_int, address, ctypes.c_int,
    )  # fmt: skip
    return cast("Callable[..., int]", function)
