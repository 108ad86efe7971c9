"""Printing to a terminal: what a name holds besides letters is shown, and never obeyed."""

from __future__ import annotations

import sys
from contextlib import nullcontext, suppress

import typer

from spikeattn.boundary.visible_text import visible


def say(text: str, err: bool = False) -> None:
    """Print a line to standard output or standard error.

    An error that no one can take any more is none: the exit code says the rest.
    """
    with suppress(OSError) if err else nullcontext():
        typer.echo(visible(text), err=err)


def say_file(text: str) -> None:
    """Print what a file would hold: exactly that into a pipe or a file, and as `visible` to a terminal."""
    typer.echo(visible(text) if sys.stdout is not None and sys.stdout.isatty() else text, nl=False)
