"""The label of an operation that no rule knows, by trying: change one image's rows and see which of the result move.

Numerical evidence, and said to be so in the result: a change may happen not to show.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikeattn.tracing import labels
from spikeattn.tracing.call import Call
from spikeattn.tracing.labels import ANY
from spikeattn.tracing.nested_tensors import tensors_in

_MOST = 1 << 22  # elements; a larger result is not tried, an operation of that size would take as long again


def poke(call: Call) -> list[Tensor | None]:
    """The label of every result in the field at hand.

    Raises:
        RuntimeError: the operation cannot be run again.
    """
    found = {i: call.of(x) for i, x in enumerate(call.given)}
    values = sorted({v for label in found.values() if label is not None for v in labels.values_of(label)})
    out: list[Tensor | None] = [None] * len(call.out)
    if not values or sum(o.numel() for o in call.out) > _MOST:
        return out
    generator = torch.Generator().manual_seed(0)
    original = {i: x.clone() for i, x in enumerate(call.given)}
    usual = list(tensors_in(call.again(original)))
    for value in values:
        changed = dict(original)
        for i, x in enumerate(call.given):
            label = found[i]
            if label is not None and x.numel():
                rows = (label == value).expand(x.shape)
                changed[i] = torch.where(rows.to(x.device), _another(x, generator), x)
        moved = list(tensors_in(call.again(changed)))
        for place, (before, after) in enumerate(zip(usual, moved, strict=False)):
            if place < len(out) and before.shape == after.shape:
                there = (before != after) & ~((before != before) & (after != after))
                one = torch.where(there.cpu(), torch.tensor(value, dtype=torch.int32), ANY).to(torch.int32)
                known = out[place]
                out[place] = one if known is None else labels.strict(known, one)
    filled = [None if label is None else _filled(label) for label in out]
    call.joins |= any(label is not None and bool((label == labels.MIXED).any()) for label in filled)
    return filled


def _another(x: Tensor, generator: torch.Generator) -> Tensor:
    """Other values of the same kind: of numbers and truth values those that the tensor holds, in another order."""
    if x.is_floating_point() or x.is_complex():
        noise = torch.rand(x.shape, generator=generator).to(x.device, x.dtype)
        return x + noise + 0.5  # no element stays what it was, nor within rounding of it
    order = torch.randperm(x.numel(), generator=generator).to(x.device)
    return x.flatten()[order].view(x.shape)


def _filled(label: Tensor) -> Tensor:
    """Elements that happened not to move take the label of those beside them, where these agree."""
    for axis in range(label.dim()):
        if label.shape[axis] > 1:
            line = labels.join_along(label, [axis])
            if not bool((line == labels.MIXED).any()) or bool((label == labels.MIXED).all()):
                label = line
    return labels.compact(label)
