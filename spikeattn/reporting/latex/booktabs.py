r"""Tables of a paper: siunitx columns, numbers aligned at their decimal points."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spikeattn.reporting.latex import environments
from spikeattn.reporting.latex.environments import BREAK, Panel, escape_latex, typewriter

LONGEST_NAME = 34  # characters of a code name that stands on one line
_NUMBER = re.compile(r"-?(\d+)(?:\.(\d+))?")
_POWER = re.compile(r"-?\d+(\.\d+)?e-?\d+")
_POWERS = re.compile(r"(?<![\w.])-?\d+(\.\d+)?e-?\d+(?!\w)")
_SHARED = re.compile(r"\[(-?[\d.]+)e(-?\d+), (-?[\d.]+)e\2\]")


@dataclass(frozen=True)
class Field:
    """A column: its title and cells in LaTeX; in one of numbers, plain text as people read it ("0.25", "2e-5", "–")."""

    title: str
    cells: tuple[str, ...]
    kind: str = "text"  # "text", "number" or "interval"

    @property
    def alignment(self) -> str:
        """The column's letter for tabular."""
        if self.kind == "number":
            found = [match.groups() for cell in self.cells if (match := _NUMBER.fullmatch(cell))]
            whole = max((len(before) for before, _ in found), default=1)
            places = max((len(after or "") for _, after in found), default=0)
            return f"S[table-format={whole}{f'.{places}' if places else ''}]"
        if self.kind == "code" and max(map(_shown, self.cells), default=0) > LONGEST_NAME:
            return r">{\raggedright\arraybackslash}p{4.6cm}"
        return "r" if self.kind == "interval" else "l"

    def cell(self, row: int) -> str:
        """The cell as it is set."""
        text = self.cells[row]
        if self.kind == "number" and not _NUMBER.fullmatch(text):
            return rf"{{\num{{{text}}}}}" if _POWER.fullmatch(text) else f"{{{escape_latex(text)}}}"
        if self.kind == "interval":  # powers of ten as in the column of the value, one for both limits
            if shared := _SHARED.fullmatch(text):
                low, power, high = shared.groups()
                return rf"{{[}}{low}, {high}{{]}}\,\num{{e{power}}}"
            return _POWERS.sub(lambda found: rf"\num{{{found.group(0)}}}", escape_latex(text))
        return escape_latex(text) if self.kind == "number" else text


def code(name: str) -> str:
    """A dotted path in typewriter letters, as a column of kind "code" holds it."""
    return typewriter(name, LONGEST_NAME)


def table(
    panels: Sequence[Sequence[Field]],
    rules: Iterable[int],
    caption: str,
    label: str,
    notes: str = "",
    size: str = "footnotesize",
) -> str:
    r"""A table, or a longtable where it has many rows.

    Args:
        panels: columns of the table; more than one where the columns do not fit beside each other.
        rules: row numbers before which a rule is drawn.
        caption: plain text, escaped here.
        label: key for \ref.
        notes: LaTeX, set below.
        size: of the letters; a longtable is set in "scriptsize".
    """
    said, gap = environments.caption(caption, label), "3pt" if size == "scriptsize" else "4pt"
    return environments.table([_panel(fields) for fields in panels], frozenset(rules), said, size, gap, notes)


def _panel(fields: Sequence[Field]) -> Panel:
    """The columns as they are set; a part or module that repeats is printed once."""
    return Panel(
        alignment=[field.alignment for field in fields],
        titles=[f"{{{field.title}}}" if field.kind == "number" else field.title for field in fields],
        rows=[[field.cell(row) for field in fields] for row in range(len(fields[0].cells))],
        once=[i for i, field in enumerate(fields) if field.title in ("Part", "Module")],
    )


def _shown(cell: str) -> int:
    return len(cell.removeprefix(r"\texttt{").removesuffix("}").replace(BREAK, "").replace(r"\_", "_"))
