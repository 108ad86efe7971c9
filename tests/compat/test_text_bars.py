"""Progress bars: where somebody looks on, as text, without a warning of missing widgets."""

from __future__ import annotations

import io
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

import spikeattn as sa
from spikeattn.compat import text_bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def kernel(*names: str) -> SimpleNamespace:
    """IPython as it is imported where its shell has these parts."""
    return SimpleNamespace(get_ipython=lambda: SimpleNamespace(config=dict.fromkeys(names, {})))


@pytest.fixture
def quiet(monkeypatch) -> io.StringIO:
    """No terminal and no notebook."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    return sys.stderr  # type: ignore[return-value]


def test_nobody_looks_on_where_standard_error_is_a_file(quiet) -> None:
    assert not text_bars.watched()
    text_bars.text_bar(None, total=3).update()
    assert quiet.getvalue() == ""


def test_a_terminal_shows_the_bar_and_progress_false_does_not(quiet, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert text_bars.watched()
    with text_bars.text_bar(None, total=3, unit="image") as bar:
        bar.update(3)
    assert "3/3" in sys.stderr.getvalue()  # type: ignore[attr-defined]
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    text_bars.text_bar(False, total=3).update()
    assert sys.stderr.getvalue() == said  # type: ignore[attr-defined]


def test_a_notebook_shows_it_on_standard_output_without_widgets_and_without_a_warning(quiet, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", kernel("IPKernelApp"))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # as where it is not installed
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with text_bars.text_bar(None, total=3) as bar:
            bar.update(3)
    assert "3/3" in sys.stdout.getvalue() and quiet.getvalue() == ""  # type: ignore[attr-defined]


def test_ipython_on_a_pipe_is_no_notebook(quiet, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", kernel("TerminalIPythonApp"))
    assert not text_bars.watched()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))  # imported, no shell
    assert not text_bars.watched()


@pytest.mark.filterwarnings("ignore")
def test_profile_and_attend_show_one_by_default(quiet, monkeypatch) -> None:
    model, images = sa.create_model("sdt_digits", pretrained=True), torch.rand(2, 1, 16, 16)
    sa.profile(model, [images])
    assert quiet.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", Terminal())
    sa.profile(model, [images], progress=False)
    sa.attend(model, images, replicates=3, progress=False)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    sa.profile(model, [images])
    sa.attend(model, images, replicates=3)
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "2image" in said and "8/8" in said  # images, and maps: each with its three replicates


@pytest.mark.parametrize("call", [
    lambda model, images: sa.profile(model, [images], progress="yes"),
    lambda model, images: sa.attend(model, images, progress="yes"),
])  # fmt: skip
def test_progress_is_a_switch(call) -> None:
    with pytest.raises(sa.SpikeattnError, match="progress is 'yes'; give True or False"):
        call(sa.create_model("sdt_digits"), torch.rand(2, 1, 16, 16))
