"""Lines and bars that move while nothing is counted, and only where a person looks."""

from __future__ import annotations

import io
import sys
import threading
from types import SimpleNamespace

import pytest

from spikeattn.runs import ticking


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error as a terminal; in the test itself, for pytest puts its own in place after the fixtures."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    return sys.stderr


class Bar(SimpleNamespace):
    """Says when it has been drawn twice."""

    def refresh(self) -> None:
        self.drawn += 1
        if self.drawn == 2:
            self.twice.set()


def _bar(disable: bool = False) -> Bar:
    return Bar(disable=disable, drawn=0, twice=threading.Event())


def test_a_bar_is_drawn_again_and_again_until_the_block_ends(monkeypatch) -> None:
    _terminal(monkeypatch)
    monkeypatch.setattr(ticking, "EVERY", 0.001)
    bar, before = _bar(), threading.active_count()
    with ticking.ticking(bar):
        assert bar.twice.wait(60)
    assert threading.active_count() == before


def test_no_thread_where_nobody_looks(monkeypatch) -> None:
    before = threading.active_count()
    with ticking.ticking(_bar()):  # standard error of a test is no terminal
        assert threading.active_count() == before
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ticking.ticking(_bar(disable=True)):
        assert threading.active_count() == before


def test_what_a_command_is_doing(monkeypatch) -> None:
    terminal = _terminal(monkeypatch)
    with ticking.Doing() as doing:
        doing("loading")
        doing("drawing")
        assert "drawing ... 00:00" in terminal.getvalue().rpartition("loading")[2]
        doing(None)
        assert terminal.getvalue().rstrip("\r").endswith(" ")  # wiped, before something else is printed
    assert not any(thread.name == "spikeattn progress" for thread in threading.enumerate())


def test_nothing_of_it_in_a_log_or_of_a_second_rank(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with ticking.Doing() as doing:
        doing("loading")
    assert sys.stderr.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("RANK", "1")
    with ticking.Doing() as doing:
        doing("loading")
    assert sys.stderr.getvalue() == ""


def test_an_error_ends_the_line(monkeypatch) -> None:
    _terminal(monkeypatch)
    with pytest.raises(ValueError), ticking.Doing() as doing:
        doing("loading")
        raise ValueError
    assert not any(thread.name == "spikeattn progress" for thread in threading.enumerate())
