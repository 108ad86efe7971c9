"""The errors a user of spikeattn can meet: what was given, what is valid, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

# What code of a user's raises where it fails: the families of the standard library and of torch. KeyboardInterrupt and
# exceptions of classes of their own, by which a program may be told to stop, pass through.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)

_LONGEST = 300  # characters of a reason: torch lists all its backends, pages of them; the cause keeps the whole


class SpikeattnError(Exception):
    """An input or a model that spikeattn cannot use; the message names it and says what to do."""


@contextmanager
def failing(what: str, then: str | Callable[[BaseException], str] = "") -> Iterator[None]:
    """What code of a user's raises inside, as one sentence: `what` has failed, why, and what to do `then`, which may
    depend on the error.

    Enter it around calls of the user's code alone (a forward pass, a loader, a predicate), not around our own.
    """
    try:
        yield
    except FAILURES as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        # A worker process of torch's puts its traceback into the message, and the reason on its last line.
        caught = lines[0].startswith("Caught ")
        reason = lines[-1] if caught else f"{type(error).__name__}: {lines[0]}"
        reason = reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}..."
        advice = _of_the_machine(error) or (then if isinstance(then, str) else then(error))
        raise SpikeattnError(f"{what}: {reason}{advice}") from error


def _of_the_machine(error: BaseException) -> str:
    """What to do where the machine is the cause, and not the code that has failed; "" where it is not."""
    text = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return "; the memory is not enough: give smaller batches"
    if text.startswith("DataLoader worker"):
        return "; the system has ended a process that reads images, mostly for memory: give fewer workers"
    return ""


def unknown(kind: str, given: object, valid: Iterable[str]) -> SpikeattnError:
    """Error for an unknown name, with the closest valid names first.

    Args:
        kind: what the name stands for ("model", "cost table", "convention").
        given: the name as typed.
        valid: every name that would have been accepted.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(str(given), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
    return SpikeattnError(f"unknown {kind} {given!r}: {hint}valid are {', '.join(names)}")
