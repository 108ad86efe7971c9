"""Ranks: the processes of one run under torchrun, which notices one that is dead and ends the others.

The unit of work is the batch, whose composition does not depend on how many take part. Rank r of n takes every n-th
batch that is left and writes its own parts into the folder of the run; when all have come to the end, rank 0 merges.
No counts travel: gloo carries a few hundred bytes at the start and at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from spikeattn.errors import SpikeattnError

_MEETING = timedelta(seconds=60)  # ranks of one launch start together
_WORK = timedelta(days=7)  # how long the fastest waits for the slowest; torchrun ends it sooner where one is dead
_MOST = 1 << 16  # ranks; one machine of a run opens no more ports
T = TypeVar("T")


class Ranks:
    """The processes of one run; this base class is one process alone."""

    rank, size, local = 0, 1, 0

    def share(self, value: T) -> T:
        """The value of rank 0, on every rank."""
        return value

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, on every rank; none goes on before all have come here."""
        return [value]


class JoinedRanks(Ranks):
    """Processes joined by torch.distributed; made by `join`."""

    def __init__(self, rank: int, size: int, local: int) -> None:
        self.rank, self.size, self.local = rank, size, local

    def share(self, value: T) -> T:
        values = [value]
        self._meet(lambda: dist.broadcast_object_list(values, src=0, device=torch.device("cpu")))
        return values[0]

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        self._meet(lambda: dist.all_gather_object(values, value))
        return values

    def _meet(self, exchange: Callable[[], Any]) -> None:
        try:
            exchange()
        except (dist.DistError, RuntimeError) as error:
            raise SpikeattnError(
                "the connection to another rank broke: it has failed or was killed, or its machine is gone. What all "
                "ranks have written is kept; the same command with --resume goes on"
            ) from error


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


def restarted() -> bool:
    """Whether torchrun has started the ranks again after a failure (--max-restarts)."""
    return launched() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


@contextmanager
def join() -> Iterator[Ranks]:
    """The ranks of this launch: torchrun's, or this process alone.

    Raises:
        SpikeattnError: the ranks do not find each other.
    """
    size = _number("WORLD_SIZE", _MOST, 1) if launched() else 1
    if size == 1:
        yield Ranks()
        return
    rank, _ = _number("RANK", size - 1), _number("MASTER_PORT", 65535)
    local = _number("LOCAL_RANK", size - 1) if os.environ.get("LOCAL_RANK") else rank
    try:
        store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=_MEETING))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_WORK)
    except (dist.DistError, RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise SpikeattnError(
            f"rank {rank} of {size}: the ranks did not find each other at {where} within {_MEETING.seconds} seconds "
            f"({str(error).splitlines()[0]})"
        ) from error
    try:
        yield JoinedRanks(rank, size, local)
    finally:
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
