"""LaTeX and Markdown of the tables: booktabs and longtable alone, every name escaped."""

from __future__ import annotations

import re
import unicodedata

import pandas as pd

from spikeattn.reporting.tables.number_format import MISSING
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet
from spikeattn.reporting.tables.sheets import sheet_of

LONGEST = 45  # rows of a table that fits on a page; a longer one becomes a longtable
_ALIGNED = {"number": "r", "prose": r"p{0.5\linewidth}"}
WIDEST = 126  # characters of a row at \scriptsize on a page 16 cm wide; a wider one is cut into panels

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "[": "{[}",
    "]": "{]}",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "∞": r"$\infty$",
    "π": r"$\pi$",
    "₀": r"$_0$",
    "–": "--",
    "−": "$-$",
}


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
    panels = _panels(sheet)
    body = [_longtable(panel, text if i == 0 else "", label if i == 0 else None) for i, panel in enumerate(panels)]
    if len(sheet.rows) * len(panels) <= LONGEST:
        size = r"\small" if max(map(_width, panels)) <= WIDEST * 3 // 5 else r"\scriptsize"
        inner = "\n\n\\medskip\n".join(_tabular(panel) for panel in panels)
        body = [f"\\begin{{table}}[tbp]\n\\centering{size}\\setlength{{\\tabcolsep}}{{3pt}}\n"]
        body[0] += f"{_caption(text, label)}\n\n\\smallskip\n{inner}\n\\end{{table}}\n"
    return "\n".join(body)


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


def escape_latex(text: str) -> str:
    """Plain text for LaTeX; characters that pdfTeX's fonts lack are reduced to their base letter or named by number."""
    out = []
    for char in unicodedata.normalize("NFC", text):
        if char in _LATEX:
            out.append(_LATEX[char])
        elif char.isspace() or ord(char) < 32:
            out.append(" ")
        elif ord(char) < 0x17F:
            out.append(char)
        else:
            plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
            out.append(escape_latex(plain) if plain else f"{{[}}U+{ord(char):04X}{{]}}")
    return "".join(out)


def paper_latex(role: str) -> str:
    """A tensor's name in the paper as it is printed there: V_S with its subscript, Vhat_S with its hat."""
    text = re.sub(r"\b([VQK])\\_S", r"$\1_S$", escape_latex(role))
    text = re.sub(r"\bVhat\\_S", r"$\\hat{V}_S$", text)
    return text.replace("$*$", r" \odot ")


def paper_html(escaped: str) -> str:
    """A tensor's name in the paper with its subscript and hat, from text that is escaped for HTML."""
    text = re.sub(r"\bVhat_S", "V\u0302<sub>S</sub>", escaped)
    return re.sub(r"\b([VQK])_S", r"\1<sub>S</sub>", text).replace("*", " ⊙ ")


def _latex(cell: Cell, column: Column) -> str:
    if column.kind == "paper":
        return paper_latex(cell.text)
    return rf"\texttt{{{escape_latex(cell.text)}}}" if column.kind == "code" and cell.text != MISSING else escape_latex(
        cell.text
    )  # fmt: skip


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


def _lines(sheet: Sheet) -> list[str]:
    """Rows in LaTeX; a part that repeats in the next row is printed once."""
    lines, last = [], [None] * len(sheet.columns)
    for number, row in enumerate(sheet.rows):
        if number in sheet.rules:
            lines.append(r"\midrule")
            last = [None] * len(sheet.columns)
        texts = []
        for i, (cell, column) in enumerate(zip(row, sheet.columns, strict=True)):
            repeated = column.kind == "text" and cell.text == last[i] and column.title in ("Part", "Module")
            texts.append("" if repeated else _latex(cell, column))
            last[i] = cell.text
        lines.append(" & ".join(texts) + r" \\")
    return lines


def _titles(sheet: Sheet) -> str:
    return " & ".join(escape_latex(column.title) for column in sheet.columns) + r" \\"


def _alignment(sheet: Sheet) -> str:
    return "@{}" + "".join(_ALIGNED.get(column.kind, "l") for column in sheet.columns) + "@{}"


def _caption(text: str, label: str | None) -> str:
    caption = rf"\caption{{{escape_latex(text)}}}" if text else ""
    return caption + (rf"\label{{{label}}}" if label else "")


def _tabular(sheet: Sheet) -> str:
    lines = [rf"\begin{{tabular}}{{{_alignment(sheet)}}}", r"\toprule", _titles(sheet), r"\midrule"]
    return "\n".join([*lines, *_lines(sheet), r"\bottomrule", r"\end{tabular}"])


def _longtable(sheet: Sheet, text: str, label: str | None) -> str:
    caption = _caption(text, label)
    lines = [r"\begingroup\scriptsize\setlength{\tabcolsep}{3pt}\setlength{\LTcapwidth}{\linewidth}"]
    lines += [rf"\begin{{longtable}}{{{_alignment(sheet)}}}"]
    lines += [caption + r" \\"] if caption else []
    lines += [r"\toprule", _titles(sheet), r"\midrule", r"\endfirsthead"]
    lines += [r"\toprule", _titles(sheet), r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
    return "\n".join([*lines, *_lines(sheet), r"\end{longtable}", r"\endgroup", ""])
