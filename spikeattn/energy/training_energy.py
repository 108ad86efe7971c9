"""Energy of one training step per image, phase by phase, beside that of inference; see `training_rules`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from spikeattn.boundary.arguments import shown
from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import Constant, Remembering, Run
from spikeattn.energy.convention_notes import notes_of
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_costs
from spikeattn.energy.estimate import price, sample_of, unpriced_notes
from spikeattn.energy.models.memory import LEAKY, NOT_LEAKY
from spikeattn.energy.profile_argument import counted, labels_to_cluster, of_profile
from spikeattn.energy.training_rules import (
    DEFAULT,
    OUTSIDE,
    PHASES,
    Optimizer,
    TrainingConvention,
    get_optimizer,
    get_training_convention,
    parameters_of,
    training_terms,
)
from spikeattn.errors import SpikeattnError
from spikeattn.stats import intervals
from spikeattn.stats.intervals import Floats
from spikeattn.stats.quantity import Quantity
from spikeattn.stats.ratios import ratio_intervals
from spikeattn.storage.ledger import Ledger

COLUMNS = {
    "mac": "macs", "sop": "sops", "ac": "acs", "mask": "mask_ops", "mult": "mults", "add": "adds",
    "division": "divisions", "root": "roots",
}  # fmt: skip
_KINDS = tuple(COLUMNS)
_NO_PRICE = ("division", "root")  # that a cost table has no entry for


class TrainingTable(pd.DataFrame):
    """Energy of a training step by phase, a DataFrame that carries how it came about.

    Rows: forward, weight gradients, input gradients, neurons, forks, update, total. Columns: phase, macs, sops, acs,
    mask_ops, mults, adds, divisions, roots (per image; of the update the share of one image of the batch), energy_mj,
    ci_low, ci_high, share of the total, interval (the method). What is derived from it is a plain DataFrame.

    Attributes:
        total: mJ per image and step with its interval.
        inference: mJ per image under `exact`, at the same costs.
        over_inference: total / inference, on the same images.
        step_mj: mJ of one step of a whole batch.
        lines: phase, name (layer, product, neuron), part, op, per_image, energy_mj.
        per_image: [N] mJ of every image.
        costs, convention, optimizer, batch_size: what it was computed with.
        outside: what is in no figure of it.
        unpriced: operations per image without a price, by column.
        notes, provenance: as of an `EnergyTable`.
    """

    _metadata: ClassVar[list[str]] = [
        "total", "inference", "over_inference", "step_mj", "lines", "per_image", "costs", "convention", "optimizer",
        "batch_size", "outside", "unpriced", "notes", "provenance",
    ]  # fmt: skip
    total: Quantity
    inference: Quantity
    over_inference: Quantity
    step_mj: float
    lines: pd.DataFrame
    per_image: Floats
    costs: CostTable
    convention: TrainingConvention
    optimizer: Optimizer
    batch_size: int
    outside: tuple[str, ...]
    unpriced: dict[str, float]
    notes: list[Note]
    provenance: dict[str, Any]

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame


@of_profile
def training_energy(
    profile: Run,
    optimizer: str | Optimizer,
    batch_size: int,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | TrainingConvention = DEFAULT,
    first_conv: str = "once",
    replicates: int = intervals.REPLICATES,
    seed: int = 0,
    confidence: float = intervals.CONFIDENCE,
    cluster: str | None = None,
) -> TrainingTable:
    """Arithmetic of one training step per image in mJ: forward, backward through time, update; with intervals.

    The convention is the package's own and written out in `training_rules` and docs/energy.md: no paper prints this
    number. Counts should be those of training: record the loop with `sa.record`; a run in eval mode has other rates.

    Args:
        profile: a finished run; a ledger and its counts, two arguments, may stand in its place.
        optimizer: "sgd", "sgd-momentum", "adam", "adamw", or an `Optimizer` with operations per parameter.
        batch_size: images per update, which share it.
        convention: "bptt-spikes" or "bptt-dense", or a `TrainingConvention`.
        first_conv: "once" or "every-step", how often the first layer runs on a still image.
        cluster: "label" to draw classes, each with its images, in place of images; see `stats.classes`.

    Raises:
        SpikeattnError: unknown optimiser, convention or cost table; a batch size below 1; a cost table without prices
            of MACs; zero images, counts that do not belong to the ledger.
    """
    optimizer, prices, rules = get_optimizer(optimizer), get_costs(costs), get_training_convention(convention)
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
        raise SpikeattnError(f"batch_size is {shown(batch_size)}; give the images of one update, 1 or more")
    if not prices.has("mac"):
        raise SpikeattnError(
            f"cost table {prices.name!r} has no price for mac, and errors are dense: a chip's price of a spike says "
            "nothing about training; take a table of arithmetic, such as horowitz-45nm-fp32"
        )
    activity, labels = Remembering(counted(profile)), labels_to_cluster(profile, cluster)
    ledger, exact = activity.ledger, get_convention("exact", first_conv=first_conv)
    each = np.array([prices.price(op) if op not in _NO_PRICE and prices.has(op) else 0.0 for op in _KINDS])
    priced = np.array([op not in _NO_PRICE and prices.has(op) for op in _KINDS])
    amounts = np.zeros((activity.n_images, len(PHASES), len(_KINDS)))
    floor, ceiling = np.zeros((2, len(PHASES), len(_KINDS)))
    lines = []
    for phase, term in training_terms(ledger, rules, optimizer, int(batch_size), first_conv):
        place, kind = PHASES.index(phase), _KINDS.index(term.op)
        per_image = activity.total(term.source) * term.factor
        amounts[:, place, kind] += per_image
        ceiling[place, kind] += term.ceiling
        if isinstance(term.source, Constant):
            floor[place, kind] += term.ceiling
        mean = float(per_image.mean())
        mj = mean * each[kind] * PJ_TO_MJ if priced[kind] else np.nan
        lines.append((phase, term.name, term.part, term.op, mean, mj))
    energies, least = _mj(amounts, each), _mj(floor[None], each)[0]
    most = _mj(np.where(each > 0, ceiling, 0)[None], each)[0]
    limits = intervals.mean_intervals(energies, replicates, seed, confidence, most, least, labels)
    table = TrainingTable(_rows(amounts, limits))
    inference = price(activity, prices, exact, replicates, seed, confidence, labels)
    table.total, table.inference = Quantity.of(limits[-1]), inference.total
    ratio = ratio_intervals(
        energies[:, -1], inference.per_image, replicates, seed, confidence, most[-1:], None, labels=labels
    )
    table.over_inference = Quantity.of(ratio[0], "", "")
    table.step_mj = float(limits.value[-1]) * int(batch_size)
    table.lines = pd.DataFrame(lines, columns=["phase", "name", "part", "op", "per_image", "energy_mj"])
    table.per_image = energies[:, -1].copy()
    table.costs, table.convention, table.optimizer = prices, rules, optimizer
    table.batch_size, table.outside = int(batch_size), OUTSIDE
    bare = amounts.mean(axis=0).sum(axis=0)
    table.unpriced = {COLUMNS[op]: float(bare[i]) for i, op in enumerate(_KINDS) if bare[i] > 0 and not priced[i]}
    table.notes = [
        *_notes(ledger, optimizer),
        *notes_of(ledger, exact),
        *prices.notes(),
        *unpriced_notes(prices, table.unpriced),
    ]
    table.provenance = {
        "costs": prices.name,
        "cost_source": prices.source,
        "convention": rules.name,
        "convention_source": rules.source,
        "evidence": rules.evidence,
        "switches": rules.switches(),
        "optimizer": optimizer.name,
        "optimizer_formula": optimizer.formula,
        "optimizer_source": optimizer.source,
        "batch_size": int(batch_size),
        "parameters": parameters_of(ledger),
        "first_conv": first_conv,
        "outside": list(OUTSIDE),
        **sample_of(activity, replicates, seed, confidence),
        **({} if labels is None else {"cluster": "label"}),
    }
    return table


def _mj(amounts: Floats, prices: Floats) -> Floats:
    """mJ [N, phases + 1] of operations [N, phases, kinds], the total last."""
    return np.concatenate([amounts, amounts.sum(axis=1, keepdims=True)], axis=1) @ prices * PJ_TO_MJ


def _rows(amounts: Floats, limits: intervals.Intervals) -> dict[str, Any]:
    means = amounts.mean(axis=0)
    means = np.concatenate([means, means.sum(axis=0, keepdims=True)])
    total = limits.value[-1]
    return {
        "phase": [*PHASES, "total"],
        **{COLUMNS[op]: means[:, place] for place, op in enumerate(_KINDS)},
        "energy_mj": limits.value,
        "ci_low": limits.low,
        "ci_high": limits.high,
        "share": limits.value / total if total > 0 else np.full(len(means), np.nan),
        "interval": limits.method,
    }


def _notes(ledger: Ledger, optimizer: Optimizer) -> list[Note]:
    notes = [Note("own-convention", "the convention is spikeattn's own: no paper prints the energy of a training step")]
    if not isinstance(ledger.model.get("parameters"), int):
        text = "the run does not say how many parameters the model has; weights and biases of its layers are updated"
        notes.append(Note("parameters", text))
    classes = sorted({t.neuron or "unknown" for t in ledger.tensors if t.maker == "neuron"} - {*LEAKY, *NOT_LEAKY})
    if classes:
        notes.append(Note("neurons", f"{', '.join(classes)} taken for a leaky neuron with one state; it may cost more"))
    return notes
