"""Progress bars as text: on a terminal and in notebooks, which may lack the widgets of others, or lose them."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

LIVE, LOG = 0.1, 30.0  # seconds between two lines where somebody looks on, and into a file, which needs no more


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this; asked without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def watched() -> bool:
    """Whether somebody looks on: standard error is a terminal, or this is a notebook."""
    return in_notebook() or on_terminal()


def text_bar(shown: bool | None, **options: Any) -> tqdm[Any]:
    """A bar of tqdm, drawn with characters everywhere.

    On standard error; in a notebook one output, which each line replaces, so that a saved notebook holds the last.
    tqdm's own choice, `tqdm.auto`, warns where ipywidgets are missing, and its bars are gone from a notebook that is
    read later.

    Args:
        shown: True or False; None for where `watched` says so.
        options: of tqdm.
    """
    from tqdm import tqdm

    shown = watched() if shown is None else shown
    if not shown or not in_notebook():
        patience = LIVE if on_terminal() else LOG
        return tqdm(disable=not shown, smoothing=0.1, mininterval=patience, **options)

    class InOutput(tqdm):
        @staticmethod
        def status_printer(file: Any) -> Callable[[str], None]:
            return _output()

    return InOutput(smoothing=0.1, mininterval=LIVE, file=io.StringIO(), ascii=False, **options)


def import_widgets_quietly() -> None:
    """Let what is imported later find `tqdm.auto`, which warns at its first import in a notebook without ipywidgets.

    huggingface_hub imports it, for timm, and it is nothing to a user who shows no bar of theirs.
    """
    if in_notebook() and "tqdm.auto" not in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module("tqdm.auto")


def _output() -> Callable[[str], None]:
    """An output of the cell that runs, as a function that replaces its text."""
    display: Any = import_module("IPython.display").display
    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)


def on_terminal() -> bool:
    """Whether standard error is read as it is written."""
    return sys.stderr is not None and sys.stderr.isatty()
