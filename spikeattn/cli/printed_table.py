"""What a command prints: lines, and tables that know which of their columns a narrow terminal can do without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2  # spaces between columns

Spare = Sequence[Sequence[str]]


@dataclass(frozen=True)
class PrintedTable:
    """A table as text.

    Attributes:
        rows: of cells; the first holds the titles.
        right: whether a column holds numbers, which stand to the right.
        spare: groups of columns that are left out where the terminal is too narrow, the first ones first; a column is
            named by how its title begins.
    """

    rows: Sequence[Sequence[str]]
    right: Sequence[bool]
    spare: Spare = ()

    def __str__(self) -> str:
        """All columns, a row a line: what a pipe or a file gets."""
        widths = [max(len(row[i]) for row in self.rows) for i in range(len(self.right))]
        lines = [
            (" " * GAP).join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, self.right, strict=True)
            )
            for row in self.rows
        ]
        return "\n".join(line.rstrip() for line in lines)


Line = str | PrintedTable
Page = str | Sequence[Line]


def parts_of(page: Page) -> Sequence[Line]:
    """Its lines and tables; a text is one of several lines."""
    return [page] if isinstance(page, str) else page
