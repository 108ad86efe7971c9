"""One printed figure beside ours, and the printed figures that come with the package."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from spikeattn.energy.rate_tables import packaged_table


@dataclass(frozen=True)
class Row:
    """One printed figure and ours.

    Attributes:
        quantity: what is compared, with its unit.
        convention: how ours was computed; "" where it could not be.
        computed, printed: None where there is none.
        as_printed: the printed figure with its digits.
        residual: computed - printed.
        same_digits: whether ours, rounded to the printed digits, is the printed figure.
        evidence: how sure the convention is, one of `conventions.EVIDENCE`.
        source: where the printed figure stands.
        note: what went in, or why there is no figure of ours.
    """

    model: str
    quantity: str
    convention: str
    computed: float | None
    printed: float | None
    as_printed: str
    residual: float | None
    same_digits: bool | None
    evidence: str
    source: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON types."""
        return asdict(self)


def make_row(model: str, quantity: str, convention: str, computed: float | None, printed: str, evidence: str,
         source: str, note: str = "") -> Row:  # fmt: skip
    """A row; `printed` keeps the digits of the paper, "" where nothing is printed."""
    value = float(printed) if printed else None
    residual = computed - value if computed is not None and value is not None else None
    same = None
    if residual is not None:
        unit = Decimal(1).scaleb(int(Decimal(printed).as_tuple().exponent))  # of the last digit
        same = abs(residual) <= float(unit) / 2 + 1e-12  # what rounding leaves of a difference
    return Row(model, quantity, convention, computed, value, printed, residual, same, evidence, source, note)


def published(paper: str, model: str, time_steps: str = "4") -> dict[str, str]:
    """One row of the energies that papers print."""
    energies = packaged_table("published_energies")
    rows = energies[(energies.paper == paper) & (energies.model == model) & (energies["T"] == time_steps)]
    return {str(key): str(value) for key, value in rows.iloc[0].items()}


def detail(paper: str, model: str, quantity: str) -> tuple[str, str]:
    """A printed number beside the energies, with its source."""
    details = packaged_table("published_details")
    row = details[(details.paper == paper) & (details.model == model) & (details.quantity == quantity)].iloc[0]
    return row["value"], f"{paper} (arXiv {row['arxiv']}), {row['source']}"


def where_printed(printed: dict[str, str]) -> str:
    """Where a row of the published energies stands."""
    number = f" (arXiv {printed['arxiv']})" if printed["arxiv"] else ""
    return f"{printed['paper']}{number}, {printed['source']}"


def rows_of(*papers: str) -> list[dict[str, str]]:
    """The published energies of these papers, row by row."""
    energies = packaged_table("published_energies")
    rows = energies[energies.paper.isin(papers)].to_dict("records")
    return [{str(key): str(value) for key, value in row.items()} for row in rows]


def title_of(printed: dict[str, str]) -> str:
    """What a row of the published energies is of: paper, model and time steps."""
    return f"{printed['paper']} {printed['model']}" + (f" (T={printed['T']})" if printed["T"] else "")
