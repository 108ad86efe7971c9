"""What a name holds besides letters is shown, and never obeyed: by a terminal, on a page, in a figure."""

from __future__ import annotations

import re

# Control characters but the ends of lines and the tab (ESC begins a command to the terminal, so does U+009B), marks
# that turn the direction of writing (a name can pass for another one by them), and ends of lines of other kinds.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_ENDS = {"\n": "\\n", "\t": "\\t"}


def visible(text: str) -> str:
    """The text with an escape, as Python writes it, in place of every character that a terminal would obey."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible_cell(text: str) -> str:
    """As `visible`, for a name within a line: ends of lines and tabs are escaped too."""
    return visible("".join(_ENDS.get(letter, letter) for letter in text))


def visible_json(text: str) -> str:
    """As `visible`, for JSON, which reads the escapes back as the characters they stand for."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
