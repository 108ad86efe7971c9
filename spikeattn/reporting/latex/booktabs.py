r"""Tables in LaTeX with booktabs rules and siunitx columns, numbers aligned at their decimal points."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spikeattn.reporting.latex.typeset import escape_latex

LONGEST = 45  # rows of a table that fits on a page; a longer one becomes a longtable
LONGEST_NAME = 34  # characters of a code name that stands on one line
_NUMBER = re.compile(r"-?(\d+)(?:\.(\d+))?")
_POWER = re.compile(r"-?\d+(\.\d+)?e-?\d+")
HEAD = r"""% Compiles alone; in a paper: \usepackage{booktabs,longtable,siunitx}, then \input this file.
\makeatletter
\ifx\@nodocument\relax\let\spikeattnend\relax\else
\documentclass{article}\usepackage[T1]{fontenc}\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[margin=2.4cm]{geometry}\usepackage{booktabs,longtable,siunitx}
\begin{document}\def\spikeattnend{\end{document}}\fi
\makeatother
"""


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
        return escape_latex(text) if self.kind in ("number", "interval") else text


def code(name: str) -> str:
    """A dotted path in typewriter letters; a long one may break behind its dots and underscores."""
    text = escape_latex(name)
    if len(name) > LONGEST_NAME:
        text = re.sub(r"(\.|\\_)", r"\1\\allowbreak{}", text)
    return rf"\texttt{{{text}}}"


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
    rules = frozenset(rules)
    said = rf"\caption{{{escape_latex(caption)}}}\label{{{label}}}"
    rows = len(panels[0][0].cells)
    if rows * len(panels) > LONGEST:
        pages = [_longtable(panel, rules, said if i == 0 else "") for i, panel in enumerate(panels)]
        return "\n".join([*pages, *([rf"\noindent{{\scriptsize {notes}}}", ""] if notes else [])])
    body = "\n\n\\medskip\n".join(_tabular(panel, rules) for panel in panels)
    below = f"\n\n\\smallskip\n{{\\scriptsize {notes}}}" if notes else ""
    gap = "3pt" if size == "scriptsize" else "4pt"
    opening = f"\\begin{{table}}[tbp]\n\\centering\\{size}\\setlength{{\\tabcolsep}}{{{gap}}}"
    return f"{opening}\n{said}\n\n\\smallskip\n{body}{below}\n\\end{{table}}\n"


def document(tables: Iterable[str]) -> str:
    r"""Tables as one file that compiles alone and can be \input into a paper."""
    return HEAD + "\n" + "\n".join(tables) + "\\spikeattnend\n"


def _shown(cell: str) -> int:
    return len(cell.removeprefix(r"\texttt{").removesuffix("}").replace(r"\allowbreak{}", "").replace(r"\_", "_"))


def _frame(fields: Sequence[Field]) -> tuple[str, str]:
    alignment = "@{}" + "".join(field.alignment for field in fields) + "@{}"
    titles = " & ".join(f"{{{field.title}}}" if field.kind == "number" else field.title for field in fields)
    return alignment, titles + r" \\"


def _lines(fields: Sequence[Field], rules: frozenset[int]) -> list[str]:
    """Rows; a part or module that repeats is printed once."""
    lines: list[str] = []
    last: list[str | None] = [None] * len(fields)
    for row in range(len(fields[0].cells)):
        if row in rules:
            lines.append(r"\midrule")
            last = [None] * len(fields)
        cells = [field.cell(row) for field in fields]
        once = [
            "" if field.title in ("Part", "Module") and cell == before else cell
            for field, cell, before in zip(fields, cells, last, strict=True)
        ]
        lines.append(" & ".join(once) + r" \\")
        last = list(cells)
    return lines


def _tabular(fields: Sequence[Field], rules: frozenset[int]) -> str:
    alignment, titles = _frame(fields)
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", titles, r"\midrule", *_lines(fields, rules)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _longtable(fields: Sequence[Field], rules: frozenset[int], caption: str) -> str:
    alignment, titles = _frame(fields)
    lines = [r"\begingroup\scriptsize\setlength{\tabcolsep}{3pt}\setlength{\LTcapwidth}{\linewidth}"]
    lines += [rf"\begin{{longtable}}{{{alignment}}}", *([caption + r" \\"] if caption else [])]
    lines += [r"\toprule", titles, r"\midrule", r"\endfirsthead", r"\toprule", titles, r"\midrule", r"\endhead"]
    lines += [r"\bottomrule", r"\endfoot", *_lines(fields, rules)]
    return "\n".join([*lines, r"\end{longtable}", r"\endgroup", ""])
