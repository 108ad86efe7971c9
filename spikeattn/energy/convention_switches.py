"""Conventions side by side, and what each switch between two of them makes of the energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from spikeattn.energy.activity import Activity, Remembering, Run
from spikeattn.energy.amounts import part_order
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import SWITCHES, Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.estimate import part_energies
from spikeattn.energy.profile_argument import activity_of, once_of_ledger


@once_of_ledger
def waterfall(
    profile: Run | Activity,
    to: str | Convention = "sdt-paper",
    costs: str | Path | CostTable = DEFAULT_COSTS,
    start: str | Convention = DEFAULT_CONVENTION,
) -> pd.DataFrame:
    """From one convention to another, one switch at a time, in the order of `SWITCHES`.

    A step's difference depends on the steps before it, so the order is fixed. Where the way leads back to
    sop="fan-out", which some switches contradict, it is walked backwards.

    Args:
        profile: a finished run, or the rates of a published table (`activity_from_rates`), which has no `exact`: start
            elsewhere.

    Returns:
        Columns switch, from, to, energy_mj (total per image after the step) and difference_mj. The first row is the
        start; the last one is the total of `to`, the same number as `energy` gives. `attrs` holds the names of both
        ends and of the costs.

    Raises:
        SpikeattnError: unknown names, or a convention on the way that has no formula for this model.
    """
    costs, first, last = get_costs(costs), get_convention(start), get_convention(to)
    remembering = Remembering(activity_of(profile))
    changed = [switch for switch in SWITCHES if getattr(first, switch) != getattr(last, switch)]
    if last.sop == "fan-out":
        changed.reverse()

    def total(convention: Convention) -> float:
        return part_energies(remembering, costs, convention)["total"]

    here, energy = first, total(first)
    rows = [("start", first.name, first.name, energy, 0.0)]
    for step, switch in enumerate(changed, start=1):
        old, new = getattr(here, switch), getattr(last, switch)
        here = last if step == len(changed) else replace(here, name=last.name, **{switch: new})
        before, energy = energy, total(here)
        rows.append((switch, old, new, energy, energy - before))
    frame = pd.DataFrame(rows, columns=["switch", "from", "to", "energy_mj", "difference_mj"])
    frame.attrs = {"start": first.name, "to": last.name, "costs": costs.name}
    return frame


@once_of_ledger
def side_by_side(
    profile: Run | Activity,
    conventions: Sequence[str | Convention],
    costs: str | Path | CostTable = DEFAULT_COSTS,
) -> pd.DataFrame:
    """mJ per image of every part and in total, one column per convention; NaN where it does not count a part."""
    costs = get_costs(costs)
    remembering = Remembering(activity_of(profile))
    chosen = [get_convention(convention) for convention in conventions]
    columns = {c.name: part_energies(remembering, costs, c) for c in chosen}
    parts = {part for column in columns.values() for part in column} - {"total"}
    records: list[dict[str, Any]] = [
        {"part": part} | {name: column.get(part, float("nan")) for name, column in columns.items()}
        for part in (*sorted(parts, key=part_order), "total")
    ]
    frame = pd.DataFrame(records)
    frame.attrs = {"costs": costs.name}
    return frame
