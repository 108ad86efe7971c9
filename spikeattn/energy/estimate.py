"""Energy: ledger x counts x cost table, under a named convention.

Everything here is a pure function of the ledger and the count table. The energies are arithmetic estimates (operations
x pJ per operation), not measured joules: memory traffic, leakage and control are not in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import Activity, Run
from spikeattn.energy.amounts import COLUMNS, OPS, Amounts, amounts_by_part
from spikeattn.energy.convention_notes import notes_of
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_costs
from spikeattn.energy.profile_argument import counted, labels_to_cluster, of_profile
from spikeattn.stats import intervals
from spikeattn.stats.intervals import Floats, Intervals
from spikeattn.stats.quantity import Quantity


class EnergyTable(pd.DataFrame):
    """Energy per part, a DataFrame that carries its total, its per-image energies and how it came about.

    Rows: the parts in the order of the network, then "total". Columns: part, macs, sops, acs, mask_ops (per image),
    energy_mj, ci_low, ci_high, share of the total, interval (the method, see `intervals.Interval`).
    It is a real DataFrame (to_csv, to_latex, concat, display); anything derived from it (a slice, a copy) is a plain
    one, so that a total never travels with rows it does not belong to.

    Attributes:
        total: mJ per image with its interval; prints as "4.194 µJ [4.156, 4.235] per image", and is its value where a
            number is asked for (`stats.quantity.Quantity`).
        per_image: [N] mJ of every image.
        costs, convention: the cost table and the convention as records.
        unpriced: operations per image, by column, that the cost table has no price for; the energies leave them out,
            and a part that has no others has energy NaN.
        notes: choices and limits a reader must know, one sentence each.
        provenance: costs, convention and switches, n_images, time_steps, replicates, seed, confidence, ledger hash.
    """

    _metadata: ClassVar[list[str]] = [
        "total", "per_image", "costs", "convention", "unpriced", "notes", "provenance",
    ]  # fmt: skip
    total: Quantity
    per_image: Floats
    costs: CostTable
    convention: Convention
    unpriced: dict[str, float]
    notes: list[Note]
    provenance: dict[str, Any]

    @property
    def total_t(self) -> Quantity:
        """The total with Student's interval, the check beside the bootstrap."""
        return Quantity.of(intervals.t_interval(self.per_image, self.provenance["confidence"]))

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        """In a notebook: below the table its convention, costs and notes, without which a figure says little."""
        n, T = self.provenance.get("n_images"), self.provenance.get("time_steps")
        said = f"mJ per image, arithmetic only. Convention {self.convention.name}, costs {self.costs.name}, T = {T}"
        said += f", {n} images." if n else "."
        notes = "".join(f"<li>{escape(text)}</li>" for text in self.notes)
        whole = dict.fromkeys(("macs", "sops", "acs", "mask_ops"), "{:,.0f}".format)
        table = self.to_html(index=False, formatters=whole, float_format="{:.4g}".format)
        return f"{table}<p>{escape(said)}</p><ul>{notes}</ul>"


@of_profile
def energy(
    profile: Run,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    replicates: int = intervals.REPLICATES,
    seed: int = 0,
    confidence: float = intervals.CONFIDENCE,
    cluster: str | None = None,
) -> EnergyTable:
    """Energy per image and part in mJ, with a bootstrap interval over images.

    Args:
        profile: a finished run; a ledger and its counts, two arguments, may stand in its place.
        cluster: "label" to draw classes, each with its images, in place of images; see `stats.classes`.

    Raises:
        SpikeattnError: unknown convention or cost table, zero images, counts that do not belong to the ledger.
    """
    labels = labels_to_cluster(profile, cluster)
    return price(counted(profile), get_costs(costs), get_convention(convention), replicates, seed, confidence, labels)


def price(
    activity: Activity,
    costs: CostTable,
    convention: Convention,
    replicates: int = intervals.REPLICATES,
    seed: int = 0,
    confidence: float = intervals.CONFIDENCE,
    labels: NDArray[np.integer] | None = None,
) -> EnergyTable:
    """Price any activity, counted or published: the amounts of the convention x the costs, added up per part."""
    amounts = amounts_by_part(activity, convention)
    priced = np.array([costs.has(op) for op in OPS])
    prices = prices_of(costs)
    energies = _energies_per_image(amounts, prices)
    most = _energies(np.where(prices > 0, amounts.ceiling, 0)[None], prices)[0]
    least = _energies(amounts.floor[None], prices)[0]
    limits = intervals.mean_intervals(energies, replicates, seed, confidence, most, least, labels)
    table = EnergyTable(_rows(amounts.keys, amounts.mean(), limits))
    table.unpriced = _leave_unpriced(table, priced)
    table.total = Quantity.of(limits[-1])
    table.per_image = energies[:, -1].copy()
    table.costs, table.convention = costs, convention
    table.notes = [
        *notes_of(activity.ledger, convention),
        *_interval_notes(amounts.keys, limits),
        *costs.notes(),
        *unpriced_notes(costs, table.unpriced),
    ]
    table.provenance = {
        "costs": costs.name,
        "cost_source": costs.source,
        "convention": convention.name,
        "convention_source": convention.source,
        "evidence": convention.evidence,
        "switches": convention.switches(),
        **sample_of(activity, replicates, seed, confidence),
        **({} if labels is None else {"cluster": "label"}),
    }
    return table


def sample_of(activity: Activity, replicates: int, seed: int, confidence: float) -> dict[str, Any]:
    """The entries of a table's provenance that say what its means and intervals were taken over, and how."""
    return {
        "n_images": activity.n_images,
        "time_steps": activity.ledger.time_steps,
        "replicates": replicates,
        "seed": seed,
        "confidence": confidence,
        "ledger": activity.ledger.hash(),
    }


def prices_of(costs: CostTable) -> Floats:
    """pJ per operation in the order of OPS; 0 where the table has no price, which `price` says in its notes."""
    return np.array([costs.price(op) if costs.has(op) else 0.0 for op in OPS])


def part_energies(activity: Activity, costs: CostTable, convention: Convention) -> dict[str, float]:
    """Mean mJ per image of every part and of the "total": the numbers of `price`, without its intervals."""
    amounts, prices = amounts_by_part(activity, convention), prices_of(costs)
    energies, least = _energies_per_image(amounts, prices), _energies(amounts.floor[None], prices)[0]
    return dict(zip([*amounts.keys, "total"], intervals.means_above(energies, least).tolist(), strict=True))


def _energies_per_image(amounts: Amounts[str], prices: Floats) -> Floats:
    """mJ [N, parts + 1], the total last."""
    energies = np.empty((amounts.n_images, len(amounts.keys) + 1))
    for rows, block in amounts.blocks():
        energies[rows] = _energies(block, prices)
    return energies


def _energies(amounts: Floats, prices: Floats) -> Floats:
    """mJ [N, parts + 1] of operations [N, parts, OPS], the total last.

    The total adds whole operations and prices their sum, so that it is the same to the last digit however the parts are
    called and cut.
    """
    return np.concatenate([amounts, amounts.sum(axis=1, keepdims=True)], axis=1) @ prices * PJ_TO_MJ


def _with_total(columns: Floats) -> Floats:
    return np.concatenate([columns, columns.sum(axis=1, keepdims=True)], axis=1)


def _rows(parts: Sequence[str], amounts: Floats, limits: Intervals) -> pd.DataFrame:
    amounts = _with_total(amounts.T).T
    total = limits.value[-1]
    return pd.DataFrame(
        {
            "part": [*parts, "total"],
            **{COLUMNS[op]: amounts[:, column] for column, op in enumerate(OPS)},
            "energy_mj": limits.value,
            "ci_low": limits.low,
            "ci_high": limits.high,
            "share": limits.value / total if total > 0 else np.full(len(amounts), np.nan),
            "interval": limits.method,
        }
    )


def _leave_unpriced(table: pd.DataFrame, priced: NDArray[np.bool_]) -> dict[str, float]:
    """Operations per image without a price, by column; the energy of a part that has no others becomes NaN."""
    columns = np.array([COLUMNS[op] for op in OPS])
    amounts = table[columns].to_numpy()
    bare = (amounts[:, ~priced] > 0).any(axis=1) & ~(amounts[:, priced] > 0).any(axis=1)
    table.loc[bare, ["energy_mj", "ci_low", "ci_high", "share"]] = np.nan
    table.loc[bare, "interval"] = "none"
    unpriced = zip(columns[~priced], amounts[-1, ~priced], strict=True)
    return {str(column): float(amount) for column, amount in unpriced if amount > 0}


def unpriced_notes(costs: CostTable, amounts: dict[str, float]) -> list[Note]:
    """What the cost table has no price for, as a note; none where all amounts per image are 0."""
    listed = ", ".join(f"{amount:,.0f} {what}" for what, amount in amounts.items() if amount > 0)
    text = f"{costs.name} has no price for {listed} per image; the energies leave them out"
    return [Note("unpriced", text)] if listed else []


def _interval_notes(parts: Sequence[str], limits: Intervals) -> list[Note]:
    if limits.n_images == 1:
        return [Note("single-image", "one image has no interval, ci_low and ci_high are NaN")]
    rows = zip([*parts, "total"], limits.method, limits.nonzero_images, strict=True)
    said = {"none": "no bound is known", "upper bound": "ci_high is a one-sided bound"}
    return [
        Note(
            "few-spiking-images",
            f"{part} spends energy on spikes in {nonzero} of {limits.n_images} images, fewer than "
            f"{intervals.FEW_IMAGES}: {said.get(method, 'its interval rests on these few')}",
        )
        for part, method, nonzero in rows
        if method in ("upper bound", "none") or (method == "two-part" and nonzero < intervals.FEW_IMAGES)
    ]
