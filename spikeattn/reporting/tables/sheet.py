"""What a sheet is: a table as people read it, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column: its title, how its cells are set ("text", "prose" for what may be
    longer than a line, "code", "paper" for names in the paper, "number"), and a note."""

    title: str
    kind: str = "number"
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """What is printed, what it is sorted by, and how strongly it is coloured (0 to 1, None: not at all)."""

    text: str
    value: Any = None
    heat: float | None = None


@dataclass(frozen=True)
class Sheet:
    """Columns, rows of cells, and the row numbers before which a rule is drawn."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    rules: frozenset[int] = frozenset()
