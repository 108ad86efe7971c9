"""Processes that read ahead: how many there are where nobody says it, and that they change nothing."""

from __future__ import annotations

import os

import pytest
import torch

from spikeattn.data import make_loader, workers
from spikeattn.data.workers import usable_cores, workers_for
from tests.data.test_batches import Numbers

MANY = 100


@pytest.fixture
def cores(monkeypatch):
    """Sets how many CPUs the process may use."""

    def use(number: int, ranks: str | None = None) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(number)), raising=False)
        monkeypatch.setattr(workers, "get_start_method", lambda allow_none: "fork")
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        if ranks is not None:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)

    return use


@pytest.mark.parametrize(
    ("number", "gpu", "expected"),
    [
        *((1, False, 0), (2, False, 0), (4, False, 1), (64, False, 1)),
        *((1, True, 1), (2, True, 1), (8, True, 7), (64, True, 12)),
    ],
)
def test_as_many_as_the_pass_needs(cores, number, gpu, expected):
    cores(number)
    assert workers_for(True, MANY, gpu) == expected


def test_ranks_of_one_machine_share_its_cores(cores):
    cores(64, ranks="8")
    assert usable_cores() == 8
    assert workers_for(True, MANY, True) == 7


def test_none_for_what_is_in_memory_or_one_batch(cores, monkeypatch):
    cores(16)
    assert workers_for(False, MANY, True) == 0
    assert (workers_for(True, 1, True), workers_for(True, 3, True)) == (0, 3)
    monkeypatch.setattr(
        workers, "get_start_method", lambda allow_none: "spawn"
    )  # a script without `if __name__ == "__main__"`
    assert workers_for(True, MANY, True) == 0


def test_a_loader_of_slow_data_reads_ahead_and_gives_the_same(cores):
    cores(16)

    class Slow(Numbers):
        slow = True

    assert make_loader(Numbers(23), 4, pin_memory=False).num_workers == 0
    ahead, alone = make_loader(Slow(23, broken=(7,)), 4), make_loader(Slow(23, broken=(7,)), 4, workers=0)
    assert ahead.num_workers == (6 if torch.cuda.is_available() else 1) and alone.num_workers == 0
    for one, other in zip(ahead, alone, strict=True):
        assert torch.equal(one.images, other.images) and one.ids == other.ids and one.skipped == other.skipped
