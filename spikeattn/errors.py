"""The errors a user of spikeattn can meet: what was given, what is valid, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SpikeattnError(Exception):
    """An input or a model that spikeattn cannot use; the message names it and says what to do."""


def unknown(kind: str, given: str, valid: Iterable[str]) -> SpikeattnError:
    """Error for an unknown name, with the closest valid names first.

    Args:
        kind: what the name stands for ("model", "cost table", "convention").
        given: the name as typed.
        valid: every name that would have been accepted.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
    return SpikeattnError(f"unknown {kind} {given!r}: {hint}valid are {', '.join(names)}")
