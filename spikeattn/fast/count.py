"""Counts of a tensor on the CPU in one pass over its memory, by the C kernels of `count.c`.

What the kernels do not take, in type or in memory, is counted by torch (`counting.sums`), to the same numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod
from typing import Any, cast

import torch
from torch import Tensor

from spikeattn.fast import native
from spikeattn.tracing.kinds import NEAR, ROUNDINGS, is_dense

_SMALL = 1 << 17  # elements that one thread counts sooner than several have started, which takes some 10 us
_HEAVIEST = 1 << 19  # a fan-out from which the sources' integers could overflow: 4096 of them make a block
_ROUNDING = ROUNDINGS * torch.finfo(torch.float32).eps
_FRACTION, _NEGATIVE, _ABOVE, _NOT_BINARY, _NOT_A_NUMBER = 1, 2, 4, 8, 16  # bits of the source's flags


@dataclass(frozen=True)
class Counted:
    """What one pass over a tensor [P, B, ...] has found.

    Attributes:
        nonzero: [P, B] float64.
        sum: [P, B] float64 of |value|; of values that are no integers not to be used; None for 0/1 tensors.
        fan_nonzero, fan_sum: the same, weighed with a fan-out; None without one.
        not_binary: some value is neither 0 nor 1.
        fraction, negative, above: some value is no integer, below 0, above 1 in size.
        extremes: the lowest and the highest value, or None where nobody asked.
    """

    nonzero: Tensor
    sum: Tensor | None
    fan_nonzero: Tensor | None
    fan_sum: Tensor | None
    not_binary: bool
    fraction: bool
    negative: bool
    above: bool
    extremes: tuple[float, float] | None


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


def count(x: Tensor, unit: float | None, fan: Tensor | None = None, extremes: bool = False) -> Counted | None:
    """Count [P, B, ...]; None where the kernels cannot, or where a value is NaN.

    Args:
        unit: what the values are whole multiples of; None where they should be 0 and 1 alone.
        fan: of `fan_out`; its axes are the last ones of `x`.
    """
    if not _readable(x) or x.dim() < 3:
        return None
    found = _rows(x.shape, x.stride(), 0 if fan is None else fan.dim())
    if found is None:
        return None
    laid, offsets, rows, n = found
    # One piece of memory: non-zeros and weighted ones in integers, sums and weighted sums, the extremes.
    memory = torch.zeros(4 * rows + 1, dtype=torch.float64)
    nonzeros, fans, sums, fan_sums, low_high = (memory.data_ptr() + 8 * rows * part for part in range(5))
    valued = unit is not None
    flags = _counter(native.library())(
        x.data_ptr(), offsets.data_ptr(), rows, n, unit or 0.0, NEAR, _ROUNDING,
        None if fan is None else fan.data_ptr(), 1 if fan is None else fan.numel(), laid, nonzeros,
        sums if valued else None, None if fan is None else fans, fan_sums if valued and fan is not None else None,
        low_high if valued and extremes else None, _threads(x.numel()),
    )  # fmt: skip
    if flags & _NOT_A_NUMBER:
        return None
    wholes = memory[: 2 * rows].view(torch.int64).double().view(2, *x.shape[:2])
    values = memory[2 * rows : 4 * rows].view(2, *x.shape[:2]) if valued else None
    low_and_high = memory[4 * rows :].view(torch.float32).tolist() if valued and extremes else None
    return Counted(
        wholes[0],
        None if values is None else values[0],
        None if fan is None else wholes[1],
        None if values is None or fan is None else values[1],
        bool(flags & _NOT_BINARY),
        bool(flags & _FRACTION),
        bool(flags & _NEGATIVE),
        bool(flags & _ABOVE),
        None if low_and_high is None else (low_and_high[0], low_and_high[1]),
    )


def marginals(x: Tensor, over: int, unit: float, by_value: bool) -> tuple[Tensor, bool] | None:
    """Non-zeros of matrices [..., R, K] over one of their axes, or sums of |value| in units; None as in `count`.

    Args:
        over: -2 or -1, the axis that goes.

    Returns:
        [..., K] or [..., R] int64, and whether some value is neither 0 nor 1.
    """
    if not _readable(x):
        return None
    kept = -3 - over
    outer = tuple(x.shape[:-2])
    found = torch.empty((*outer, x.shape[kept]), dtype=torch.int64)
    flags = native.ask(
        "marginals", x, _offsets(outer, x.stride()[:-2]), prod(outer), x.shape[kept], x.stride(kept), x.shape[over],
        x.stride(over), float(unit), NEAR, _ROUNDING, ctypes.c_int(by_value), found,
        ctypes.c_int(_threads(x.numel())),
    )  # fmt: skip
    if by_value and flags & (_FRACTION | _NOT_A_NUMBER):
        return None
    return found, bool(flags & _NOT_BINARY)


def _readable(x: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.layout == torch.strided
    return plain and x.numel() > 0 and not x.is_neg() and type(x) in (Tensor, torch.nn.Parameter) and usable()


@cache
def _counter(library: ctypes.CDLL) -> Callable[..., int]:
    """The function of `count.c`: a network has hundreds of tensors, and converting each argument takes its time."""
    function: Any = library.spikeattn_count
    address, whole, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    function.restype = whole
    function.argtypes = (
        address, address, whole, whole, number, number, number, address, whole, whole, address, address, address,
        address, address, ctypes.c_int,
    )  # fmt: skip
    return cast("Callable[..., int]", function)


@lru_cache(maxsize=1024)  # shapes and strides of the tensors of a few networks; an entry holds P * B numbers
def _rows(
    shape: Sequence[int], strides: Sequence[int], spatial: int
) -> tuple[int, Tensor, int, int] | None:  # fmt: skip
    """Of a tensor [P, B, *others, *space]: how many elements of a row share a position side by side, where each row
    begins, how many rows there are, and how many elements in each; None where rows lie otherwise."""
    laid = _laid_out(torch.empty_strided(tuple(shape[2:]), tuple(strides[2:]), device="meta"), spatial)
    if laid is None:
        return None
    return laid, _offsets(tuple(shape[:2]), tuple(strides[:2])), shape[0] * shape[1], prod(shape[2:])


def _laid_out(row: Tensor, spatial: int) -> int | None:
    if row.is_contiguous():
        return 1
    if spatial == 0:
        return 1 if is_dense(row) else None
    others = row.dim() - spatial
    turned = row.permute(*range(others, row.dim()), *range(others))
    return prod(row.shape[:others]) if turned.is_contiguous() else None


@lru_cache(maxsize=1024)  # shapes and strides of the tensors of a few networks; an entry holds P * B numbers
def _offsets(sizes: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Where each row or matrix begins, in elements, in the order of the indices before it."""
    at = torch.zeros((), dtype=torch.int64)
    for size, stride in zip(sizes, strides, strict=True):
        at = at.unsqueeze(-1) + torch.arange(size) * stride
    return at.flatten().contiguous()


def _threads(elements: int) -> int:
    return 1 if elements <= _SMALL else torch.get_num_threads()
