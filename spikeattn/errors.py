"""The errors a user of spikeattn can meet: what was given, what is valid, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
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


class SpikeattnError(Exception):
    """An input or a model that spikeattn cannot use; the message names it and says what to do."""


@contextmanager
def failing(what: str, then: str = "") -> Iterator[None]:
    """What code of a user's raises inside, as one sentence: `what` has failed, why, and what to do `then`.

    Enter it around calls of the user's code alone (a forward pass, a loader, a predicate), not around our own.
    """
    try:
        yield
    except FAILURES as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        # A worker process of torch's puts its traceback into the message, and the reason on its last line.
        reason = lines[-1] if lines and lines[0].startswith("Caught ") else f"{type(error).__name__}: {error}"
        raise SpikeattnError(f"{what}: {reason}{then}") from error


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
