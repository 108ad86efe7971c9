"""Memory is lent again when nobody can read it any more, and not before."""

from __future__ import annotations

import copy
import pickle
from math import prod

import pytest
import torch

from spikeattn.fast.arena import Arena

SHAPE = (300, 1000)


def test_memory_comes_back_with_the_last_view() -> None:
    arena = Arena()
    first = arena.empty(SHAPE, torch.float32)
    address = first.data_ptr()
    assert address % 64 == 0 and first.shape == SHAPE and first.dtype == torch.float32
    view = first.fill_(1.5)[10:, ::2].t()
    del first
    second = arena.empty(SHAPE, torch.float32).fill_(2.5)
    assert second.data_ptr() != address and torch.equal(view, torch.full_like(view, 1.5))
    del view
    assert arena.empty(SHAPE, torch.float32).data_ptr() == address
    assert torch.equal(second, torch.full(SHAPE, 2.5))


def test_a_smaller_tensor_takes_a_larger_block_but_no_far_larger_one() -> None:
    arena = Arena()
    address = arena.empty(SHAPE, torch.float32).data_ptr()
    spikes = arena.empty(SHAPE, torch.bool)
    assert spikes.data_ptr() == address and spikes.dtype == torch.bool
    other = arena.empty(SHAPE, torch.float32)
    del spikes
    assert other.data_ptr() != address
    assert arena.empty((140_000,), torch.uint8).data_ptr() not in (address, other.data_ptr())


@pytest.mark.parametrize("shape", [(), (0, 5), (3,)])
def test_small_tensors(shape: tuple[int, ...]) -> None:
    assert Arena().empty(shape, torch.float32).numel() == prod(shape)


def test_a_copy_shares_nothing() -> None:
    arena = Arena()
    address = arena.empty(SHAPE, torch.float32).data_ptr()
    for other in (copy.deepcopy(arena), pickle.loads(pickle.dumps(arena))):
        assert other.empty(SHAPE, torch.float32).data_ptr() != address
