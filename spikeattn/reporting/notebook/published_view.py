"""Published figures beside ours: the papers, every figure, and how far they are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from spikeattn.boundary.number_format import MISSING, significant
from spikeattn.energy.published_list import PublishedRows, apart_of, paper_of, relative
from spikeattn.reporting.figures.drawing import NARROW, WIDTH, figure_style, finish
from spikeattn.reporting.figures.published_residuals import draw_residuals
from spikeattn.reporting.notebook.fragment import drawing, fragment
from spikeattn.reporting.notebook.into_axes import axes_of
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE = "Relative residual of every computed figure, paper by paper; the numbers are in the table below."


def html(rows: PublishedRows) -> str:
    """What agrees, paper by paper, the picture of it, and every row to unfold."""
    papers = rows.by_paper() if rows else None
    both = [apart for row in rows if (apart := apart_of(row)) is not None]
    same = sum(bool(row.same_digits) for row in rows)
    return fragment(
        "published.html.j2",
        facts=[
            ("Figures", str(len(rows))),
            ("Papers", "0" if papers is None else str(len(papers))),
            ("Computed and printed", str(len(both))),
            ("To the printed digits", str(same)),
        ],
        papers=None if papers is None else _papers(papers),
        curve=drawing(_figure(rows), FIGURE) if both else None,
        sheet=_rows(rows),
    )


def plot(rows: PublishedRows, ax: Any) -> Axes:
    """See `PublishedRows.plot`."""
    axes = axes_of(ax, (NARROW, _height(rows)))
    draw_residuals(axes, rows)
    return axes


def _height(rows: PublishedRows) -> float:
    """Inches: a row per paper, axis and legend."""
    return 1.0 + 0.3 * len({paper_of(row) for row in rows if apart_of(row) is not None})


def _figure(rows: PublishedRows) -> Figure:
    with figure_style():
        figure = Figure(figsize=(WIDTH, _height(rows)), layout="constrained")
        draw_residuals(figure.subplots(), rows)
        return finish(figure)


def _papers(table: Any) -> Sheet:
    columns = (
        Column("Paper", "text"), Column("Printed"), Column("Ours"), Column("Same digits"), Column("Within 1 %"),
        Column("Farthest", note="computed less printed, in parts of the printed figure"),
    )  # fmt: skip
    rows = [
        tuple(Cell(str(row[key])) for key in ("paper", "printed", "ours", "same_digits", "close"))
        + (Cell(relative(row["farthest"])),)
        for row in table.to_dict("records")
    ]
    return Sheet(columns, tuple(rows))


def _rows(rows: PublishedRows) -> Sheet:
    columns = (
        Column("Model", "text"), Column("Quantity", "text"), Column("Convention", "text"), Column("Computed"),
        Column("Printed"), Column("Apart"), Column("Evidence", "text"), Column("Source", "prose"),
        Column("Note", "prose"),
    )  # fmt: skip
    cells = []
    for row in rows:
        apart = apart_of(row)
        computed = MISSING if row.computed is None else significant(row.computed, 6)
        texts = [row.model, row.quantity, row.convention or MISSING, computed, row.as_printed or MISSING]
        texts += [MISSING if apart is None else relative(apart), row.evidence or MISSING, row.source, row.note]
        cells.append(tuple(map(Cell, texts)))
    papers = [paper_of(row) for row in rows]
    return Sheet(columns, tuple(cells), frozenset(i for i in range(1, len(papers)) if papers[i] != papers[i - 1]))
