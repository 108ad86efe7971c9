"""What the values of a tensor are: whole multiples of a unit or not, negative, above one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikeattn.compat.torch_modes import orderable

LEVELS = 256  # more distinct values than these are numbers, not the levels of a neuron
# Types that torch stores and converts, but neither compares nor orders; those that this torch has.
UNORDERED = {
    kind
    for name in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
    if (kind := getattr(torch, name, None)) is not None
}
NEAR = 1e-2  # of the unit: what is further from a multiple is none
_ERROR = 1e-5  # of the largest level: what a few operations in float32 leave of rounding (its eps is 1.2e-7)
ROUNDINGS = 4  # eps of a type that is coarser: a level has gone through a product, a sum and a division or so
_SHOWN, _FEW = 4096, 16  # values that are sorted to see which there are; more than so many are compared more slowly
_PIECE = 1 << 18  # elements that one core's cache holds: in pieces of 2**20, or in one, the same takes 2 to 10 times


def whole(x: Tensor, unit: float) -> Tensor:
    """Values in units of `unit`, rounded where they are multiples of it but for floating-point error.

    Spikes of 1/3 or of a learned threshold are no exact multiples in floating point; a value that is further than a
    hundredth of the unit from a multiple is none, and stays as it is.
    """
    if unit == 1.0:
        return x
    precision = torch.finfo(x.dtype if x.is_floating_point() else torch.float32).eps
    multiples = (x if x.dtype == torch.float64 else x.float()) / unit
    rounded = multiples.round()
    if torch.equal(multiples, rounded):  # most are exact, for which less is to be worked out
        return multiples
    near = (multiples - rounded).abs() <= (rounded.abs() * ROUNDINGS * precision).clamp(min=NEAR)
    return torch.where(near, rounded, multiples)


def unit_of(x: Tensor) -> float | None:
    """The largest number that all values are whole multiples of; None where it is below 1/256 of the largest value.

    Zeros alone are multiples of 1.
    """
    found = distinct(x.detach().abs())
    levels = found[found > 0].double().tolist()
    if not levels or len(levels) > LEVELS:
        return None if levels else 1.0
    precision = torch.finfo(x.dtype if x.is_floating_point() else torch.float32).eps
    error = levels[-1] * max(_ERROR, ROUNDINGS * precision)
    unit = levels[0]
    for level in levels[1:]:  # Euclid's algorithm, up to floating-point error
        while unit > error:
            rest = level % unit
            level, unit = unit, min(rest, unit - rest)
        unit = level
    # A whole number, or one over a whole number (0.75 lies between 1 / 1 and 1 / 2), if it is one but for rounding: a
    # hundredth of the remainders that Euclid's algorithm takes for rounding, so that a learned 0.999 stays what it is.
    exact = float(round(unit)) if unit > 0.75 else 1 / round(1 / unit)
    unit = exact if abs(unit - exact) <= error * 1e-2 else unit
    multiples = torch.tensor(levels, dtype=torch.float64) / unit
    near = bool(((multiples - multiples.round()).abs() <= NEAR).all())
    return unit if near and multiples[-1] <= LEVELS else None


def distinct(x: Tensor) -> Tensor:
    """The values that occur in a tensor, sorted, as `torch.unique` gives them.

    Spikes have few values, and comparing with each of these takes a tenth of sorting them all.
    """
    flat = x.flatten()
    if x.device.type != "cpu" or len(flat) <= _SHOWN or flat.dtype in UNORDERED:
        return flat.unique()
    found = flat[:: len(flat) // _SHOWN].unique()
    if len(found) > _FEW:
        return flat.unique()
    other = flat != found[0]
    for value in found[1:]:
        other &= flat != value
    return torch.cat([found, flat[other]]).unique() if bool(other.any()) else found


def value_flags(x: Tensor) -> Tensor:
    """[3] bool: some value is no integer (NaN is none), some value is negative, some |value| is above 1.

    Complex values are no integers, whatever their parts are: no neuron adds one for each.
    """
    if x.dtype == torch.bool or x.numel() == 0:
        return torch.zeros(3, dtype=torch.bool, device=x.device)
    if x.is_complex():
        return torch.ones(3, dtype=torch.bool, device=x.device)
    x = x.double() if x.dtype in UNORDERED else orderable(x)
    if not x.is_floating_point():
        beyond = (x > 1) | ((x < 0) & (x.abs() != 1))  # |-128| is -128 in int8
        return torch.stack([torch.zeros((), dtype=torch.bool, device=x.device), (x < 0).any(), beyond.any()])
    if x.device.type == "cpu" and x.numel() > _PIECE:
        whole, low, high = _looked_through(x)
    else:  # a GPU is not waited for
        whole, (low, high) = (x == x.round()).all(), torch.aminmax(x)
    return torch.stack([~whole | low.isnan(), low < 0, (low < -1) | (high > 1)])


def _looked_through(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether all values are integers, the lowest and the highest (NaN where there is one), piece after piece.

    What stands behind the point is zero for integers alone, and NaN for infinite values, which pass for integers.
    """
    extremes: list[Tensor] = []
    whole = True
    for piece in in_memory(x).split(_PIECE):
        extremes += torch.aminmax(piece)
        if whole:
            low, high = torch.aminmax(piece.frac())
            whole = bool((low == 0) & (high == 0)) or bool(low.isnan() and (piece == piece.round()).all())
    return torch.tensor(whole), *torch.aminmax(torch.stack(extremes))


def in_memory(x: Tensor) -> Tensor:
    """The distinct elements of a tensor in one row, in the order of memory where they lie there side by side."""
    if x.layout != torch.strided:
        return x.reshape(-1)
    once = x[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in x.stride())]
    return once.as_strided((once.numel(),), (1,)) if is_dense(once) else once.reshape(-1)


def is_dense(x: Tensor) -> bool:
    """Whether the elements of a tensor lie side by side in memory, each once, in whatever order of the axes."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def is_identical(a: Any, b: Any) -> bool:
    """Whether two float32 tensors are the same bit by bit, whatever the bits of a NaN."""
    if not (isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype == torch.float32):
        return False
    bits, its = a.contiguous().view(torch.int32), b.contiguous().view(torch.int32)
    return torch.equal(bits, its) or bool(((bits == its) | (a.isnan() & b.isnan())).all())
