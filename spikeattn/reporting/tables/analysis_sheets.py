"""The sheets of what is computed from a run: the comparison, the waterfall, the sweep, the attended images."""

from __future__ import annotations

from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import (
    MISSING,
    NO_INTERVAL,
    energy_unit,
    joules,
    known,
    percent,
    rate,
    significant,
    with_limits,
)
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet


def comparison_sheet(table: pd.DataFrame) -> Sheet:
    """Both energies of every part, their ratio and the rate at which they would be the same."""
    columns = (
        Column("Costs", "text"),
        Column("Beside", "text"),
        Column("Part", "text"),
        Column("Rate", note="share of the dense operations behind spikes that take place"),
        Column("Spiking", note="energy per image"),
        Column("Other", note="energy per image"),
        Column("Ratio", note="other / spiking"),
        Column("Interval"),
        Column("Break-even rate", note="at which both cost the same; above 1 the spiking network cannot lose"),
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
                *(Cell(joules(row[key]), row[key]) for key in ("energy_mj", "against_mj")),
                Cell(ratio, row["ratio"]),
                Cell(limits or MISSING, row["ratio_low"]),
                Cell(significant(even, 3) if known(even) else MISSING, even),
                Cell(str(row["verdict"]) if known(row["verdict"]) else MISSING, row["verdict"]),
            )
        )
    return Sheet(columns, tuple(rows), frozenset(rules))


def ratio_of(row: dict) -> tuple[str, str]:
    """Ratio and interval of a row of a comparison, as text."""
    if not known(row["ratio"]):
        return MISSING, ""
    if row["interval"] == "lower bound":
        return significant(row["ratio"], 3), f"≥ {significant(row['ratio_low'], 3)}"
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
    """Energy and break-even rate by cost table and number of time steps."""
    columns = (
        Column("Costs", "text"),
        Column("Time steps"),
        Column("Rate scale"),
        Column("Rate"),
        Column("Spiking", note="energy per image"),
        Column("ANN", note="energy per image"),
        Column("ANN / SNN"),
        Column("Break-even rate"),
    )
    rows, rules, last = [], set(), None
    for number, row in enumerate(table.to_dict("records")):
        if number and row["costs"] != last:
            rules.add(number)
        last = row["costs"]
        numbers = [Cell(significant(row[key], 3), row[key]) for key in ("ratio", "break_even_rate")]
        energies = [Cell(joules(row[key]), row[key]) for key in ("snn_mj", "ann_mj")]
        scale = Cell(f"{row['rate_scale']:g}", row["rate_scale"])
        rows.append(
            (Cell(last, last), Cell(str(row["t"]), row["t"]), scale, Cell(rate(row["rate"]), row["rate"]), *energies)
            + tuple(numbers)
        )
    return Sheet(columns, tuple(rows), frozenset(rules))


def attended_sheet(table: pd.DataFrame) -> Sheet:
    """What of every image's attention is more than noise, and the energy spent on the rest."""
    energies = "spurious_mj" in table.columns
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
        [Column("Energy, all blocks"), Column("On noise", note="of all blocks"), Column("Share")] if energies else []
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
            cells += [Cell(joules(all_), all_), Cell(joules(noise), noise), Cell(percent(share), share)]
        rows.append(tuple(cells))
    return Sheet(tuple(columns), tuple(rows))


def _shares(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Name, key and note of the columns of significant tokens: one for each question that a map was asked."""
    if "significant_where" not in table or table["significant_where"].isna().all():
        return [("Significant", "significant", "share of tokens")]
    how_much = ("How much", "significant", "significant tokens: more attention than noise gets")
    return [how_much, ("Where", "significant_where", "significant tokens: a larger share of their image's attention")]
