"""`sa.report`: the page of a profile from Python."""

from __future__ import annotations
