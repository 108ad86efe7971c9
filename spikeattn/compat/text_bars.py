"""Progress bars as text: on a terminal and in notebooks, which may lack the widgets of others, or lose them."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

LIVE, LOG = 0.1, 30.0  # seconds between two lines where somebody looks on, and into a file, which needs no more


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this; asked without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def watched() -> bool:
    """Whether somebody looks on: standard error is a terminal, or this is a notebook."""
    return in_notebook() or _on_terminal()


def text_bar(shown: bool | None, **options: Any) -> tqdm[Any]:
    """A bar of tqdm, drawn with characters everywhere.

    On standard error; in a notebook on standard output, since they show standard error as a failure. tqdm's own choice,
    `tqdm.auto`, warns where ipywidgets are missing, and its bars are gone from a notebook that is read later.

    Args:
        shown: True or False; None for where `watched` says so.
        options: of tqdm.
    """
    shown = watched() if shown is None else shown
    there = in_notebook()
    patience = LIVE if there or _on_terminal() else LOG
    file = sys.stdout if there else sys.stderr
    return tqdm(disable=not shown, smoothing=0.1, mininterval=patience, file=file, **options)


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
