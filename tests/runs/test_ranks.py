"""Ranks that share, gather, fail and are started again: real processes on gloo, without a model."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from spikeattn.errors import SpikeattnError
from spikeattn.runs.ranks import Ranks, cores, join, launched, restarted

FORK = multiprocessing.get_context("fork")


def together(size: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` gives, or the text of its error, on each of so many ranks; None of one that died."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def run(rank: int, sender: Any) -> None:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="localhost", MASTER_PORT=str(port))
        try:
            with join() as ranks:
                sender.send(work(ranks))
        except SpikeattnError as error:
            sender.send(str(error))
        sender.close()

    pipes = [FORK.Pipe(duplex=False) for _ in range(size)]
    processes = [FORK.Process(target=run, args=(rank, pipes[rank][1])) for rank in range(size)]
    for process, (_, sender) in zip(processes, pipes, strict=True):
        process.start()
        sender.close()
    results = []
    for receiver, _ in pipes:
        try:
            results.append(receiver.recv() if receiver.poll(60) else "hangs")
        except EOFError:
            results.append(None)
    for process in processes:
        process.join(60)
        assert not process.is_alive()
    return results


def test_ranks_share_the_value_of_the_first_and_gather_those_of_all() -> None:
    def work(ranks: Ranks) -> Any:
        return ranks.share({"of": ranks.rank}), ranks.gather(frozenset({ranks.rank})), (ranks.rank, ranks.size)

    everyone = [frozenset({0}), frozenset({1}), frozenset({2})]
    assert together(3, work) == [({"of": 0}, everyone, (rank, 3)) for rank in range(3)]


@pytest.mark.parametrize("dead", [0, 1])
def test_a_rank_that_dies_ends_the_others_with_what_to_do(dead: int) -> None:
    def work(ranks: Ranks) -> Any:
        ranks.share(None)
        if ranks.rank == dead:
            os._exit(9)
        return ranks.gather(ranks.rank)

    results = together(2, work)
    assert results[dead] is None
    assert "has failed or was killed" in results[1 - dead] and "--resume goes on" in results[1 - dead]


def test_a_rank_that_fails_says_why_and_the_others_that_it_is_gone() -> None:
    def work(ranks: Ranks) -> Any:
        if ranks.rank == 1:
            raise SpikeattnError("image 7 holds NaN")
        return ranks.gather(ranks.rank)

    first, second = together(2, work)
    assert second == "image 7 holds NaN" and "the connection to another rank broke" in first


def test_one_process_needs_nobody(monkeypatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert not launched() and not restarted() and cores() >= 1
    with join() as ranks:
        assert type(ranks) is Ranks and ranks.share(5) == 5 and ranks.gather(5) == [5]


def test_a_second_start_by_torchrun_is_known(monkeypatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert launched() and not restarted()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert restarted()
