"""Bars and lines on a terminal that move although nothing is counted: a reader sees that the program lives.

A batch of a large network, the maps of one image, or the figures of a page take longer than anyone likes to look at a
line that stands still.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from spikeattn.compat import text_bars

EVERY = 0.5  # seconds: the elapsed time is shown in whole ones, and a reader waits for the next


@contextmanager
def ticking(bar: Any) -> Iterator[None]:
    """Draw a bar of tqdm anew twice a second inside a block, where it is shown on a terminal."""
    if bar.disable or not on_terminal():
        yield
        return
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(EVERY):
            bar.refresh()

    thread = threading.Thread(target=tick, name="spikeattn progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Doing:
    """What a command is doing, as one line on a terminal with the time that has passed; nothing elsewhere.

    `doing(text)` begins the next thing, `doing(None)` ends the line before something else is shown. A context manager
    ends it in any case.

    Args:
        shown: whether there is a line at all.
    """

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown
        self._end: Callable[..., Any] | None = None

    def __call__(self, text: str | None) -> None:
        """Show a text in place of what is shown."""
        self.__exit__()
        if text is not None and self._shown and on_terminal():
            block = _line(text)
            block.__enter__()
            self._end = block.__exit__

    def __enter__(self) -> Doing:
        return self

    def __exit__(self, *error: object) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(None, None, None)


@contextmanager
def _line(text: str) -> Iterator[None]:
    with tqdm(desc=text, bar_format="{desc} ... {elapsed}", leave=False) as bar, ticking(bar):
        yield


def on_terminal() -> bool:
    """Whether a person reads standard error as it is written, and this is the process that speaks to them.

    Of the ranks of torchrun that is the first; asked before torch is loaded, hence by the variable that it sets.
    """
    return text_bars.on_terminal() and os.environ.get("RANK", "0") == "0"
