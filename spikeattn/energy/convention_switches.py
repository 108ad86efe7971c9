"""Conventions side by side, and what each switch between two of them makes of the energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.arguments import shown
from spikeattn.energy.activity import Activity, CountedActivity, CountTable
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import SWITCHES, Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.counted_terms import PARTS, Constant, Count, Rate
from spikeattn.energy.estimate import part_energies
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger import Ledger


def waterfall(
    ledger: Ledger,
    activity: Activity | CountTable,
    to: str | Convention = "sdt-paper",
    costs: str | Path | CostTable = DEFAULT_COSTS,
    start: str | Convention = DEFAULT_CONVENTION,
) -> pd.DataFrame:
    """From one convention to another, one switch at a time, in the order of `SWITCHES`.

    A step's difference depends on the steps before it, so the order is fixed. Where the way leads back to
    sop="fan-out", which some switches contradict, it is walked backwards.

    Args:
        activity: a count table, or any activity (a published table of rates has no `exact`: start elsewhere).

    Returns:
        Columns switch, from, to, energy_mj (total per image after the step) and difference_mj. The first row is the
        start; the last one is the total of `to`, the same number as `energy` gives. `attrs` holds the names of both
        ends and of the costs.

    Raises:
        SpikeattnError: unknown names, or a convention on the way that has no formula for this model.
    """
    costs, first, last = get_costs(costs), get_convention(start), get_convention(to)
    remembering = _Remembering(as_activity(ledger, activity))
    changed = [switch for switch in SWITCHES if getattr(first, switch) != getattr(last, switch)]
    if last.sop == "fan-out":
        changed.reverse()

    def total(convention: Convention) -> float:
        return part_energies(ledger, remembering, costs, convention)["total"]

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


def side_by_side(
    ledger: Ledger,
    activity: Activity | CountTable,
    conventions: Sequence[str | Convention],
    costs: str | Path | CostTable = DEFAULT_COSTS,
) -> pd.DataFrame:
    """mJ per image of every part and in total, one column per convention; NaN where it does not count a part."""
    costs = get_costs(costs)
    remembering = _Remembering(as_activity(ledger, activity))
    chosen = [get_convention(convention) for convention in conventions]
    columns = {c.name: part_energies(ledger, remembering, costs, c) for c in chosen}
    found = {part for column in columns.values() for part in column}
    known = [part for part in PARTS if part in found]
    order = [*known, *sorted(found - set(known) - {"total"}), "total"]
    records: list[dict[str, Any]] = [
        {"part": part} | {name: column.get(part, float("nan")) for name, column in columns.items()} for part in order
    ]
    frame = pd.DataFrame(records)
    frame.attrs = {"costs": costs.name}
    return frame


def as_activity(ledger: Ledger, activity: Activity | CountTable) -> Activity:
    """The activity itself, or that of a count table."""
    known = hasattr(activity, "total") or hasattr(activity, "column")
    if not isinstance(ledger, Ledger) or not known:
        raise SpikeattnError(
            f"the ledger is {shown(ledger)} and its counts are {shown(activity)}; give `profile.ledger` and "
            "`profile.counts` of a profile"
        )
    return activity if hasattr(activity, "total") else CountedActivity(ledger, activity)


class _Remembering:
    """An activity that evaluates every source once: conventions share most of them."""

    def __init__(self, activity: Activity) -> None:
        self.n_images = activity.n_images
        self._activity = activity
        self._known: dict[Constant | Rate | Count, NDArray[Any]] = {}

    def total(self, source: Constant | Rate | Count) -> NDArray[Any]:
        if source not in self._known:
            self._known[source] = self._activity.total(source)
        return self._known[source]
