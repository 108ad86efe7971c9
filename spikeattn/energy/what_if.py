"""What if: energy against the number of time steps, the firing rates and the cost table, without a forward pass.

Energy at t steps uses the counts of steps 1..t, which is exact where a step does not look ahead. Energy at another rate
multiplies every operation that a spike causes; operations without spikes (a still image's first layer) stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.arguments import shown, whole_number
from spikeattn.boundary.notes import Note
from spikeattn.boundary.number_format import percent
from spikeattn.energy.accumulators import INT8, accumulators
from spikeattn.energy.activity import Activity, CountedActivity, CountTable, Run
from spikeattn.energy.by_part import amounts_by_part_and_block
from spikeattn.energy.convention_notes import notes_of
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_cost_tables
from spikeattn.energy.dense_twin import dense_twin
from spikeattn.energy.estimate import prices_of
from spikeattn.energy.profile_argument import counted, once_named
from spikeattn.energy.published_rates import PublishedActivity
from spikeattn.errors import SpikeattnError
from spikeattn.stats.accuracy import COLUMNS, accuracy_over_time, no_accuracy, why_no_accuracy
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger

COSTS = ("horowitz-45nm-fp32", "horowitz-45nm-fp16", INT8)
RATE_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


@once_named("run")
def sweep(
    profile: Run | PublishedActivity,
    costs: str | Path | CostTable | Sequence[str | Path | CostTable] = COSTS,
    rate_scales: Sequence[float] = RATE_SCALES,
    convention: str | Convention = DEFAULT_CONVENTION,
    ann_macs: int | None = None,
) -> pd.DataFrame:
    """Energy of a run had it stopped after t steps, fired more or less, or been priced otherwise.

    Args:
        profile: a finished run, or the rates of a published table (`exact` needs counts).
        rate_scales: factors of the firing rates.
        ann_macs: multiply-accumulates of the ANN per image; default `twins.dense_twin` of the ledger, with its residual
            sums and averages.

    Returns:
        One row per cost table, number of steps t (1..T) and rate scale. Columns costs, t, rate_scale; rate (weighted by
        operations, of what the layers receive over steps 1..t: energy that spikes cause over that of one spike per
        element and step, so an integer spike counts by value); snn_mj per image and fixed_mj, the part of it without
        any spike; ann_mj; ratio (ANN/SNN); break_even_scale and break_even_rate, at which both cost the same (0 where
        the SNN costs more without a single spike); cannot_lose (even spikes everywhere would cost no more, under
        accumulators of 8 and of 32 bits where the table is of int8); accuracy of the same run after t steps with its
        Wilson limits accuracy_low and accuracy_high, and n_labelled (NaN at rate scales other than 1, where the answers
        would be others, and where labels or answers are missing). The ANN skips no zeros. `attrs` holds convention,
        ann_macs, time_steps and notes.

    Raises:
        SpikeattnError: no rate scale, a negative one, unknown names, a cost table without a price for
            multiply-accumulates, or what `energy` raises.
    """
    source = profile if isinstance(profile, PublishedActivity) else counted(profile)
    tables, scales = get_cost_tables(costs), _checked(rate_scales)
    if ann_macs is not None:
        ann_macs = whole_number("ann_macs", ann_macs, why=", or leave it out")
    for table in tables:
        if not table.has("mac"):
            raise SpikeattnError(
                f"cost table {table.name!r} has no price for multiply-accumulates, so it cannot price an ANN; choose "
                f"one that has, such as {COSTS[0]!r}"
            )
    chosen = get_convention(convention)
    twin = dense_twin(source.ledger)
    macs = twin.macs if ann_macs is None else ann_macs

    def ann_mj(table: CostTable) -> float:
        if ann_macs is None:
            return twin.mj(table, chosen.additions == "counted")
        return ann_macs * table.price("mac") * PJ_TO_MJ

    amounts = [_network(_until(source, t), chosen) for t in range(1, source.ledger.time_steps + 1)]
    rows: list[dict[str, Any]] = []
    for table in tables:
        wide = [(prices_of(each), ann_mj(each)) for each in accumulators(table)]
        ann = ann_mj(table)
        for t, amount in enumerate(amounts, start=1):
            never = {"cannot_lose": bool(wide) and all(amount.never_dearer(*each) for each in wide)}
            rows += [
                {"costs": table.name, "t": t} | amount.at(scale, prices_of(table), ann) | never for scale in scales
            ]
    correct = _accuracy(source)
    spent = [amount.at(1.0, prices_of(tables[0]), 0.0)["snn_mj"] for amount in amounts]
    frame = pd.DataFrame(rows).merge(correct, on="t", how="left", sort=False)
    frame.loc[frame["rate_scale"] != 1, list(COLUMNS[:-1])] = np.nan
    frame.attrs = {
        "convention": chosen.name,
        "ann_macs": int(macs),
        "time_steps": source.ledger.time_steps,
        "notes": [*_notes(source.ledger, chosen, amounts[-1].bounded), _on_accuracy(source, correct, spent)],
    }
    return frame


@dataclass(frozen=True)
class _Network:
    """Operations of the whole network per image in the order of OPS: always there, caused by spikes, and caused if
    every element were one spike; `bounded` as of `Amounts`."""

    fixed: Floats
    driven: Floats
    full: Floats
    bounded: bool

    def at(self, scale: float, prices: Floats, ann: float) -> dict[str, Any]:
        """One row of the table but for its costs and t."""
        always, spikes, full = (float(ops @ prices) * PJ_TO_MJ for ops in (self.fixed, self.driven, self.full))
        snn, nan = always + scale * spikes, float("nan")
        return {
            "rate_scale": scale,
            "rate": scale * spikes / full if full > 0 else nan,
            "snn_mj": snn,
            "fixed_mj": always,
            "ann_mj": ann,
            "ratio": ann / snn if snn > 0 else nan,
            "break_even_scale": max((ann - always) / spikes, 0.0) if spikes > 0 else nan,
            "break_even_rate": max((ann - always) / full, 0.0) if full > 0 else nan,
        }

    def never_dearer(self, prices: Floats, ann: float) -> bool:
        """Whether even spikes everywhere cost no more than the ANN."""
        return self.bounded and float((self.fixed + self.full) @ prices) * PJ_TO_MJ <= ann


def _network(activity: Activity, convention: Convention) -> _Network:
    amounts = amounts_by_part_and_block(activity, convention)
    fixed, full = amounts.floor.sum(axis=0), amounts.full.sum(axis=0)
    driven = amounts.mean().sum(axis=0) - fixed
    bounded = bool(amounts.bounded[amounts.full.sum(axis=1) > 0].all())
    return _Network(fixed, np.maximum(driven, 0.0), full, bounded)


@dataclass(frozen=True)
class _FirstSteps:
    """The count table of the first `time_steps` steps."""

    counts: CountTable
    time_steps: int

    @property
    def n_images(self) -> int:
        return self.counts.n_images

    def column(self, measure: str, name: str) -> NDArray[Any]:
        return self.counts.column(measure, name)[:, : self.time_steps]

    def fan(self, synapse: str, by: str = "abs") -> NDArray[Any]:
        return self.counts.fan(synapse, by)[:, : self.time_steps]


def _accuracy(source: CountedActivity | PublishedActivity) -> pd.DataFrame:
    """Accuracy after every t, from the predictions of the run's own count table."""
    rows = _rows(source)
    T = source.ledger.time_steps
    return no_accuracy(T) if rows is None else accuracy_over_time(rows, T)


def _rows(source: CountedActivity | PublishedActivity) -> pd.DataFrame | None:
    """Label and answers of every image; None where nothing holds them."""
    return None if isinstance(source, PublishedActivity) else getattr(source.counts, "rows", None)


def _on_accuracy(source: CountedActivity | PublishedActivity, correct: pd.DataFrame, spent: list[float]) -> Note:
    """What the first step answers right beside the last, and for which energy; or why that is not known."""
    known = correct[correct["accuracy"].notna()].to_dict("records")
    if not known:
        rows = _rows(source)
        why = None if rows is None else why_no_accuracy(rows, source.ledger.provenance)
        why = why or "a table of rates holds no answers"
        return Note(
            "accuracy", f"accuracy unknown at every t: {why}; less energy at a smaller t may be for less accuracy"
        )
    first, last = known[0], known[-1]
    text = f"{_right(last)} of {last['n_labelled']} labelled images are answered right after t = {last['t']}"
    if first["t"] < last["t"]:
        share = spent[first["t"] - 1] / spent[last["t"] - 1] if spent[last["t"] - 1] > 0 else float("nan")
        text += f", {_right(first)} after t = {first['t']}, which takes {percent(share)} of that energy"
    unknown = [str(row["t"]) for row in correct.to_dict("records") if np.isnan(row["accuracy"])]
    return Note("accuracy", text + (f"; unknown after t = {', '.join(unknown)}" if unknown else ""))


def _right(row: Mapping[Any, Any]) -> str:
    low, high = (percent(row[key]).removesuffix(" %") for key in ("accuracy_low", "accuracy_high"))
    return f"{percent(row['accuracy'])} [{low}, {high}] %"


def _until(source: CountedActivity | PublishedActivity, t: int) -> Activity:
    """The activity of steps 1..t."""
    ledger = replace(source.ledger, time_steps=t)
    if isinstance(source, PublishedActivity):
        return PublishedActivity(ledger, {name: rates[:t] for name, rates in source.rates.items()})
    return CountedActivity(ledger, _FirstSteps(source.counts, t))


def _checked(scales: Sequence[float]) -> list[float]:
    if isinstance(scales, str | Mapping) or not isinstance(scales, Iterable) or getattr(scales, "ndim", 1) != 1:
        raise SpikeattnError(f"rate_scales is {shown(scales)}; give a list of numbers, such as [0.5, 1, 2]")
    listed = scales.tolist() if isinstance(scales, np.ndarray) else list(scales)
    if not listed:
        raise SpikeattnError("no rate scale to sweep over; 1 stands for the rates as they are")
    for scale in listed:
        if not isinstance(scale, Real) or isinstance(scale, bool) or not 0 <= scale < np.inf:
            raise SpikeattnError(
                f"a rate scale is {shown(scale)}; it must be a finite number >= 0, and 1 for no change"
            )
    return sorted({float(scale) for scale in listed})


def _notes(ledger: Ledger, convention: Convention, bounded: bool) -> list[Note]:
    notes = [
        Note("truncation", "the energy at t steps is that of steps 1..t of this run, exact where no step looks ahead")
    ]
    ahead = sorted({t.neuron for t in ledger.tensors if t.neuron is not None and "PSN" in t.neuron})
    if ahead:
        text = f"looks ahead: {', '.join(ahead)} reads all steps at once; a run of t steps would differ"
        notes.append(Note.plain("looks-ahead", text))
    if not ledger.static_input:
        notes.append(Note("frames", "t steps are the first t frames of the recording, not the recording in t frames"))
    text = "rate scale: every operation that a spike causes, that many times; operations without spikes stay"
    notes.append(Note.plain("rate-scale", text))
    if not bounded:
        text = "integer spikes: their rate counts by value and has no upper end"
        notes.append(Note.plain("integer-spikes", text))
    return notes + notes_of(ledger, convention)
