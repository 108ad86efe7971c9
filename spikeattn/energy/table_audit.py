"""The audit of a published layer table: its own arithmetic line by line, and its rates under every convention."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spikeattn.energy.activity import Remembering
from spikeattn.energy.amounts import OPS, amounts_by_part
from spikeattn.energy.conventions import Convention, get_convention, list_conventions
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_costs
from spikeattn.energy.estimate import part_energies
from spikeattn.energy.layer_layouts import Layout
from spikeattn.energy.layer_tables import LayerTable, has_columns, read_layers
from spikeattn.energy.published_rates import PublishedActivity, activity_from_rates, ledger_for
from spikeattn.energy.table_arithmetic import Arithmetic, Difference, check_arithmetic, rows_of_sums
from spikeattn.energy.table_files import read_grid
from spikeattn.energy.table_ledgers import activity_of_rows, activity_on_network
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger import Ledger

if TYPE_CHECKING:
    from torch import nn

# What comes closest to `exact` on rates alone: K^T V by the smaller of its two rates, which no count of pairs exceeds.
EXACT_LIKE = "input-rate[attention=least-rate]"


@dataclass(frozen=True)
class Audit:
    """What an audit of a layer table has found.

    Attributes:
        layout, formula: name of the layout, and the formula that the table states.
        layers: rows with weights.
        arithmetic: every figure that follows from others, computed again.
        sums: per quantity the sum of the stated figures and of those by the formula, in mJ.
        prices: convention, energy_mj (NaN where it cannot be expressed), macs, additions per image, evidence, reason.
        notes: what a reader must know.
    """

    where: str
    layout: str
    formula: str
    layers: int
    arithmetic: Arithmetic
    sums: pd.DataFrame
    prices: pd.DataFrame
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)


def audit(
    table: str | Path,
    model: Ledger | nn.Module | str | None = None,
    layout: Layout | str | Path | None = None,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    time_steps: int | None = None,
    heads: int | None = None,
) -> Audit:
    """Check a published layer table against its own formula, and price its rates under every convention.

    Args:
        table: a .csv or .xlsx file, in a published layout, in one that `layout` describes, or in that of Table S1.
        model: the network that the table belongs to; without it the table's own dense operations are priced.
        layout: a map (a .toml file, see `layer_layouts`) or a `Layout`.
        time_steps, heads: T and the heads of the attention, where the table does not say them.

    Returns:
        Differences are facts about the table's arithmetic; they do not say which figure its authors meant.

    Raises:
        SpikeattnError: the table cannot be read, its titles are in no layout, or its layers are not the model's.
    """
    if layout is None and has_columns(table, "part", "tensor") and not has_columns(table, "rate"):
        return _of_rates(table, model, get_costs(costs))
    read = read_layers(table, layout)
    if time_steps is not None:
        read = replace(read, layout=replace(read.layout, time_steps=time_steps))
    arithmetic, notes = check_arithmetic(read), []
    activity: PublishedActivity | None = None
    why = ""
    if model is not None:
        activity, more = activity_on_network(read, ledger_for(model))
        compared = arithmetic.compared | {"network": len(read.layers)}
        arithmetic = Arithmetic(compared, (*arithmetic.differences, *more))
    else:
        try:
            activity = activity_of_rows(read, time_steps, heads)
        except SpikeattnError as error:
            why = str(error)
        notes += _notes_of_rows(read, activity)
    prices = _prices(activity, get_costs(costs), why)
    notes += [] if activity is None else [_stand_in(reason, names) for reason, names in activity.stand_ins.items()]
    sums = pd.DataFrame(
        [(name, stated * PJ_TO_MJ, own * PJ_TO_MJ) for name, stated, own in rows_of_sums(read)],
        columns=["quantity", "stated_mj", "formula_mj"],
    )
    T = None if activity is None else activity.ledger.time_steps
    provenance = {"costs": get_costs(costs).name, "source": read.layout.source, "time_steps": T}
    return Audit(
        read.where, read.layout.name, read.layout.formula, len(read.layers), arithmetic, sums, prices, tuple(notes),
        provenance,
    )  # fmt: skip


def price_by_conventions(activity: PublishedActivity, costs: CostTable) -> pd.DataFrame:
    """Every convention on published rates: its energy, or the reason why it cannot be expressed; see `Audit.prices`."""
    return _prices(activity, costs, "")


def _prices(activity: PublishedActivity | None, costs: CostTable, why: str) -> pd.DataFrame:
    rows = []
    for convention in [*map(get_convention, list_conventions()), get_convention("input-rate", attention="least-rate")]:
        energy = macs = additions = float("nan")
        reason = why
        if activity is not None:
            try:
                energy, macs, additions = _priced(activity, costs, convention)
            except SpikeattnError as error:
                reason = str(error)
        rows.append((convention.name, energy, macs, additions, convention.evidence, reason))
    return pd.DataFrame(rows, columns=["convention", "energy_mj", "macs", "additions", "evidence", "reason"])


def _priced(activity: PublishedActivity, costs: CostTable, convention: Convention) -> tuple[float, float, float]:
    ledger = activity.ledger
    if convention.batch_norm == "counted" and any(not synapse.output_elements for synapse in ledger.synapses):
        raise SpikeattnError("it counts batch norms, and the table does not say how many elements its layers put out")
    if convention.neurons == "counted" and not any(tensor.maker == "neuron" for tensor in ledger.tensors):
        raise SpikeattnError("it counts the updates of neurons, and the table does not say how many there are")
    remembering = Remembering(activity)
    total = part_energies(remembering, costs, convention)["total"]
    amounts = dict(zip(OPS, amounts_by_part(remembering, convention).per_image.sum(axis=(0, 1)), strict=True))
    return total, float(amounts["mac"]), float(amounts["sop"] + amounts["ac"])


def _notes_of_rows(table: LayerTable, activity: PublishedActivity | None) -> list[str]:
    notes = ["priced on the table's own dense operations: no border of padded convolutions is taken off"]
    if activity is not None and not activity.ledger.products:
        attention = table.layout.attention
        why = "give --heads H, or --model" if attention is not None else "give --model if the network has any"
        notes.append(f"products of attention are no rows of the table and are not priced: {why}")
    if table.layout.dense_over == "all steps" and activity is not None:
        notes.append("dense operations of one step are those of all steps / T")
    return notes


def _stand_in(reason: str, names: list[str]) -> str:
    return f"not in the table, {reason} used: {', '.join(names)}"


def _of_rates(table: str | Path, model: Ledger | nn.Module | str | None, costs: CostTable) -> Audit:
    """A table in the layout of Table S1: rates alone, whose average is the only figure that follows from others."""
    grid, _ = read_grid(table)
    differences, compared = [], 0
    columns = {title: i for i, title in enumerate(grid[0])}
    steps = [i for title, i in columns.items() if title[:1] == "T" and title[1:].isdigit()]
    if "average" in columns and steps:
        for line, cells in enumerate(grid[1:], start=2):
            try:
                mean, stated = float(np.mean([float(cells[i]) for i in steps])), float(cells[columns["average"]])
            except (ValueError, IndexError):
                continue  # blank lines; `activity_from_rates` refuses rates that are none
            compared += 1
            half = 0.5 * 10.0 ** -len(cells[columns["average"]].partition(".")[2])
            spread = 0.5 * 10.0 ** -len(cells[steps[0]].partition(".")[2])
            if abs(mean - stated) > half + spread + 1e-12:
                name = f"{cells[columns['part']]} {cells[columns['tensor']]}"
                relative = (stated - mean) / mean if mean else float("nan")
                differences.append(Difference(line, name, "average", stated, mean, stated - mean, relative))
    activity = None if model is None else activity_from_rates(table, model)
    why = "the table holds rates alone: give the network that they belong to with --model"
    prices = _prices(activity, costs, "" if activity is not None else why)
    notes = [] if activity is None else [_stand_in(reason, names) for reason, names in activity.stand_ins.items()]
    return Audit(
        str(table), "Table S1", "rates alone; the average is the mean over the time steps", len(grid) - 1,
        Arithmetic({"average": compared}, tuple(differences)),
        pd.DataFrame(columns=["quantity", "stated_mj", "formula_mj"]), prices, tuple(notes),
        {"costs": costs.name, "time_steps": len(steps) or None},
    )  # fmt: skip
