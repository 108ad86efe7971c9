"""Progress bars: where somebody looks on, as text, without a warning of missing widgets."""

from __future__ import annotations

import io
import sys
import warnings
from importlib import import_module
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


class Output:
    """What `IPython.display` shows in a cell: outputs, each with its present text."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def display(self, data: dict[str, str], raw: bool, display_id: bool) -> SimpleNamespace:
        assert raw and display_id
        place = len(self.texts)
        self.texts.append(data["text/plain"])
        return SimpleNamespace(update=lambda data, raw: self.texts.__setitem__(place, data["text/plain"]))


@pytest.fixture
def quiet(monkeypatch) -> None:
    """No notebook; under pytest standard error is no terminal."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)


@pytest.fixture
def notebook(monkeypatch) -> Output:
    """A kernel without ipywidgets; its cell's output."""
    output = Output()
    monkeypatch.setitem(sys.modules, "IPython", kernel("IPKernelApp"))
    monkeypatch.setitem(sys.modules, "IPython.display", output)
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", SimpleNamespace())  # by which tqdm knows one
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # as where it is not installed
    return output


def test_nobody_looks_on_where_standard_error_is_a_file(quiet, capsys) -> None:
    assert not text_bars.watched()
    text_bars.text_bar(None, total=3).update()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_the_bar_and_progress_false_does_not(quiet, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert text_bars.watched()
    with text_bars.text_bar(None, total=3, unit="image") as bar:
        bar.update(3)
    said = terminal.getvalue()
    assert "3/3" in said
    text_bars.text_bar(False, total=3).update()
    assert terminal.getvalue() == said


def test_a_notebook_shows_one_output_with_the_last_line(notebook, capsys) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with text_bars.text_bar(None, total=3) as bar:
            for _ in range(3):
                bar.update()
                bar.refresh()
    (text,) = notebook.texts
    assert "3/3" in text and capsys.readouterr() == ("", "")
    text_bars.text_bar(False, total=3).update()
    assert len(notebook.texts) == 1


def test_others_who_import_tqdm_auto_find_it_without_its_warning(notebook, monkeypatch) -> None:
    def forget() -> None:
        for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):
            monkeypatch.delitem(sys.modules, name, raising=False)

    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_bars.import_widgets_quietly()
        import_module("tqdm.auto")
    forget()
    with pytest.warns(match="IProgress not found"):  # what it is for
        import_module("tqdm.auto")


def test_ipython_on_a_pipe_is_no_notebook(quiet, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", kernel("TerminalIPythonApp"))
    assert not text_bars.watched()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))  # imported, no shell
    assert not text_bars.watched()


@pytest.mark.filterwarnings("ignore")
def test_profile_and_attend_show_one_by_default(quiet, monkeypatch, capsys) -> None:
    model, images = sa.create_model("sdt_digits", pretrained=True), torch.rand(2, 1, 16, 16)
    sa.profile(model, [images])
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    sa.profile(model, [images], progress=False)
    sa.attend(model, images, replicates=3, progress=False)
    assert terminal.getvalue() == ""
    sa.profile(model, [images])
    sa.attend(model, images, replicates=3)
    assert "2image" in terminal.getvalue() and "8/8" in terminal.getvalue()  # maps: each image with its replicates


@pytest.mark.parametrize("call", [
    lambda model, images: sa.profile(model, [images], progress="yes"),
    lambda model, images: sa.attend(model, images, progress="yes"),
])  # fmt: skip
def test_progress_is_a_switch(call) -> None:
    with pytest.raises(sa.SpikeattnError, match="progress is 'yes'; give True or False"):
        call(sa.create_model("sdt_digits"), torch.rand(2, 1, 16, 16))
