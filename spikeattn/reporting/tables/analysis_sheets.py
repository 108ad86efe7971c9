"""The sheets of what is computed from a run: the comparison, the waterfall, the sweep, the attended images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import (
    MISSING,
    NO_INTERVAL,
    energy_unit,
    known,
    percent,
    rate,
    significant,
    with_bound,
    with_limits,
)
from spikeattn.boundary.terms import WEIGHTED, WEIGHTED_RATE, WEIGHTED_RATE_IS
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet


def comparison_sheet(table: pd.DataFrame) -> Sheet:
    """Both energies of every part, in one unit, their ratio and the rate at which they would be the same."""
    unit, factor = comparison_unit(table)
    columns = (
        Column("Costs", "text"),
        Column("Beside", "text"),
        Column("Part", "text"),
        Column(WEIGHTED, note=f"{WEIGHTED_RATE}: {WEIGHTED_RATE_IS}"),
        Column(f"Spiking ({unit})", note="energy per image"),
        Column(f"Other ({unit})", note="energy per image"),
        Column("Ratio", note="other / spiking"),
        Column("Interval"),
        Column("Break-even rate", note="at which both cost the same; no train of binary spikes exceeds 1"),
        Column("Verdict", "text"),
    )
    rows, rules, last = [], set(), None
    for number, row in enumerate(table.to_dict("records")):
        if number and (row["costs"], row["against"]) != last:
            rules.add(number)
        last = row["costs"], row["against"]
        ratio, limits = ratio_of(row)
        even: Any = row.get("break_even")
        rows.append(
            (
                *(Cell(str(row[key]), str(row[key])) for key in ("costs", "against", "part")),
                Cell(rate(row["rate"]), row["rate"]),
                *(Cell(significant(row[key] / factor, 3), row[key]) for key in ("energy_mj", "against_mj")),
                Cell(ratio, row["ratio"]),
                Cell(limits or MISSING, row["ratio_low"]),
                Cell(significant(even, 3) if known(even) else MISSING, even),
                Cell(str(row["verdict"]) if known(row["verdict"]) else MISSING, row["verdict"]),
            )
        )
    return Sheet(columns, tuple(rows), frozenset(rules))


def comparison_unit(table: pd.DataFrame) -> tuple[str, float]:
    """The unit of both energies in a comparison, and how many mJ it is: the same in its table and its bars."""
    return energy_unit([*table["energy_mj"], *table["against_mj"]])


def ratio_of(row: dict) -> tuple[str, str]:
    """Ratio and interval of a row of a comparison, as text."""
    if not known(row["ratio"]):
        return MISSING, ""
    if row["interval"] == "lower bound":
        return with_bound(row["ratio"], row["ratio_low"], "≥")
    value, limits = with_limits(row["ratio"], row["ratio_low"], row["ratio_high"])
    return value, NO_INTERVAL if row["interval"] == "none" else limits


def waterfall_sheet(table: pd.DataFrame) -> Sheet:
    """The energy after every switch from one convention to another, and what the switch made of it."""
    unit, factor = energy_unit(table["energy_mj"])
    several = "convention" in table.columns
    columns = (
        *([Column("Convention", "text")] if several else []),
        Column("Switch", "text"),
        Column("From", "text"),
        Column("To", "text"),
        Column(f"Difference ({unit})"),
        Column(f"Energy ({unit})", note="total per image after the step"),
    )
    rows, rules = [], set()
    for number, row in enumerate(table.to_dict("records")):
        started = row["switch"] == "start"
        if number and started:
            rules.add(number)
        difference = Cell(MISSING) if started else Cell(signed(row["difference_mj"] / factor), row["difference_mj"])
        shown = ("convention", "switch", "from", "to") if several else ("switch", "from", "to")
        names = (Cell(str(row[key]), str(row[key])) for key in shown)
        rows.append((*names, difference, Cell(significant(row["energy_mj"] / factor), row["energy_mj"])))
    return Sheet(columns, tuple(rows), frozenset(rules))


def signed(value: float) -> str:
    """A difference with its sign; 0 without one."""
    return "0" if value == 0 else f"{'+' if value > 0 else '−'}{significant(abs(value), 3)}"


def sweep_sheet(table: pd.DataFrame) -> Sheet:
    """Energy, accuracy and break-even rate by cost table and number of time steps, all energies in one unit."""
    unit, factor = energy_unit([*table["snn_mj"], *table["ann_mj"]])
    scaled = bool((table["rate_scale"] != 1).any())
    columns = (
        Column("Costs", "text"),
        Column("Time steps"),
        *([Column("Rate scale")] if scaled else []),
        Column("Accuracy", note="share of the labelled images answered right after these steps"),
        Column("Wilson interval"),
        Column(WEIGHTED, note=f"{WEIGHTED_RATE}: {WEIGHTED_RATE_IS}"),
        Column(f"Spiking ({unit})", note="energy per image"),
        Column(f"ANN ({unit})", note="energy per image"),
        Column("ANN / SNN"),
        Column("Break-even rate"),
    )
    rows, rules, last = [], set(), None
    for number, row in enumerate(table.to_dict("records")):
        if number and row["costs"] != last:
            rules.add(number)
        last = row["costs"]
        numbers = [Cell(significant(row[key], 3), row[key]) for key in ("ratio", "break_even_rate")]
        energies = [Cell(significant(row[key] / factor, 3), row[key]) for key in ("snn_mj", "ann_mj")]
        scale = [Cell(f"{row['rate_scale']:g}", row["rate_scale"])] if scaled else []
        right, limits = accuracy_of(row)
        accuracy = Cell(right, row.get("accuracy")), Cell(limits or MISSING, row.get("accuracy_low"))
        weighted = Cell(rate(row["rate"]), row["rate"])
        rows.append((Cell(last, last), Cell(str(row["t"]), row["t"]), *scale, *accuracy, weighted, *energies, *numbers))
    return Sheet(columns, tuple(rows), frozenset(rules))


def accuracy_of(row: Mapping[Any, Any]) -> tuple[str, str]:
    """Accuracy and its Wilson interval in percent as text; "unknown" and "" without labels or answers."""
    share: Any = row.get("accuracy")
    if not known(share):
        return "unknown", ""
    return percent(share), f"[{row['accuracy_low'] * 100:.1f}, {row['accuracy_high'] * 100:.1f}] %"


def attended_sheet(table: pd.DataFrame) -> Sheet:
    """What of every image's attention is more than noise, and the energy spent on the rest."""
    energies = "spurious_mj" in table.columns
    unit, factor = energy_unit(table["blocks_mj"] if energies else [])
    columns = [
        Column("Image", "text"),
        Column("Network", "text"),
        Column("Block"),
        Column("Tokens"),
    ]
    shares = _shares(table)
    columns += [Column(name, note=note) for name, _, note in shares]
    estimated = not (table["pi0"] == 1).all()  # 1 is what estimators take that do not estimate it
    columns += [Column("π₀", note="estimated share of tokens that are no more than noise")] if estimated else []
    columns.append(Column("Largest z"))
    columns += (
        [Column(f"Energy, all blocks ({unit})"), Column(f"On noise ({unit})", note="of all blocks"), Column("Share")]
        if energies
        else []
    )
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(str(row[key]), str(row[key])) for key in ("image", "model")]
        cells += [
            Cell(f"{row['layer'] + 1:.0f}" if known(row["layer"]) else MISSING, row["layer"]),
            Cell(f"{row['tokens']:.0f}", row["tokens"]),
        ]
        cells += [Cell(percent(row[key]), row[key]) for _, key, _ in shares]
        cells += [Cell(f"{row['pi0']:.2f}", row["pi0"])] if estimated else []
        cells.append(Cell(significant(row["largest_z"], 3) if known(row["largest_z"]) else MISSING, row["largest_z"]))
        if energies:
            all_, noise = row["blocks_mj"], row["spurious_mj"]
            share = noise / all_ if known(all_) and all_ > 0 else None
            cells += [Cell(significant(mj / factor, 3), mj) for mj in (all_, noise)] + [Cell(percent(share), share)]
        rows.append(tuple(cells))
    return Sheet(tuple(columns), tuple(rows))


def _shares(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Name, key and note of the columns of significant tokens: one for each question that a map was asked."""
    if "significant_where" not in table or table["significant_where"].isna().all():
        return [("Significant", "significant", "share of tokens")]
    how_much = ("How much", "significant", "significant tokens: more attention than noise gets")
    return [how_much, ("Where", "significant_where", "significant tokens: a larger share of their image's attention")]
