"""Standard input, output and error as a process may find them: closed, full, or with nobody at the other end."""

from __future__ import annotations

import os
import sys
from typing import TextIO

_NAMES = ("stdin", "stdout", "stderr")  # by their number


def open_standard_streams() -> None:
    """Open what is closed on nothing; else the next file to be opened gets its number, and what is printed lands in it.

    To be called before anything else opens a file.
    """
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))


def drop_unwritten() -> None:
    """Send to nothing what a broken or full stream has not taken: the end of the process must not fail on it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _to_nothing(stream)
        except ValueError:  # closed by the program itself
            continue


def _to_nothing(stream: TextIO) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)
