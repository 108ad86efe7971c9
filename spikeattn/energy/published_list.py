"""Published figures beside ours as a list that says what is in it: paper by paper, how many agree and how far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from spikeattn.boundary import display
from spikeattn.boundary.number_format import MISSING
from spikeattn.energy.published_rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLOSE = 0.01  # of the printed figure: rounding of what a paper printed on the way rarely makes more


class PublishedRows(list[Row]):
    """What `reproduce` returns: a list of `Row`s, with a text of one screen, a table in notebooks, and a plot."""

    def frame(self) -> pd.DataFrame:
        """One row per printed figure, one column per field of `Row`."""
        return pd.DataFrame([row.to_dict() for row in self])

    def by_paper(self) -> pd.DataFrame:
        """A row per paper: printed (figures), ours, same_digits, close (within 1 %), farthest (relative residual)."""
        rows = []
        for paper in dict.fromkeys(map(paper_of, self)):
            of_paper = [row for row in self if paper_of(row) == paper]
            apart = [residual for row in of_paper if (residual := apart_of(row)) is not None]
            rows.append(
                {
                    "paper": paper,
                    "printed": sum(row.printed is not None for row in of_paper),
                    "ours": len(apart),
                    "same_digits": sum(bool(row.same_digits) for row in of_paper),
                    "close": sum(abs(residual) <= CLOSE for residual in apart),
                    "farthest": max(apart, key=abs, default=float("nan")),
                }
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        if not self:
            return "<0 published figures>"
        table = self.by_paper()
        lines = [
            f"<{len(self)} published figures of {len(table)} papers>",
            "A residual says how far two ways of counting lie apart, not which one is right.",
            f"{'paper':<18}{'printed':>8}{'ours':>6}{'same digits':>13}{'within 1 %':>12}{'farthest':>10}",
        ]
        for row in table.to_dict("records"):
            farthest = relative(row["farthest"])
            lines.append(
                f"{str(row['paper'])[:17]:<18}{row['printed']:>8}{row['ours']:>6}{row['same_digits']:>13}"
                f"{row['close']:>12}{farthest:>10}"
            )
        return "\n".join([*lines, "every row: .frame(); as a picture: .plot()"])

    def _repr_html_(self) -> str:
        """In a notebook: the papers, and every figure to unfold."""
        return display.view("published_view").html(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how far ours is from every printed figure, in parts of it, paper by paper.

        Args:
            ax: axes to draw into; without, those of a new figure of pyplot.
        """
        return display.view("published_view").plot(self, ax)


def paper_of(row: Row) -> str:
    """The paper that printed a figure."""
    return row.source.partition(" (")[0].partition(",")[0]


def apart_of(row: Row) -> float | None:
    """Ours less the printed figure, in parts of it; None where one of them is missing, or zero was printed."""
    return row.residual / abs(row.printed) if row.residual is not None and row.printed else None


def relative(apart: float) -> str:
    """A relative residual as text: "+0.3 %"; "0 %" where rounding leaves nothing."""
    if pd.isna(apart):
        return MISSING
    text = f"{apart * 100:+.2g} %"
    return "0 %" if abs(apart) < 5e-7 else text
