"""Ranks: the processes of one run under torchrun, and how they notice that one of them is gone.

The unit of work is the batch, whose composition does not depend on how many take part. Ranks exchange no counts: each
writes its own parts into the folder of the run, and rank 0 merges them. So gloo and nccl carry a few hundred bytes at
the start; progress, signs of life and failures travel through torch's key-value store.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from spikeattn.errors import SpikeattnError

BEAT, SILENCE = 2.0, 40.0  # seconds between signs of life, and without one until a rank is given up
_AGREE = timedelta(seconds=60)
_MOST = 1 << 16  # ranks; one machine of a run opens no more ports
T = TypeVar("T")


class Ranks:
    """The processes of one run; this base class is one process alone."""

    rank, size, local = 0, 1, 0

    def share(self, value: T) -> T:
        """The value of rank 0, on every rank."""
        return value

    def tell(self, **state: Any) -> None:
        """Tell the others how far this rank is, and find out whether one of them has failed.

        Raises:
            SpikeattnError: a rank has failed or gives no sign of life; the message names it.
        """

    def others(self) -> list[dict[str, Any]]:
        """What the other ranks have told last."""
        return []

    def wait(self, event: str, watch: Callable[[], None] = lambda: None) -> None:
        """Until every rank has come here; `watch` is called while waiting. Raises like `tell`."""

    def failed(self, error: BaseException) -> None:
        """Tell the others that this rank gives up."""


class JoinedRanks(Ranks):
    """Processes joined by torch.distributed; made by `join`."""

    def __init__(self, rank: int, size: int, local: int, store: Any) -> None:
        self.rank, self.size, self.local, self._store = rank, size, local, store
        self._state: dict[str, Any] = {}
        self._seen: dict[int, tuple[int, float]] = {}
        self._beats, self._last = 0, 0.0
        self._told: tuple[float, list[dict[str, Any]]] = (-1.0, [])
        self._lost: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="signs of life", daemon=True)
        self._thread.start()

    def share(self, value: T) -> T:
        held = [value]
        try:
            dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        except RuntimeError as error:
            self._check()
            raise SpikeattnError("the connection to rank 0 broke while the run started") from error
        return held[0]

    def tell(self, **state: Any) -> None:
        self._state = state
        if time.monotonic() - self._last >= max(1.0, self.size / 8):
            self._check()

    def others(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        if now - self._told[0] >= 0.5:  # asking costs more than a fast batch may
            self._told = (now, [self._read(f"state/{rank}") for rank in range(self.size) if rank != self.rank])
        return self._told[1]

    def wait(self, event: str, watch: Callable[[], None] = lambda: None) -> None:
        self._put(f"{event}/{self.rank}", "1")
        missing = set(range(self.size)) - {self.rank}
        while missing:
            missing = {rank for rank in missing if not self._has(f"{event}/{rank}")}
            watch()
            if missing:
                self._check(missing)
                time.sleep(0.1)

    def failed(self, error: BaseException) -> None:
        if self._lost is None:
            reason = str(error) or type(error).__name__
            self._put("failed", json.dumps({"rank": self.rank, "reason": reason}))

    def part(self) -> None:
        """Wait until all have come to their end: the store may live in one of them."""
        self._put(f"left/{self.rank}", "1")
        while self._lost is None and not all(self._has(f"left/{rank}") for rank in range(self.size)):
            self._check()
            time.sleep(0.1)

    def leave(self) -> None:
        """End the signs of life."""
        self._stop.set()
        self._thread.join(timeout=BEAT)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT if self._beats else 0):
            self._beats += 1
            self._put(f"state/{self.rank}", json.dumps({"beat": self._beats, **self._state}))

    def _check(self, needed: Collection[int] | None = None) -> None:
        """Raise where another rank has failed, or one of `needed` (default: all) is silent."""
        self._last = now = time.monotonic()
        if self._lost is not None:
            raise SpikeattnError(self._lost)
        if self._has("failed"):
            told = self._read("failed")
            if told.get("rank") != self.rank:
                raise SpikeattnError(f"rank {told.get('rank')} failed: {told.get('reason')}")
        for rank in range(self.size):
            if rank == self.rank or (needed is not None and rank not in needed) or self._has(f"left/{rank}"):
                continue
            beat = self._read(f"state/{rank}").get("beat", 0) if self._has(f"state/{rank}") else 0
            known, since = self._seen.get(rank, (-1, now))
            if beat != known:
                self._seen[rank] = (beat, now)
            elif now - since > SILENCE:
                raise SpikeattnError(
                    f"rank {rank} has given no sign of life for {SILENCE:.0f} seconds: it was killed, or its machine "
                    "is gone. What all ranks have written is kept; the same command with --resume goes on"
                )

    def _has(self, key: str) -> bool:
        return bool(self._ask(lambda: self._store.check([key]), False))

    def _read(self, key: str) -> dict[str, Any]:
        if not self._has(key):
            return {}
        return json.loads(self._ask(lambda: self._store.get(key), b"{}"))

    def _put(self, key: str, value: str) -> None:
        self._ask(lambda: self._store.set(key, value), None)

    def _ask(self, question: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return question()
        except (dist.DistError, RuntimeError):
            self._lost = (
                "the process that connects the ranks (torchrun, or rank 0) is gone. What all ranks have written is "
                "kept; the same command with --resume goes on"
            )
            return otherwise


def launched() -> bool:
    """Whether this process was started as one of several ranks (torchrun sets these variables)."""
    return all(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def _number(name: str, last: int, first: int = 0) -> int:
    """A whole number from `first` to `last` that torchrun has set."""
    text = os.environ[name]
    if not (text.isascii() and text.isdecimal() and first <= int(text) <= last):
        raise SpikeattnError(
            f"the environment says {name}={text!r}; torchrun sets a whole number from {first} to {last}. Unset it, or "
            "start the run with torchrun"
        )
    return int(text)


@contextmanager
def join(cuda: bool) -> Iterator[Ranks]:
    """The ranks of this launch: torchrun's, or this process alone.

    Args:
        cuda: whether the model runs on GPUs, so that tensors on them go through nccl.

    Raises:
        SpikeattnError: the ranks do not find each other.
    """
    size = _number("WORLD_SIZE", _MOST, 1) if launched() else 1
    if size == 1:
        yield Ranks()
        return
    rank, _ = _number("RANK", size - 1), _number("MASTER_PORT", 65535)
    local = _number("LOCAL_RANK", size - 1) if os.environ.get("LOCAL_RANK") else rank
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=_AGREE))
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        meeting = dist.PrefixStore(f"group/{again}", store)
        dist.init_process_group(backend, store=meeting, rank=rank, world_size=size, timeout=_AGREE)
    except (dist.DistError, RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise SpikeattnError(
            f"rank {rank} of {size}: the ranks did not find each other at {where} within "
            f"{_AGREE.seconds} seconds ({str(error).splitlines()[0]})"
        ) from error
    ranks = JoinedRanks(rank, size, local, dist.PrefixStore(f"spikeattn/{again}", store))
    try:
        yield ranks
        ranks.part()
    except BaseException as error:
        ranks.failed(error)
        raise
    finally:
        ranks.leave()
        dist.destroy_process_group()


def cores() -> int:
    """Physical cores this process may use: the number of threads that torch takes where nobody sets one."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    found = set()
    for cpu in allowed:
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
                found.add(file.read())
        except OSError:
            found.add(str(cpu))
    return max(1, len(found))


def device_of_rank(ranks: Ranks) -> torch.device:
    """The GPU of this rank where there are any, one for each rank of a machine.

    Raises:
        SpikeattnError: more ranks on this machine than GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if ranks.local >= torch.cuda.device_count():
        raise SpikeattnError(
            f"rank {ranks.rank} would need cuda:{ranks.local} and there are {torch.cuda.device_count()} GPUs on this "
            "machine; start as many ranks, or give --device"
        )
    return torch.device("cuda", ranks.local)
