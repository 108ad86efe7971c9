"""The HTML page of a run, and everything that is written beside it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikeattn.reporting.page.report_page import Report, write_report

_HOME = {"Report": "report_page", "write_report": "report_page"}

__all__ = ["Report", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value
