"""Exact counts of one tensor per time step and image: non-zero elements, sums of |value|, fan-out-weighted sums.

Floating-point sums are exact here because their terms are whole numbers: ones are added in float32 in pieces of at
most 2**24 elements, and pieces in float64, as are values. A count that float64 cannot hold is an error on the CPU; on a
GPU nothing here waits for the device, so whoever receives the counts must compare them with `LARGEST`. Real tensors (an
image) have no exact sum of |value|; theirs is a float64 sum, on the CPU in an order that is always the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from math import prod
from types import ModuleType

import torch
from torch import Tensor

from spikeattn.compat.torch_modes import orderable
from spikeattn.errors import SpikeattnError
from spikeattn.fast import count

LARGEST = 1 << 53  # float64 holds every integer up to here: sums of whole numbers >= 0 that stay below it are exact
_PIECE = 1 << 20  # elements, 4 MB of float32: larger pieces leave the cache and take 1.3 times as long
_BLOCK = 1 << 12  # numbers that are added to each other first, as in `real_sums.c`
_EXACT = 1 << 24  # float32 holds every integer up to here
# What a count is, in the error of one that is too large.
PAIRS, WEIGHED, VALUES = "the number of spike pairs", "a fan-out-weighted count", "the sum of |value|"
_CHANNELS = 1 << 16  # so many values of up to 256 (kinds.LEVELS) add up to _EXACT


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    """[T, B, ...] -> [T, B, K] one after another, K at most 2**24: float32 counts the ones of each exactly."""
    return (x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)).split(_EXACT, dim=2)


def _added(parts: Iterable[Tensor]) -> Tensor:
    """The sum of counts, in float64."""
    first, *others = (part.double() for part in parts)
    return sum(others, start=first)


def count_binary(x: Tensor) -> Tensor:
    """Ones of a 0/1 tensor [T, B, ...] -> [T, B] float64."""
    if x.dtype == torch.bool:
        return torch.count_nonzero(x.flatten(2), dim=2).double()
    return _added(piece.sum(dim=2, dtype=_accumulator(x)) for piece in _pieces(x))


def count_nonzero(x: Tensor) -> Tensor:
    """Non-zero elements of [T, B, ...] -> [T, B] float64."""
    if not x.is_floating_point():
        return torch.count_nonzero(x.flatten(2), dim=2).double()
    return _added(torch.linalg.vector_norm(piece, 0, dim=2, dtype=_accumulator(x)) for piece in _pieces(x))


def count_by_neuron(x: Tensor) -> Tensor:
    """Non-zero elements at every place of [P, B, ...] over positions and images -> [...], whole numbers in a float."""
    rows = x.shape[0] * x.shape[1]
    fired = x if x.is_floating_point() else x.float()
    if rows > _EXACT:
        return fired.sum(dim=(0, 1), dtype=torch.float64)
    if fired.dtype == torch.float32 and fired.device.type == "cpu" and fired.is_contiguous():
        with torch.autocast("cpu", enabled=False):  # which would round the sums to bfloat16
            flat = fired.new_ones(rows) @ fired.reshape(rows, -1)  # 2 to 10 times as fast as a sum over the first axes
        return flat.reshape(x.shape[2:])
    return fired.sum(dim=(0, 1), dtype=_accumulator(fired))


def sum_abs(x: Tensor) -> Tensor:
    """Sum of |value| of [T, B, ...] -> [T, B] float64; exact for integer values.

    Raises:
        SpikeattnError: whole numbers on the CPU whose sum float64 cannot hold exactly.
    """
    if x.device.type != "cpu" or x.numel() == 0:
        total = magnitude(x).flatten(2).sum(dim=2)
    else:
        in_kernel = count.sum_sizes(x)
        total = pairwise(x) if in_kernel is None else in_kernel
    if _too_large(total) and (not x.is_floating_point() or bool((x == x.round()).all())):
        raise _inexact(VALUES, total)
    return total


def pairwise(x: Tensor) -> Tensor:
    """Sums of |value| [P, B] of numbers [P, B, ...]: in blocks, half to half, then the blocks likewise.

    The order is part of the result, as additions of numbers round; this one depends on no thread and no vector. A piece
    at a time is copied to float64.
    """
    flat = x.flatten(2)
    piece = max(_PIECE // max(prod(x.shape[:2]), 1) // _BLOCK, 1) * _BLOCK
    blocks = torch.cat([_halved(_in_blocks(magnitude(each))) for each in flat.split(piece, dim=2)], dim=2)
    wide = 1 << (blocks.shape[2] - 1).bit_length()
    return _halved(torch.nn.functional.pad(blocks, (0, wide - blocks.shape[2])))


def _in_blocks(x: Tensor) -> Tensor:
    """[P, B, K] -> [P, B, blocks, _BLOCK], filled up with zeros, which change no sum."""
    return torch.nn.functional.pad(x, (0, -x.shape[2] % _BLOCK)).unflatten(2, (-1, _BLOCK))


def _halved(x: Tensor) -> Tensor:
    """The sum over the last axis, a power of two long: its halves are added to each other until one is left."""
    while x.shape[-1] > 1:
        first, second = x.chunk(2, dim=-1)
        x = first + second
    return x.squeeze(-1)


def magnitude(x: Tensor) -> Tensor:
    """|value| in float64, of complex numbers too."""
    return x.abs().double() if x.is_complex() else x.double().abs()


def sum_channels(x: Tensor, spatial: int) -> Tensor:
    """[T, B, C, *space] -> [T, B, *space] float64: the part of a fan-out-weighted count that every weighting shares.

    Exact for values up to 256, and for any whole numbers in float64.
    """
    space = tuple(range(x.dim() - spatial, x.dim()))
    others = tuple(d for d in range(2, x.dim()) if d not in space)
    if not others:
        return x.double()
    many = prod(x.shape[d] for d in others) > _CHANNELS
    return x.sum(dim=others, dtype=torch.float64 if many else _accumulator(x)).double()


def weigh(per_position: Tensor, fan_out: Tensor) -> Tensor:
    """[T, B, *space] times the fan-out of each position [*space] -> [T, B] float64.

    Raises:
        SpikeattnError: a count on the CPU that float64 cannot hold exactly.
    """
    return exact(WEIGHED, per_position.flatten(2) @ fan_out.flatten().to(per_position.device))


def not_binary(x: Tensor) -> Tensor:
    """A scalar that is True where `x` holds anything but 0 and 1; one value among millions is seen.

    x - x * x is zero for 0 and 1 alone, and NaN for NaN; in pieces that stay in the cache.
    """
    if x.dtype == torch.bool or x.numel() == 0:
        return torch.zeros((), dtype=torch.bool, device=x.device)
    flat = x.reshape(-1)
    extremes = []
    for piece in flat.split(_PIECE if x.device.type == "cpu" else len(flat)):
        # In one operation where that takes -1, which is no value of an unsigned integer.
        rest = torch.addcmul(piece, piece, piece, value=-1) if x.is_floating_point() else piece - piece * piece
        extremes.append(torch.stack(torch.aminmax(orderable(rest))))
    return (torch.stack(extremes) != 0).any()


def spike_pairs(a: Tensor, b: Tensor, by_value: bool = False) -> Tensor:
    """Pairs of spikes that meet in a @ b: [T, B, ..., N, K] x [T, B, ..., K, M] -> [T, B] float64.

    The sum over k of (non-zero a[:, k]) times (non-zero b[k, :]): what the sum of the product of 0/1 matrices is.
    `by_value` takes integer spikes for as many spikes as their value says: sums of |value| instead.

    Raises:
        SpikeattnError: a count on the CPU that float64 cannot hold exactly.
    """
    left, right = (magnitude(x) if by_value else (x != 0).double() for x in (a, b))
    return exact(PAIRS, (left.sum(dim=-2) * right.sum(dim=-1)).flatten(2).sum(dim=2))


@cache
def cuda_kernels() -> ModuleType | None:
    """Triton kernels that count in one pass; None where triton cannot be imported."""
    try:
        from spikeattn.fast import cuda
    except ImportError:
        return None
    return cuda


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _too_large(total: Tensor) -> bool:
    """Whether a count of the CPU is one that float64 may have rounded; what is not finite is found elsewhere."""
    if total.device.type != "cpu":
        return False  # asking would wait for the device
    return bool((total >= LARGEST).any()) and bool(total.isfinite().all())


def exact(what: str, total: Tensor) -> Tensor:
    """A count that float64 holds exactly.

    Raises:
        SpikeattnError: it cannot, on the CPU; on a GPU nobody knows before it has arrived.
    """
    if _too_large(total):
        raise _inexact(what, total)
    return total


def _inexact(what: str, total: Tensor) -> SpikeattnError:
    return SpikeattnError(
        f"{what} of one image at one time step is {total.max():.4g}; counts are exact below 2**53 ({LARGEST:,}) and "
        "would be rounded from there on. Spikes so large are no spikes: check the unit of the neurons and the input"
    )
