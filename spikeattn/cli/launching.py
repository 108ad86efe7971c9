"""How a run is started and stopped: threads, ranks of torchrun, signals."""

from __future__ import annotations

import logging
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.runs.ranks import Ranks

logger = logging.getLogger(__name__)


class Terminated(KeyboardInterrupt):
    """The system asks the process to end: SIGTERM of job schedulers and torchrun, SIGHUP of a closed terminal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


# SIGHUP is no signal of Windows.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name))


@contextmanager
def stoppable() -> Iterator[None]:
    """Let signals end a command as Ctrl-C does: what is done is written, and left in order, however often they come."""

    def stop(number: int, frame: FrameType | None) -> None:
        finishing()  # once is enough, and it must not break the writing
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    if not _on_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # What is ignored stays so: Ctrl-C by a job in the background, SIGHUP under nohup.
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finishing() -> None:
    """From here on signals no longer end the command, which says what it has done and ends by itself."""
    if _on_main_thread():
        for number in _SIGNALS:
            if getattr(signal.getsignal(number), "__qualname__", "").startswith(stoppable.__qualname__):
                signal.signal(number, signal.SIG_IGN)


def written() -> None:
    """After the writing: let another Ctrl-C end the process at once."""
    if _on_main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of this launch; all but rank 0 are silent unless they fail, and then say who they are."""
    from spikeattn.runs.ranks import join

    with join() as ranks:
        package = logging.getLogger("spikeattn")
        level = package.level
        if ranks.rank > 0:
            package.setLevel(logging.ERROR)
        try:
            yield ranks
        except SpikeattnError as error:
            if ranks.rank == 0:
                raise
            raise type(error)(f"rank {ranks.rank}: {error}") from error
        finally:
            package.setLevel(level)


def threads_of_run(threads: int | None, out: Path, resume: bool) -> int | None:
    """CPU threads to set; None leaves torch's own choice.

    Another number of threads sums in another order. So a resumed run keeps its number, and a rank of torchrun, which
    allows one thread to each, takes the number that a process alone would take.
    """
    from spikeattn.runs.ranks import cores, launched
    from spikeattn.storage.folder import ledger_of

    if threads is not None:
        return threads
    ledger = ledger_of(out) if resume else None
    if ledger is not None and ledger.settings.threads:
        return ledger.settings.threads
    return cores() if launched() else None


def stored_command(words: Sequence[str]) -> str:
    """The command line of a run, without what differs between its shards and its resumptions."""
    kept, skip = [], False
    for word in words:
        if skip or word in ("--resume", "--shard") or word.startswith("--shard="):
            skip = word == "--shard" and not skip
            continue
        kept.append(word)
    return shlex.join(["spikeattn", *kept])


def resume_command(words: Sequence[str], ranks: Ranks) -> str:
    """What to type to finish an interrupted run."""
    command = shlex.join([*words, *([] if "--resume" in words else ["--resume"])])
    if ranks.size > 1:
        return f"torchrun --nproc-per-node {ranks.size} -m spikeattn {command}"
    return f"spikeattn {command}"
