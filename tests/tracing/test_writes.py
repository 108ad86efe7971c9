"""Writes into memory that tensors share: as boxes, the labels are those of the memory written element by element."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from spikeattn.tracing import labels, writes


def view(x: Tensor, dice: random.Random) -> Tensor:
    """Some view of a tensor: ranges, single places, turned, merged and stepped axes."""
    for _ in range(dice.randint(0, 3)):
        if not x.dim():
            return x
        axis, kind = dice.randrange(x.dim()), dice.randrange(6)
        if kind < 2:
            start = dice.randrange(x.shape[axis])
            x = x.narrow(axis, start, dice.randint(1, x.shape[axis] - start))
        elif kind == 2:
            x = x.select(axis, dice.randrange(x.shape[axis]))
        elif kind == 3:
            x = x.transpose(axis, dice.randrange(x.dim()))
        elif kind == 4:
            x = x[(slice(None),) * axis + (slice(None, None, 2),)].unsqueeze(axis)
        elif x.is_contiguous() and x.dim() > 1:
            x = x.flatten(0, 1)
    return x


def label(x: Tensor, dice: random.Random) -> Tensor:
    shape = [size if dice.random() < 0.5 else 1 for size in x.shape]
    values = [dice.choice((labels.ANY, 0, 1)) for _ in range(torch.Size(shape).numel())]
    return labels.compact(torch.tensor(values, dtype=torch.int32).view(shape))


@pytest.mark.parametrize("seed", range(4))
def test_boxes_and_memory_agree(seed: int) -> None:
    dice, boxes = random.Random(seed), 0
    for _ in range(400):
        memory = torch.zeros([dice.randint(1, 4) for _ in range(dice.randint(1, 4))])
        other, tensor = view(memory, dice), view(memory, dice)
        if not (other.dim() and tensor.dim()):
            continue
        before, after = label(other, dice), label(tensor, dice)
        boxes += writes._box(tensor, other) is not None or writes._box(other, tensor) is not None
        seen = writes.written_into(other, before, tensor, after)
        wanted = writes._in_memory(other, before, tensor, after)
        assert seen is not None and seen.dim() == other.dim()
        assert torch.equal(seen.expand(other.shape), wanted.expand(other.shape))
    assert boxes > 100


def test_the_border_of_an_image_leaves_its_label_small() -> None:
    """Padding written row by row, as RepConv does: a label with an entry per element would slow all that follows."""
    x = torch.zeros(4, 2, 64, 58, 58)
    images = labels.arange(2, 1, 5)
    written = writes.written_into(x, images, x[..., :1, :], images)
    assert written is not None and written.shape == (1, 2, 1, 1, 1)
