"""Ranks that fail, fall silent or come to their end, without any process: two of them on one store."""

from __future__ import annotations

import threading
import time

import pytest
from torch import distributed as dist

from spikeattn import distributed
from spikeattn.distributed import JoinedRanks, Ranks, cores, launched
from spikeattn.errors import SpikeattnError


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed, "BEAT", 0.05)
    monkeypatch.setattr(distributed, "SILENCE", 0.5)
    store = dist.HashStore()
    ranks = [JoinedRanks(rank, 2, rank, store) for rank in range(2)]
    yield ranks
    for rank in ranks:
        rank.leave()


def until_it_raises(rank: JoinedRanks) -> str:
    with pytest.raises(SpikeattnError) as error:
        for _ in range(100):
            rank._check()
            time.sleep(0.05)
    return str(error.value)


def test_a_silent_rank_is_named(pair) -> None:
    pair[0]._check()
    pair[1].leave()  # its thread ends, as in a process that was killed
    told = until_it_raises(pair[0])
    assert told.startswith("rank 1 has given no sign of life") and "--resume" in told


def test_a_living_rank_is_waited_for(pair) -> None:
    waiting = threading.Thread(target=pair[1].wait, args=("counted",))
    threading.Timer(1.0, waiting.start).start()  # longer than the silence that is allowed
    pair[0].wait("counted")
    waiting.join()


def test_a_failure_is_told_to_the_others_with_its_reason(pair) -> None:
    pair[1].failed(SpikeattnError("image 7 holds NaN"))
    assert until_it_raises(pair[0]) == "rank 1 failed: image 7 holds NaN"
    pair[1]._check()  # not to itself


def test_progress_reaches_the_others(pair) -> None:
    pair[1].tell(images=12, sums=[12, 1.0, 0.5])
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not any(state.get("images") for state in pair[0].others()):
        time.sleep(0.1)
    assert pair[0].others()[0]["images"] == 12


def test_a_store_that_is_gone_is_an_error(pair, monkeypatch) -> None:
    class Gone:
        def __getattr__(self, name):
            raise dist.DistError("connection reset")

    pair[0]._store = Gone()
    assert "is gone" in until_it_raises(pair[0])


def test_one_process_needs_nobody(monkeypatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert not launched() and cores() >= 1
    with distributed.join(cuda=False) as ranks:
        assert type(ranks) is Ranks and ranks.share(5) == 5 and ranks.others() == []
        ranks.tell(images=1)
        ranks.wait("counted")
