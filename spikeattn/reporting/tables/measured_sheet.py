"""The sheet of a measured sweep: what every point answers, fires and costs."""

from __future__ import annotations

import pandas as pd

from spikeattn.boundary.number_format import (
    MISSING,
    NO_INTERVAL,
    count_unit,
    counted_in,
    energy_unit,
    known,
    rate,
    significant,
    with_bound,
    with_limits,
)
from spikeattn.boundary.terms import MEAN_RATE, MEAN_RATE_IS, begun
from spikeattn.reporting.tables.analysis_sheets import accuracy_of
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet


def measured_sheet(table: pd.DataFrame) -> Sheet:
    """Accuracy and energy with their intervals, SOPs and mean firing rate by cost table and point."""
    unit, factor = energy_unit([*table["energy_mj"]])
    prefix, size = count_unit([*table["sops"]])
    over = str(table["over"].iloc[0])
    columns = (
        Column("Costs", "text"),
        Column({"threshold": "Thresholds x"}.get(over, begun(over)), "text" if over == "checkpoint" else "number"),
        Column("Accuracy", note="share of the labelled images answered right"),
        Column("Wilson interval"),
        Column(f"Energy ({unit})", note="per image"),
        Column("Interval", note="of the energy, over images"),
        Column(f"SOPs ({prefix})" if prefix else "SOPs", note="per image"),
        Column(begun(MEAN_RATE), note=MEAN_RATE_IS),
        Column("ANN / SNN", note="energy of the ANN, no zeros skipped, over this one's"),
    )
    rows, rules, last = [], set(), None
    for number, row in enumerate(table.to_dict("records")):
        if number and row["costs"] != last:
            rules.add(number)
        last = row["costs"]
        right, limits = accuracy_of(row)
        spent, interval = with_limits(row["energy_mj"] / factor, row["ci_low"] / factor, row["ci_high"] / factor)
        if row["interval"] == "upper bound":
            spent, interval = with_bound(row["energy_mj"] / factor, row["ci_high"] / factor)
        rows.append(
            (
                Cell(last, last),
                Cell(str(row["value"]), row["value"]),
                Cell(right, row["accuracy"]),
                Cell(limits or MISSING, row["accuracy_low"]),
                Cell(spent, row["energy_mj"]),
                Cell(interval or NO_INTERVAL, row["ci_low"]),
                Cell(counted_in(row["sops"], size), row["sops"]),
                Cell(rate(row["mean_rate"]), row["mean_rate"]),
                Cell(significant(row["ratio"], 3) if known(row["ratio"]) else MISSING, row["ratio"]),
            )
        )
    return Sheet(columns, tuple(rows), frozenset(rules))
