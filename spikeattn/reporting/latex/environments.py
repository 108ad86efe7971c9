r"""The LaTeX of every table: characters escaped, rows, tabular and longtable with booktabs rules.

Whoever has a table gives its cells, set already, as `Panel`s.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

BREAK = r"\allowbreak{}"
LONGEST = 45  # rows of a table that fits on a page; a longer one becomes a longtable
HEAD = r"""% Compiles alone; in a paper: \usepackage{booktabs,longtable,siunitx}, then \input this file.
\makeatletter
\ifx\@nodocument\relax\let\spikeattnend\relax\else
\documentclass{article}\usepackage[T1]{fontenc}\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[margin=2.4cm]{geometry}\usepackage{booktabs,longtable,siunitx}
\begin{document}\def\spikeattnend{\end{document}}\fi
\makeatother
"""
_ESCAPED = {
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
_T1_END = 0x17F  # the letters below are in the fonts of T1, which the documents load


@dataclass(frozen=True)
class Panel:
    """Columns that stand beside each other, in LaTeX.

    Attributes:
        alignment: of every column, as tabular takes it.
        once: columns whose cells are left out where they repeat the one above.
    """

    alignment: Sequence[str]
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    once: Collection[int] = ()


def table(
    panels: Sequence[Panel], rules: Collection[int], caption: str, size: str, gap: str = "3pt", notes: str = ""
) -> str:
    r"""A table, or a longtable where it has many rows.

    Args:
        panels: more than one where the columns do not fit beside each other.
        rules: row numbers before which a rule is drawn.
        caption: of `caption`.
        size: of the letters; a longtable is set in "scriptsize".
        gap: half of the space between columns.
        notes: LaTeX, set below.
    """
    if len(panels[0].rows) * len(panels) > LONGEST:
        pages = [_longtable(panel, rules, caption if i == 0 else "") for i, panel in enumerate(panels)]
        return "\n".join([*pages, *([rf"\noindent{{\scriptsize {notes}}}", ""] if notes else [])])
    body = "\n\n\\medskip\n".join(_tabular(panel, rules) for panel in panels)
    below = f"\n\n\\smallskip\n{{\\scriptsize {notes}}}" if notes else ""
    opening = f"\\begin{{table}}[tbp]\n\\centering\\{size}\\setlength{{\\tabcolsep}}{{{gap}}}"
    return f"{opening}\n{caption}\n\n\\smallskip\n{body}{below}\n\\end{{table}}\n"


def document(tables: Iterable[str]) -> str:
    r"""Tables as one file that compiles alone and can be \input into a paper."""
    return HEAD + "\n" + "\n".join(tables) + "\\spikeattnend\n"


def caption(text: str | None, label: str | None) -> str:
    r"""The caption, of plain text, and the key for \ref; nothing of either where there is none."""
    said = "" if text is None else rf"\caption{{{escape_latex(text)}}}"
    return said + (rf"\label{{{label}}}" if label else "")


def escape_latex(text: str) -> str:
    """Plain text for LaTeX; characters that pdfTeX's fonts lack are reduced to their base letter or named by number."""
    out = []
    for char in unicodedata.normalize("NFC", text):
        if char in _ESCAPED:
            out.append(_ESCAPED[char])
        elif char.isspace() or ord(char) < 32:
            out.append(" ")
        elif ord(char) < _T1_END:
            out.append(char)
        else:
            plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
            out.append(escape_latex(plain) if plain else f"{{[}}U+{ord(char):04X}{{]}}")
    return "".join(out)


def typewriter(text: str, longest: int | None = None) -> str:
    """Plain text in typewriter letters, which are never hyphenated; without `longest` no word of it breaks."""
    return rf"\texttt{{{escape_latex(text) if longest is None else breakable(text, longest)}}}"


def breakable(text: str, longest: int) -> str:
    """Plain text, escaped; a word of more letters than `longest` may break behind all that is no letter or digit."""
    if max(map(len, text.split()), default=0) <= longest:
        return escape_latex(text)
    return BREAK.join(escape_latex(piece) for piece in re.findall(r"[^\W_]*[\W_]|[^\W_]+", text))


def _lines(panel: Panel, rules: Collection[int]) -> list[str]:
    lines: list[str] = []
    above: Sequence[str | None] = [None] * len(panel.titles)
    for number, row in enumerate(panel.rows):
        if number in rules:
            lines.append(r"\midrule")
            above = [None] * len(panel.titles)
        shown = ["" if i in panel.once and cell == above[i] else cell for i, cell in enumerate(row)]
        lines.append(" & ".join(shown) + r" \\")
        above = row
    return lines


def _frame(panel: Panel) -> tuple[str, str]:
    return f"@{{}}{''.join(panel.alignment)}@{{}}", " & ".join(panel.titles) + r" \\"


def _tabular(panel: Panel, rules: Collection[int]) -> str:
    alignment, titles = _frame(panel)
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", titles, r"\midrule", *_lines(panel, rules)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _longtable(panel: Panel, rules: Collection[int], caption: str) -> str:
    alignment, titles = _frame(panel)
    lines = [r"\begingroup\scriptsize\setlength{\tabcolsep}{3pt}\setlength{\LTcapwidth}{\linewidth}"]
    lines += [rf"\begin{{longtable}}{{{alignment}}}", *([caption + r" \\"] if caption else [])]
    lines += [r"\toprule", titles, r"\midrule", r"\endfirsthead", r"\toprule", titles, r"\midrule", r"\endhead"]
    lines += [r"\bottomrule", r"\endfoot", *_lines(panel, rules)]
    return "\n".join([*lines, r"\end{longtable}", r"\endgroup", ""])
