"""LaTeX and Markdown of the tables as people read them."""

from __future__ import annotations

import re

import pandas as pd

from spikeattn.boundary.number_format import MISSING
from spikeattn.reporting.latex import environments
from spikeattn.reporting.latex.environments import Panel, escape_latex, typewriter
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet
from spikeattn.reporting.tables.sheets import sheet_of

_ALIGNED = {"number": "r", "prose": r"p{0.5\linewidth}"}
WIDEST = 126  # characters of a row at \scriptsize on a page 16 cm wide; a wider one is cut into panels


def to_latex(table: pd.DataFrame, caption: str | None = None, label: str | None = None) -> str:
    r"""The table in LaTeX, for a document that loads booktabs and, where it has more than 45 rows, longtable.

    Args:
        table: `rate_table(...)`, `profile.energy()`, `profile.operations()` or `profile.over_time()`.
        caption: plain text; by default the table's own, if it carries one (`attrs["caption"]`).
        label: key for \ref, e.g. "tab:rates".

    Raises:
        SpikeattnError: a table without a layout.
    """
    sheet = sheet_of(table)
    text = caption if caption is not None else table.attrs.get("caption", "")
    sheets = _panels(sheet)
    size = "small" if max(map(_width, sheets)) <= WIDEST * 3 // 5 else "scriptsize"
    said = environments.caption(text or None, label)
    return environments.table([_panel(each) for each in sheets], sheet.rules, said, size)


def to_markdown(table: pd.DataFrame, caption: str | None = None) -> str:
    """The table in GitHub's Markdown, columns padded to the same width, the caption as a paragraph above it."""
    sheet = sheet_of(table)
    text = caption if caption is not None else table.attrs.get("caption", "")
    rows = [[column.title for column in sheet.columns], *([cell.text for cell in row] for row in sheet.rows)]
    kinds = [column.kind for column in sheet.columns]
    cells = [[_markdown(value, "text" if i == 0 else kind) for value, kind in zip(row, kinds, strict=True)]
             for i, row in enumerate(rows)]  # fmt: skip
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(kinds))]
    right = [kind == "number" for kind in kinds]
    rule = ["-" * (width - 1) + ":" if r else "-" * width for width, r in zip(widths, right, strict=True)]
    lines = []
    for row in (cells[0], rule, *cells[1:]):
        padded = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(row, widths, right, strict=True))
        lines.append(f"| {' | '.join(padded)} |")
    return (f"{_markdown(text, 'text')}\n\n" if text else "") + "\n".join(lines) + "\n"


def paper_latex(role: str) -> str:
    """A tensor's name in the paper as it is printed there: V_S with its subscript, Vhat_S with its hat."""
    text = re.sub(r"\b([VQK])\\_S", r"$\1_S$", escape_latex(role))
    text = re.sub(r"\bVhat\\_S", r"$\\hat{V}_S$", text)
    text = re.sub(r"\bg\(", "$g$(", text)
    return text.replace("$*$", r" \odot ")


def paper_html(escaped: str) -> str:
    """A tensor's name in the paper with its subscript and hat, from text that is escaped for HTML."""
    return names_html(escaped).replace("*", " ⊙ ")


def names_html(escaped: str) -> str:
    """Text that is escaped for HTML, with the names of the paper in it as they are printed there."""
    text = re.sub(r"\bVhat_S", "V\u0302<sub>S</sub>", escaped)
    return re.sub(r"\b([VQK])_S", r"\1<sub>S</sub>", text)


def _latex(cell: Cell, column: Column) -> str:
    if column.kind == "paper":
        return paper_latex(cell.text)
    coded = column.kind == "code" and cell.text != MISSING
    return typewriter(cell.text) if coded else escape_latex(cell.text)


def _markdown(text: str, kind: str) -> str:
    if kind == "code" and text != MISSING and "`" not in text:
        return f"`{text}`".replace("|", "\\|")
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", " ".join(text.split())) if kind != "number" else text


def _width(sheet: Sheet) -> int:
    return sum(_column_width(sheet, i) for i in range(len(sheet.columns)))


def _column_width(sheet: Sheet, i: int) -> int:
    return 2 + max(len(sheet.columns[i].title), *(len(row[i].text) for row in sheet.rows))


def _panels(sheet: Sheet) -> list[Sheet]:
    """The sheet cut into panels that fit on a page: names in each, numbers dealt out evenly, in order."""
    names = [i for i, column in enumerate(sheet.columns) if column.kind != "number"]
    numbers = [i for i, column in enumerate(sheet.columns) if column.kind == "number"]
    widths = [_column_width(sheet, i) for i in numbers]
    room = max(WIDEST - sum(_column_width(sheet, i) for i in names), max(widths, default=1))
    most = -(-sum(widths) // room)
    share = sum(widths) / most if most > 1 else room
    panels: list[list[int]] = [[]]
    used = 0
    for i, width in zip(numbers, widths, strict=True):
        if panels[-1] and (used + width > room or (used + width / 2 > share and i != numbers[-1])):
            panels.append([])
            used = 0
        panels[-1].append(i)
        used += width
    return [_select(sheet, [*names, *panel]) for panel in panels]


def _select(sheet: Sheet, chosen: list[int]) -> Sheet:
    rows = tuple(tuple(row[i] for i in chosen) for row in sheet.rows)
    return Sheet(tuple(sheet.columns[i] for i in chosen), rows, sheet.rules)


def _panel(sheet: Sheet) -> Panel:
    """The sheet as it is set; a part or module that repeats is printed once."""
    columns = sheet.columns
    return Panel(
        alignment=[_ALIGNED.get(column.kind, "l") for column in columns],
        titles=[escape_latex(column.title) for column in columns],
        rows=[[_latex(cell, column) for cell, column in zip(row, columns, strict=True)] for row in sheet.rows],
        once=[i for i, column in enumerate(columns) if column.kind == "text" and column.title in ("Part", "Module")],
    )
