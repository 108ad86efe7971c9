"""The sheet of energy models side by side: a row per model and side, each in its own unit, and no total.

What is inside each figure is a paragraph, not a cell: the record of the model has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import MISSING, energy_unit, known, prefix_of, significant, with_limits
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet


def value_and_interval(row: Mapping[Any, Any]) -> tuple[str, str]:
    """The value of a row with its unit, and its limits; an amount without a unit stands alone."""
    value, low, high = row["value"], row["ci_low"], row["ci_high"]
    if row["unit"] == "mJ":
        unit, factor = energy_unit([value])
    elif row["unit"] == "1":
        unit, factor = prefix_of(value)
    else:
        unit, factor = row["unit"], 1.0
    shown, limits = with_limits(value / factor, low / factor, high / factor)
    if row["interval"] == "upper bound":
        shown, limits = significant(value / factor, 3), f"≤ {significant(high / factor, 3)}"
    if row["interval"] == "constant":
        shown, limits = significant(value / factor, 3), "the same on every image"
    return f"{shown} {unit}".strip(), limits


def model_sheet(table: pd.DataFrame) -> Sheet:
    """Energy models side by side."""
    columns = (
        Column("Model", "text"),
        Column("Network", "text", "the spiking network, or the ANN beside it"),
        Column("Per image", note="in the unit of the model"),
        Column("Interval"),
        Column("× compute", note="over the arithmetic-only figure of the same network, image by image"),
        Column("Fidelity", "text", "analytic, calibrated on a chip, or measured"),
    )
    rows, rules, last = [], set(), None
    for number, row in enumerate(table.to_dict("records")):
        if number and row["model"] != last:
            rules.add(number)
        last = row["model"]
        value, limits = value_and_interval(row)
        over = row["over_compute"]
        texts = (Cell(str(row[key]), str(row[key])) for key in ("model", "side"))
        rows.append(
            (
                *texts,
                Cell(value, row["value"]),
                Cell(limits or MISSING, row["ci_high"]),
                Cell(significant(over, 3) if known(over) else MISSING, over),
                Cell(str(row["fidelity"]), str(row["fidelity"])),
            )
        )
    return Sheet(columns, tuple(rows), frozenset(rules))
