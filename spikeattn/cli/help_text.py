"""Examples and lists in the help of a command, which are set as they are written, on a terminal narrower than they."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

AS_IT_IS = "\b"  # click's mark before a paragraph that is not to be wrapped
_COLUMN = re.compile(r"^ *\S+ {2,}(?=\S)")  # a name, and what is said of it behind some spaces


def fitted_help(help_text: str, width: int) -> str:
    """The help, long lines of such paragraphs broken: a command before an option, a list below its second column."""
    paragraphs = help_text.split("\n\n")
    return "\n\n".join(
        "\n".join(part for line in each.split("\n") for part in _broken(line, width)) if AS_IT_IS in each else each
        for each in paragraphs
    )


def _broken(line: str, width: int) -> Iterator[str]:
    if len(line) <= width:
        yield line
        return
    margin = " " * (len(line) - len(line.lstrip()))
    if line.lstrip().startswith(("spikeattn ", "--")):
        following = line.rstrip().endswith("\\")
        words = re.split(r" (?=--)", line.removesuffix("\\").strip())
        shown = margin + words[0]
        for word in words[1:]:
            if len(f"{shown} {word} \\") > width:
                yield f"{shown} \\"
                shown = f"{margin}    {word}"
            else:
                shown += f" {word}"
        yield f"{shown} \\" if following else shown
        return
    column = _COLUMN.match(line)
    yield from textwrap.wrap(
        line, width, subsequent_indent=" " * column.end() if column else f"{margin}  ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
