"""What is noted of tensors: value flags are looked at once per memory and write, and nothing is noted of a dead one."""

from __future__ import annotations

import gc

import pytest
import torch

from spikeattn.tracing import book, kinds
from spikeattn.tracing.book import TensorBook
from spikeattn.tracing.labels import NOTHING
from spikeattn.tracing.origins import Held, Origin


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Elements of each tensor that was looked through."""
    sizes: list[int] = []
    flags = kinds.value_flags
    monkeypatch.setattr(book, "value_flags", lambda x: (sizes.append(x.numel()), flags(x))[1])
    return sizes


def test_views_of_the_same_memory_are_looked_at_once(looks: list[int]) -> None:
    notes, x = TensorBook(), torch.ones(2, 3, 4)
    origin = Origin(unit=1.0)
    for view in (x, x.flatten(), x.permute(2, 0, 1), x.view(6, 4).t()):
        notes.put(view, origin, NOTHING)
        notes.observe(view)
    assert looks == [24]


def test_a_part_a_copy_and_a_write_are_looked_at_again(looks: list[int]) -> None:
    notes, x = TensorBook(), torch.ones(2, 3, 4)
    origin = Origin(unit=1.0)
    copy = x.clone()
    for tensor in (x, x[:1], x.flatten()[::2], copy):
        notes.put(tensor, origin, NOTHING)
        notes.observe(tensor)
    copy.mul_(-2)
    assert notes.observe(copy).flags.tolist() == [False, True, True]
    assert looks == [24, 12, 12, 24, 24]


def test_memory_is_not_taken_for_other_memory_at_its_address() -> None:
    x = torch.ones(1000)
    held = Held.by(x)
    del x
    assert all(Held.by(torch.ones(1000)) != held for _ in range(20))


def test_nothing_is_kept_of_tensors_that_are_gone() -> None:
    notes = TensorBook()
    for _ in range(50):
        notes.put(torch.ones(1000), Origin(), NOTHING)
    gc.collect()
    assert not notes._entries and not notes._at


def test_flags_of_long_tensors_are_those_of_short_ones() -> None:
    spikes = (torch.arange(3 * kinds._PIECE + 5) % 3 == 0).float()
    for value in (0.0, 2.0, -1.0, -3.0, 0.5, 1e-40, float("inf"), -float("inf"), float("nan")):
        x = spikes.clone()
        x[-2] = value
        wanted = kinds.value_flags(torch.tensor([0.0, 1.0, value])).tolist()
        for long in (x, x[None].expand(2, -1), x.flip(0), torch.stack([x, spikes]).t()):
            assert kinds.value_flags(long).tolist() == wanted, value
