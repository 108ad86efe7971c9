"""The HTML page of a run, and everything that is written beside it."""

from typing import TYPE_CHECKING

from spikeattn.compat.lazy_names import lazy_names

if TYPE_CHECKING:
    from spikeattn.reporting.page.report_page import Report, write_report

__all__ = ["Report", "write_report"]

__getattr__ = lazy_names(__name__, {"Report": "report_page", "write_report": "report_page"})
