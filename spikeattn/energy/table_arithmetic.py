"""Where a table's own arithmetic differs from the formula that it states, line by line.

Every figure that follows from others of the table is computed again: dense operations from the sizes, operations from
rate x dense, energies from operations x the stated prices, running sums and totals from the rows. A line is listed
where the difference exceeds what the printed digits leave open. Nothing here says which of the two is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import pandas as pd

from spikeattn.energy.layer_tables import LayerRow, LayerTable, Printed

CHECKS = {
    "rate": "the rate beside the measured rate that the row's own text holds",
    "dense": "dense operations beside k^2 x C_in x C_out x H_out x W_out / groups",
    "acs": "additions beside rate x dense operations, 0 for a layer that multiplies",
    "macs": "multiply-accumulates beside the dense operations, 0 for a layer that adds",
    "energy": "energy beside operations x the stated price",
    "ann_energy": "energy of the ANN beside dense operations x the stated price of a MAC",
    "sum": "running sums beside the sum of the rows above",
    "total": "totals beside the sum of the rows",
    "network": "dense operations beside those of the network's own layer",
    "average": "the average beside the mean over the time steps",
}


@dataclass(frozen=True)
class Difference:
    """One figure of a table that its own formula gives otherwise.

    Attributes:
        check: one of `CHECKS`.
        stated, formula: in operations, pJ, or as a share.
        difference: stated - formula; `relative` to the formula, NaN where that is 0.
        note: what the difference amounts to, such as the price per operation that it implies.
    """

    line: int
    layer: str
    check: str
    stated: float
    formula: float
    difference: float
    relative: float
    note: str = ""


@dataclass(frozen=True)
class Arithmetic:
    """All checks of a table: how many figures each compared, and those that differ."""

    compared: dict[str, int]
    differences: tuple[Difference, ...]

    def frame(self) -> pd.DataFrame:
        """One row per difference; the columns are the fields of `Difference`."""
        columns = list(Difference.__dataclass_fields__)
        return pd.DataFrame([asdict(each) for each in self.differences], columns=columns)


def check_arithmetic(table: LayerTable) -> Arithmetic:
    """Every figure of a layer table that follows from others of it, computed again."""
    book = _Book()
    for row in table.layers:
        _check_layer(book, table, row)
    for column in ("dense", "energy", "ann_energy"):
        _check_sums(book, table, column)
    return Arithmetic(book.compared, tuple(sorted(book.differences, key=lambda each: each.line)))


def energy_by_formula(table: LayerTable, row: LayerRow) -> Printed:
    """pJ of a row by the table's own formula and prices, with what the digits of its rate leave open."""
    layout = table.layout
    steps = 1 if layout.dense_over == "all steps" else layout.time_steps or 1
    if row.kind == "mac":
        stated = row.get("macs")
        return Printed((row.dense if stated is None else stated.value) * steps * layout.mac_pj, 0.0)
    rate = row.rate or Printed(0.0, 0.0)
    return rate.times(row.dense * steps * layout.ac_pj)


class _Book:
    def __init__(self) -> None:
        self.compared: dict[str, int] = {}
        self.differences: list[Difference] = []

    def compare(
        self, row: LayerRow, check: str, stated: Printed | None, formula: float, half: float = 0.0,
        note: Callable[[float], str] | None = None,
    ) -> None:  # fmt: skip
        """Note a figure whose difference is more than `half` of the formula's and the printed last digits."""
        if stated is None:
            return
        self.compared[check] = self.compared.get(check, 0) + 1
        difference = stated.value - formula
        # 1e-12: what float arithmetic leaves of sums over hundreds of rows
        if abs(difference) > half + stated.half + 1e-12 * max(abs(stated.value), abs(formula)):
            relative = difference / formula if formula else float("nan")
            text = note(stated.value) if note is not None else ""
            self.differences.append(
                Difference(row.line, row.name, check, stated.value, formula, difference, relative, text)
            )


def _check_layer(book: _Book, table: LayerTable, row: LayerRow) -> None:
    layout, rate = table.layout, row.rate or Printed(0.0, 0.0)
    if (measured := row.get("measured_rate")) is not None and row.rate is not None:
        book.compare(row, "rate", measured, rate.value, rate.half)
    own = row.macs_by_size
    if own is not None:
        book.compare(row, "dense", row.get("dense"), own)
    spikes = row.kind == "ac"
    additions = rate.times(row.dense) if spikes else Printed(0.0, 0.0)

    def implied_rate(stated: float) -> str:
        return f"{stated / row.dense:.9g} per dense operation where the row's rate is {rate.value:.9g}"

    book.compare(row, "acs", row.get("acs"), additions.value, additions.half, implied_rate)
    book.compare(row, "macs", row.get("macs"), 0.0 if spikes else row.dense)
    formula = energy_by_formula(table, row)
    book.compare(row, "energy", row.get("energy"), formula.value, formula.half, lambda e: _implied(table, row, e))
    steps = layout.time_steps or 1
    dense = row.dense / (steps if layout.dense_over == "all steps" else 1)
    book.compare(row, "ann_energy", row.get("ann_energy"), dense * layout.mac_pj)


def _implied(table: LayerTable, row: LayerRow, stated: float) -> str:
    """The price per operation that an energy implies, and how it may have come about."""
    layout, rate = table.layout, 0.0 if row.rate is None else row.rate.value
    own = energy_by_formula(table, row).value
    price, name = (layout.mac_pj, "MAC") if row.kind == "mac" else (layout.ac_pj, "AC")
    if not own:
        return f"its formula gives 0 {name}s"
    text = f"{stated / own * price:.6g} pJ per {name} where {price:g} pJ is stated"
    if row.kind == "mac" and rate and abs(stated / own * price - layout.ac_pj * rate) <= 1e-9 * price:
        text += f": {layout.ac_pj:g} pJ per AC x {rate:g}, which stands in the column of the rate"
    return text


def _check_sums(book: _Book, table: LayerTable, column: str) -> None:
    """Running sums, and the totals of the last rows."""
    running, half, summed = 0.0, 0.0, 0
    for row in table.layers:
        number = row.get(column)
        if number is None:
            continue
        running, half, summed = running + number.value, half + number.half, summed + 1
        book.compare(row, "sum", row.get(f"{column}_sum"), running, half)
    for row in table.totals:
        if summed:
            book.compare(row, "total", row.get(column), running, half)


def rows_of_sums(table: LayerTable) -> Iterator[tuple[str, float, float]]:
    """Sum of the stated energies and of those by the formula, in pJ, with what they are of."""
    rows = [row for row in table.layers if row.get("energy") is not None]
    if rows:
        stated = sum(row.numbers["energy"].value for row in rows)
        yield "energy", stated, sum(energy_by_formula(table, row).value for row in rows)
