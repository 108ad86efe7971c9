"""Printing to a terminal: what a name holds besides letters is shown, and never obeyed; a pipe gets plain text."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from typing import TextIO

import typer

from spikeattn.boundary.visible_text import visible
from spikeattn.cli.printed_table import Page, parts_of

UNKNOWN = 80  # columns of a terminal that does not tell
NARROW = 40  # columns: nothing is drawn for less, where hardly two words stand in a line


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


def be_quiet(wanted: bool) -> None:
    """Whether what is neither a result nor a warning is left out from here on."""
    _quiet.set(wanted)


def quiet() -> bool:
    """Whether the command was asked to say no more than it must."""
    return _quiet.get()


def say(page: Page, err: bool = False) -> None:
    """Print lines and tables to standard output or standard error, as wide as the terminal.

    An error that no one can take any more is none: the exit code says the rest.
    """
    stream = sys.stderr if err else sys.stdout
    width, colour = width_of(stream), in_colour(stream)
    if width is None and not colour:
        shown = visible("\n".join(map(str, parts_of(page))))
    else:
        from spikeattn.cli.drawing import drawn  # rich takes as long to import as the whole of a short command

        shown = drawn(page, width or sys.maxsize, colour)
    with suppress(OSError) if err else nullcontext():
        typer.echo(shown, err=err)


def say_file(text: str) -> None:
    """Print what a file would hold: exactly that into a pipe or a file, and as `visible` to a terminal."""
    typer.echo(visible(text) if _is_terminal(sys.stdout) else text, nl=False)


def width_of(stream: TextIO | None) -> int | None:
    """Columns of a terminal, or those that COLUMNS asks for; None for a pipe or a file, which have none."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) and (stream is sys.stdout or _is_terminal(stream)):
        return max(NARROW, int(asked))
    if stream is None or not _is_terminal(stream):
        return None
    try:
        return max(NARROW, os.get_terminal_size(stream.fileno()).columns)
    except OSError:  # a terminal that does not tell, or a stream without a number
        return UNKNOWN


def in_colour(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that shows colours, and nobody has forbidden them (https://no-color.org)."""
    return _is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
