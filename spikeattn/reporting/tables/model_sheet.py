"""The sheet of energy models side by side: a row per model and side, all energies in one unit, and no total.

What is inside each figure is a paragraph, not a cell: the record of the model has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import (
    MISSING,
    count_unit,
    energy_unit,
    known,
    significant,
    with_bound,
    with_limits,
)
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet

Units = dict[str, tuple[str, float]]


def units_of(table: pd.DataFrame) -> Units:
    """The unit in which all values of one kind are printed, and its factor, by the unit that the table gives them.

    Energies share one unit and amounts without a unit one prefix, by the largest of them.
    """
    found: Units = {}
    for name, values in table.groupby("unit", sort=False)["value"]:
        shared = {"mJ": energy_unit, "1": count_unit}.get(str(name))
        found[str(name)] = (str(name), 1.0) if shared is None else shared(values)
    return found


def value_and_interval(row: Mapping[Any, Any], units: Units) -> tuple[str, str, str]:
    """The value of a row, its unit and its limits, digits the same in value and limits."""
    unit, factor = units[row["unit"]]
    value, low, high = (row[key] / factor for key in ("value", "ci_low", "ci_high"))
    if row["interval"] == "upper bound":
        return (pair := with_bound(value, high))[0], unit, pair[1]
    if row["interval"] == "constant":
        return significant(value, 3), unit, "the same on every image"
    shown, limits = with_limits(value, low, high)
    return shown, unit, limits


def model_sheet(table: pd.DataFrame) -> Sheet:
    """Energy models side by side."""
    columns = (
        Column("Model", "text"),
        Column("Network", "text", "the spiking network, or the ANN beside it"),
        Column("Per image", note="in the unit behind it: that of the model, and one for all energies"),
        Column("Interval"),
        Column("Unit", "text"),
        Column("× compute", note="over the arithmetic-only figure of the same network, image by image"),
        Column("Fidelity", "text", "analytic, calibrated on a chip, or measured"),
    )
    rows, rules, last, units = [], set(), None, units_of(table)
    for number, row in enumerate(table.to_dict("records")):
        if number and row["model"] != last:
            rules.add(number)
        last = row["model"]
        value, unit, limits = value_and_interval(row, units)
        over = row["over_compute"]
        texts = (Cell(str(row[key]), str(row[key])) for key in ("model", "side"))
        rows.append(
            (
                *texts,
                Cell(value, row["value"]),
                Cell(limits or MISSING, row["ci_high"]),
                Cell(unit or MISSING, unit),
                Cell(significant(over, 3) if known(over) else MISSING, over),
                Cell(str(row["fidelity"]), str(row["fidelity"])),
            )
        )
    return Sheet(columns, tuple(rows), frozenset(rules))
