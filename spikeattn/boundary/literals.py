"""Words of a command line as Python values; without numpy or torch, so that `--help` is quick."""

from __future__ import annotations

from ast import literal_eval
from typing import Any


def read_value(text: str) -> Any:
    """A word of a command line as Python would read it: a literal, true, false, none, or else the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError, TypeError):  # TypeError: a list as the key of a dict
        return text
