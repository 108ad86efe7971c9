"""The tables of the pages that scripts write under reports/."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RULES = {"l": "---", "r": "---:"}


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]], align: str = "") -> str:
    """A Markdown table of cells as they are; `align` is one letter per column, "l" or "r", by default all "l"."""
    rule = [RULES[letter] for letter in align or "l" * len(head)]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (head, rule, *rows))
