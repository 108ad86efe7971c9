"""The sheets of a comparison by training seeds: means over seeds with both kinds of interval, and every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import (
    MISSING,
    NO_INTERVAL,
    count_unit,
    energy_unit,
    known,
    significant,
    with_bound,
    with_limits,
)
from spikeattn.boundary.terms import MEAN_RATE
from spikeattn.energy.seed_result import QUANTITIES
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet

Row = Mapping[Any, Any]


def seeds_sheet(table: pd.DataFrame) -> Sheet:
    """`SeedComparison.table`: every quantity in a unit of its own, named beside it."""
    columns = (
        Column("Quantity", "text"),
        Column("Network", "text"),
        Column("Costs", "text"),
        Column("Seeds"),
        Column("Mean", note="over training seeds; of a ratio that of the means"),
        Column("SD", note="standard deviation between training seeds, with n - 1"),
        Column("Range", note="of the values of single seeds"),
        Column("Over seeds", note="Student's interval of the mean over training seeds; these images"),
        Column("Over images", note="interval of the mean over images; these networks"),
    )
    rows, rules, last = [], set(), None
    for number, row in enumerate(table.to_dict("records")):
        if number and row["quantity"] != last:
            rules.add(number)
        last = row["quantity"]
        title, factor = _unit(row, [*table.loc[table["quantity"] == last, "value"]])
        network = f"{row['against']} / this one" if last == "ratio" else row["network"]
        spread = {key: row[key] / factor for key in ("sd", "least", "most")}
        span = MISSING
        if known(spread["least"]):
            span = with_limits(row["value"] / factor, spread["least"], spread["most"])[1]
        rows.append(
            (
                Cell(title, last),
                Cell(str(network), network),
                Cell(str(row["costs"]) if known(row["costs"]) else MISSING, row["costs"]),
                Cell(str(row["n_seeds"]), row["n_seeds"]),
                Cell(significant(row["value"] / factor), row["value"]),
                Cell(significant(spread["sd"], 2) if known(spread["sd"]) else MISSING, row["sd"]),
                Cell(span, row["least"]),
                *(Cell(_limits(row, factor, over), row[f"{over}_low"]) for over in ("seeds", "images")),
            )
        )
    return Sheet(columns, tuple(rows), frozenset(rules))


def seed_runs_sheet(table: pd.DataFrame) -> Sheet:
    """`SeedComparison.runs`: a row per run, under the first cost table; every value with its interval over images."""
    costs = table["costs"].dropna().iloc[0]
    chosen = table[table["costs"].isna() | (table["costs"] == costs)]
    chosen = chosen.drop_duplicates(["run", "quantity"])  # of one cost table the first pricing of the ANN
    quantities = [name for name in QUANTITIES if (chosen["quantity"] == name).any()]
    columns, units = [Column("Run", "text")], {}
    for name in quantities:
        rows = chosen[chosen["quantity"] == name]
        title, units[name] = _unit({"quantity": name}, [*rows["value"]])
        against = rows["against"].dropna().unique()
        note = f"{against[0]} / this one, {costs}" if len(against) else costs if name == "energy" else ""
        columns += [Column(title.capitalize() if name == "ratio" else title, note=note), Column("Interval")]
    lines = []
    for run in dict.fromkeys(chosen["run"]):
        cells = [Cell(run, run)]
        of_run = {row["quantity"]: row for row in chosen[chosen["run"] == run].to_dict("records")}
        for name in quantities:
            if name not in of_run:
                cells += [Cell(MISSING), Cell(MISSING)]
                continue
            row = of_run[name]
            limits = {f"images_{key}": row[key] for key in ("low", "high", "interval")} | {"value": row["value"]}
            cells.append(Cell(significant(row["value"] / units[name]), row["value"]))
            cells.append(Cell(_limits(limits, units[name], "images"), row["low"]))
        lines.append(tuple(cells))
    return Sheet(tuple(columns), tuple(lines))


def _unit(row: Row, values: list[float]) -> tuple[str, float]:
    """A quantity with its unit, and what its values are divided by."""
    quantity = row["quantity"]
    if quantity == "energy":
        unit, factor = energy_unit(values)
        return f"energy ({unit})", factor
    if quantity == "SOPs":
        prefix, factor = count_unit(values)
        return f"SOPs ({prefix})" if prefix else "SOPs", factor
    return {"rate": (MEAN_RATE, 1.0), "accuracy": ("accuracy (%)", 0.01)}.get(quantity, (quantity, 1.0))


def _limits(row: Row, factor: float, over: str) -> str:
    method, value = row[f"{over}_interval"], row["value"] / factor
    low, high = (row[f"{over}_{end}"] / factor for end in ("low", "high"))
    if method == "none":
        return NO_INTERVAL
    if method in ("upper bound", "lower bound"):
        return with_bound(value, high)[1] if method == "upper bound" else with_bound(value, low, "≥")[1]
    return "same on all" if method == "constant" else with_limits(value, low, high)[1]
