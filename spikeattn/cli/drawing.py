"""Lines and tables on a terminal: as wide as it is, never broken inside a word, in colour where it has some."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from io import StringIO

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from spikeattn.boundary.visible_text import visible
from spikeattn.cli.printed_table import GAP, Page, PrintedTable, parts_of

COMFORT = 24  # letters: a column of words is as wide as that before others are left out; two or three words
STYLES = {
    "wins": "green",
    "ok": "green",
    "passed": "green",
    "loses": "red",
    "failed": "red",
    "undecided": "yellow",
    "not done": "yellow",
}
_LOUD = {"error": "bold red", "warning": "yellow", "UNTRAINED": "bold red", "PARTIAL": "bold yellow"}
_LABEL = re.compile(r"^ *(?P<label>[A-Za-z]\S*(?: \S+){0,3}) {2,}(?=\S)")
_COMMAND = re.compile(r"^\s*(spikeattn|torchrun|python -m spikeattn) ")  # to be copied: the terminal itself breaks it
_WORDS = re.compile("[^\\W\\d]{3}")
_LABEL_ROOM = 26  # a longer beginning of a line is no label, and text is not indented as far


def drawn(page: Page, width: int, colour: bool) -> str:
    """A page as a terminal of so many columns shows it; with escapes for colours, where wanted."""
    console = Console(
        file=StringIO(), width=width, force_terminal=colour, color_system="standard" if colour else None,
        highlight=False, legacy_windows=False, markup=False, emoji=False,
    )  # fmt: skip
    for part in parts_of(page):
        for drawing in _of_table(part, width) if isinstance(part, PrintedTable) else _of_text(visible(part), width):
            console.print(drawing, soft_wrap=isinstance(drawing, Text))
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().removesuffix("\n").split("\n"))


def _of_text(text: str, width: int) -> Iterator[Text]:
    for line in text.split("\n"):
        found = _LABEL.match(line)
        found = found if found and found.end() <= _LABEL_ROOM else None
        indent = found.end() if found else len(line) - len(line.lstrip()) + 2 * line.startswith(" ")
        broken = [line]
        if cell_len(line) > width and not _COMMAND.match(line):
            broken = textwrap.wrap(
                line, width, subsequent_indent=" " * min(indent, width // 2), break_long_words=False,
                break_on_hyphens=False, drop_whitespace=True,
            )  # fmt: skip
        shown = Text("\n".join(broken))
        if found:
            shown.stylize(_LOUD.get(found["label"], "bold"), *found.span("label"))
        for word, style in _LOUD.items():
            for place in re.finditer(rf"^{word}\b:?", line):
                shown.stylize(style, *place.span())
        yield shown


def _of_table(table: PrintedTable, width: int) -> Iterator[RenderableType]:
    kept, widths = fitted(table, width)
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=True, header_style="bold")
    for place, size in zip(kept, widths, strict=True):
        grid.add_column(
            Text(table.rows[0][place]), justify="right" if table.right[place] else "left", width=size, vertical="top"
        )
    for row in table.rows[1:]:
        cells = [row[place] for place in kept]
        style = "bold" if cells[0] in ("total", "mean") else ""
        grid.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells), style=style)
    yield grid
    gone = [title for place, title in enumerate(table.rows[0]) if place not in kept]
    if gone:
        told = f"({width} columns have no room for {', '.join(gone)}: a wider terminal or a pipe shows all)"
        yield Text("\n".join(textwrap.wrap(told, width, break_long_words=False, break_on_hyphens=False)), style="dim")


def fitted(table: PrintedTable, width: int) -> tuple[list[int], list[int]]:
    """Which columns a table keeps in so many, and how wide each is.

    Columns of words are wrapped between words, down to `COMFORT`; then the spare ones go, then the last ones.
    """
    kept = list(range(len(table.right)))
    spare = [tuple(group) for group in table.spare]
    while True:
        least = [_least(table, place, COMFORT) for place in kept]
        tight = [_least(table, place, 0) for place in kept]
        for sizes in (least, tight) if not spare else (least,):
            if sum(sizes) + GAP * (len(kept) - 1) <= width:
                return kept, _filled(table, kept, sizes, width)
        if len(kept) == 1:
            return kept, tight
        if spare:
            group = spare.pop(0)
            kept = [place for place in kept if not table.rows[0][place].startswith(group)] or kept
        else:
            kept = kept[:-1]


def _least(table: PrintedTable, place: int, comfort: int) -> int:
    """The width below which a column would be broken inside a word, or a number at all."""
    title, *cells = (row[place] for row in table.rows)
    words = max((cell_len(word) for cell in (title, *cells) for word in cell.split()), default=1)
    whole = max((cell_len(cell) for cell in cells), default=0)
    if table.right[place] and not any(_WORDS.search(cell) for cell in cells):
        return max(words, whole, 1)
    return max(words, min(whole, comfort), 1)


def _filled(table: PrintedTable, kept: Sequence[int], sizes: Sequence[int], width: int) -> list[int]:
    """The room that is left goes to the columns whose text is the most cut, until none is."""
    sizes = list(sizes)
    wanted = [max(cell_len(row[place]) for row in table.rows) for place in kept]
    for _ in range(width - sum(sizes) - GAP * (len(kept) - 1)):
        most = max(range(len(kept)), key=lambda i: wanted[i] - sizes[i])
        if wanted[most] <= sizes[most]:
            break
        sizes[most] += 1
    return sizes
