"""Where time may begin: operations that repeat data, or lay them side by side, create candidates for its axis."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from spikeattn.tracing.call import Call
from spikeattn.tracing.label_joins import pointwise
from spikeattn.tracing.label_rules import rule_of


@dataclass(frozen=True)
class Birth:
    """An axis along which an operation repeats data, or lays them side by side: it may be that of time.

    Attributes:
        axis, values: of the result, and what the label is along it.
        alike: every position holds the same data, so they stay the same until something tells them apart.
    """

    axis: int
    values: Tensor
    alike: bool


def births(call: Call) -> list[Birth]:
    """The candidates for the axis of time that an operation on data creates."""
    out = call.out[0]
    data = [x for x in call.given if call.of(x) is not None]
    if not data:
        return []
    found: list[tuple[int, list[int], bool]] = []
    x = data[0]
    if call.name == "expand" or rule_of(call.func, call.name) is pointwise:
        if call.name != "expand" and len(call.given) < 2:
            return []
        for axis, size in enumerate(out.shape):
            before = max((d.shape[axis - out.dim() + d.dim()] for d in data if axis >= out.dim() - d.dim()), default=1)
            if size > 1 and before == 1:
                found.append((axis, list(range(size)), call.name == "expand"))
    elif call.name in ("repeat", "tile"):
        times = list(call.argument("repeats"))
        for axis, n in enumerate(times):
            if n > 1:
                found.append((axis, [i // (out.shape[axis] // n) for i in range(out.shape[axis])], True))
    elif call.name == "repeat_interleave" and isinstance(call.argument("repeats"), int):
        n, axis = call.argument("repeats"), call.argument("dim")
        if axis is not None and n > 1:
            found.append((axis % out.dim(), [i % n for i in range(out.shape[axis])], True))
    elif call.name in ("stack", "cat") and len(call.given) > 1:
        axis = call.argument("dim", 0) % out.dim()
        same_one = all(y is x for y in call.given)
        sizes = [1 if call.name == "stack" else y.shape[axis] for y in call.given]
        found.append((axis, [i for i, n in enumerate(sizes) for _ in range(n)], same_one))
    elif call.name in ("index_select", "index") and len(call.given) == 2:
        return []
    if not prod(out.shape):
        return []
    shapes = [[-1 if a == axis else 1 for a in range(out.dim())] for axis, _, _ in found]
    return [
        Birth(axis, torch.tensor(line, dtype=torch.int32).view(shape), alike)
        for (axis, line, alike), shape in zip(found, shapes, strict=True)
    ]
