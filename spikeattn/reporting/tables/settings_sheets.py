"""What a report rests on as tables: the prices of its cost table and the switches of its convention."""

from __future__ import annotations

import pandas as pd

from spikeattn.energy.conventions import SWITCHES, Convention
from spikeattn.energy.costs import CostTable
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet


def price_table(costs: CostTable) -> pd.DataFrame:
    """Every price of a cost table with its status and source; columns operation, pj, status, source."""
    rows = [(name, cost.pj, cost.status, cost.source) for name, cost in costs.entries.items()]
    return pd.DataFrame(rows, columns=["operation", "pj", "status", "source"])


def switch_table(convention: Convention) -> pd.DataFrame:
    """Every switch of a convention with its value and what that means; columns setting, value, meaning."""
    rows = [(name, value, SWITCHES.get(name, {}).get(value, "")) for name, value in convention.switches().items()]
    return pd.DataFrame(rows, columns=["setting", "value", "meaning"])


def price_sheet(table: pd.DataFrame) -> Sheet:
    """Prices in pJ as the cost table has them."""
    columns = (Column("Operation", "text"), Column("pJ"), Column("Status", "text"), Column("Source", "prose"))
    return Sheet(columns, _rows(table, {"pj"}))


def switch_sheet(table: pd.DataFrame) -> Sheet:
    """Switches in the order of a waterfall."""
    return Sheet((Column("Switch", "text"), Column("Value", "text"), Column("Meaning", "prose")), _rows(table, set()))


def _rows(table: pd.DataFrame, numbers: set[str]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        tuple(Cell(f"{value:g}" if name in numbers else str(value), value) for name, value in row.items())
        for row in table.to_dict("records")
    )
