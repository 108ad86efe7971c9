"""What becomes of places where windows move over the image: convolutions, pools, padding, interpolation."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikeattn.attention import fields
from spikeattn.attention.fields import Field, Maybe
from spikeattn.attention.place import Operation, Unplaced


def convolution(op: Operation, name: str) -> Maybe:
    """Behind a convolution."""
    x, weight = op.args[0], op.args[1]
    place, more = op.place_of(x), op.named
    if place is None or op.place_of(weight) is not None or more.get("transposed"):
        raise Unplaced("a convolution with data as its kernel, or a transposed one")
    found = fields.reduced(place.get(name), [1], place=False)
    return _windows(op, found, weight.shape[2:], more["stride"], more["padding"], more["dilation"])


def pool(op: Operation, name: str) -> Maybe:
    """Behind a pool of windows."""
    x, place = op.data[0]
    more, n = op.named, _spatial(op.name)
    kernel = _repeated(more["kernel_size"], n)
    stride = _repeated(more.get("stride") or kernel, n)
    return _windows(op, place.get(name), kernel, stride, _repeated(more.get("padding", 0), n),
                    _repeated(more.get("dilation", 1), n))  # fmt: skip


def _windows(op: Operation, field: Maybe, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Maybe:
    n, rank = len(kernel), op.out.dim()
    strides, paddings, dilations = (_repeated(each, n) for each in (stride, padding, dilation))
    for i, axis in enumerate(range(rank - n, rank)):
        field = fields.windowed(field, axis, op.out.shape[axis], kernel[i], strides[i], paddings[i], dilations[i])
    return field


def _spatial(name: str) -> int:
    return next(n for n in (1, 2, 3) if f"{n}d" in name)


def _repeated(value: Any, n: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * n if len(values) == 1 else values


def pad(op: Operation, name: str) -> Maybe:
    """Behind padding; what is padded lies outside the image."""
    x, place = op.data[0]
    field = place.get(name)
    named = op.named
    amounts = list(named["pad"] if "pad" in named else named["padding"])
    for number in range(len(amounts) // 2):
        axis = x.dim() - 1 - number
        if field is not None and (field.low.shape[axis] > 1):
            before, behind = amounts[2 * number], amounts[2 * number + 1]
            field = Field(
                fields.extended(field.low, axis, before, behind, True),
                fields.extended(field.high, axis, before, behind, False),
            )
    return field


def adaptive_pool(op: Operation, name: str) -> Maybe:
    """Behind an adaptive pool."""
    x, place = op.data[0]
    field, n = place.get(name), _spatial(op.name)
    for axis in range(x.dim() - n, x.dim()):
        field = fields.pooled(field, axis, op.out.shape[axis])
    return field


def resized(op: Operation, name: str) -> Maybe:
    """Behind an interpolation."""
    x, place = op.data[0]
    field = place.get(name)
    for axis in range(2, x.dim()):
        if field is not None and field.low.shape[axis] > 1:
            field = field.map(partial(_interpolated, axis=axis, size=op.out.shape[axis], length=x.shape[axis]))
    return field


def _interpolated(x: Tensor, axis: int, size: int, length: int) -> Tensor:
    """An axis of `length` positions at `size` places evenly spread over it."""
    at = ((torch.arange(size) + 0.5) * length / size - 0.5).clamp(0, length - 1)
    lower, upper = at.floor().long(), at.ceil().long()
    share = (at - lower).view([-1 if a == axis else 1 for a in range(x.dim())])
    return torch.lerp(x.index_select(axis, lower), x.index_select(axis, upper), share)
