"""What people look at: tables, figures and one self-contained page, all computed from a finished profile."""

from spikeattn.report.page import Report, write_report
from spikeattn.report.tables import block_energy, rate_table
from spikeattn.report.typeset import to_latex, to_markdown

__all__ = ["Report", "block_energy", "rate_table", "to_latex", "to_markdown", "write_report"]
