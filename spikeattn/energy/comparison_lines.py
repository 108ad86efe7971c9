"""The two lines of a comparison: arithmetic; and arithmetic, neurons, addressing and memory, on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import Activity, Run
from spikeattn.energy.ann_memory import charges_of_ann
from spikeattn.energy.comparison_result import Resampling
from spikeattn.energy.components import EVERYTHING, ComponentTable, components
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import CostTable
from spikeattn.energy.dense_twin import ATTENTION, DenseTwin
from spikeattn.energy.estimate import price
from spikeattn.energy.models.memory import check_prices
from spikeattn.energy.models.registry import DEFAULT, EnergyModel, get_model
from spikeattn.energy.profile_argument import counted
from spikeattn.energy.scope_line import ARITHMETIC, MEMORY, ScopeLine, a_ratio, constant, missing_line
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Interval
from spikeattn.stats.quantity import Quantity
from spikeattn.stats.ratios import ratio_intervals
from spikeattn.storage.ledger import Ledger

Lines = tuple[ScopeLine, ScopeLine]
ALONE = "operations of layers and attention x pJ; no neuron, no address and no memory is in it"
WHOLE = "arithmetic, biases, neurons (leak and reset), addressing, and every word read from or written to memory"


class Pair(NamedTuple):
    """The two networks of a comparison, by name, and the total of its first pricing."""

    name: str
    against: str
    ratio: Quantity


def lines_beside_ann(
    activity: Activity,
    twin: DenseTwin,
    pair: Pair,
    parts: pd.DataFrame,
    tables: Sequence[CostTable],
    convention: Convention,
    resampling: Resampling,
    zeros: str = "",
) -> Lines:
    """Both lines of a spiking network beside an ANN.

    Args:
        zeros: at which share of zeros parts and the pair stand, and what the ratio of arithmetic is elsewhere.
        pair, parts: of the comparison.
        tables: the first prices the arithmetic; the first with prices of memories the second line.
    """
    confidence = resampling.confidence
    own = price(activity, tables[0], convention, *resampling.arguments, resampling.labels).total
    other = constant(_dense(parts, tables[0], twin.name), confidence)
    first = ScopeLine(ARITHMETIC, pair.name, pair.against, own, other, pair.ratio, tables[0].name, ALONE, zeros=zeros)
    model = get_model(DEFAULT)
    table, why = _with_memory(tables, model)
    why = why or _unready(activity)
    if twin.sizes is None:
        why = why or f"the sizes of the layers of {twin.name} were not measured"
    if why or table is None or twin.sizes is None:
        return first, missing_line(MEMORY, pair.name, pair.against, why, WHOLE)
    assert isinstance(activity, Run)  # `_unready` has seen to it
    spent = _components(activity, table, model, convention, resampling)
    charges = charges_of_ann(twin.sizes.layers, table, model)
    beyond = float(charges.loc[charges["component"] != "compute", "energy_mj"].sum())
    mine, dense = _whole(spent, confidence), _dense(parts, table, twin.name) + beyond
    whole, said = constant(dense, confidence), _includes(convention)
    without = twin.sizes.unknown
    ratio, at = _over(dense, mine), zeros.partition(",")[0]
    return first, ScopeLine(MEMORY, pair.name, pair.against, mine, whole, ratio, table.name, said, without, zeros=at)


def lines_beside_profile(
    profile: Run,
    other: Run,
    pair: Pair,
    tables: Sequence[CostTable],
    convention: Convention,
    resampling: Resampling,
) -> Lines:
    """Both lines of two spiking networks over the same images, which are drawn together."""
    sides = [counted(run) for run in (profile, other)]
    own, theirs = (price(side, tables[0], convention, *resampling.arguments, resampling.labels).total for side in sides)
    first = ScopeLine(ARITHMETIC, pair.name, pair.against, own, theirs, pair.ratio, tables[0].name, ALONE)
    model = get_model(DEFAULT)
    table, why = _with_memory(tables, model)
    why = why or _unready(profile) or _unready(other)
    if why or table is None:
        return first, missing_line(MEMORY, pair.name, pair.against, why, WHOLE)
    mine, their = (_components(side, table, model, convention, resampling) for side in sides)
    totals = [spent.per_image.to_numpy().sum(axis=1) for spent in (their, mine)]
    ratio = a_ratio(ratio_intervals(totals[0], totals[1], *resampling.arguments, labels=resampling.labels)[0])
    whole, theirs = (_whole(spent, resampling.confidence) for spent in (mine, their))
    second = ScopeLine(MEMORY, pair.name, pair.against, whole, theirs, ratio, table.name, _includes(convention))
    return first, second


def notes_on_lines(lines: Lines, twin: DenseTwin | None = None) -> list[Note]:
    """What a reader of the second line must know."""
    line = lines[1]
    if line.missing:
        return []
    text = f"{line.includes}; of products of spikes and of residual streams nobody counts the memory"
    if twin is not None and twin.sizes is not None:
        text += f". {line.against} reads every weight and input, zero or not, and writes each output once, after its "
        text += "activation, whose comparison with 0 is free as that with a threshold is"
        if any(size.part == ATTENTION for size in twin.sizes.layers):
            text += "; of its softmax attention queries, keys, values and scores are read and written"
    return [Note("memory", text)]


def _with_memory(tables: Sequence[CostTable], model: EnergyModel) -> tuple[CostTable | None, str]:
    """The first cost table that prices memories; or why there is none."""
    for table in tables:
        try:
            check_prices(table, model)
        except SpikeattnError:
            continue
        return table, ""
    names = ", ".join(table.name for table in tables)
    has = "has" if len(tables) == 1 else "have"
    return None, f"{names} {has} no prices of memories; give a cost table with some, such as horowitz-45nm-fp32"


def _unready(activity: Run | Activity) -> str:
    """Why the memory of a spiking network is not known; "" where it is."""
    if not isinstance(activity, Run):
        return "published rates hold no counts of spikes; profile the network"
    ledger: Ledger = activity.ledger
    if any(synapse.weights == 0 for synapse in ledger.synapses):
        return "this run is of a version that recorded no numbers of weights; profile again"
    return ""


def _components(
    run: Run, table: CostTable, model: EnergyModel, convention: Convention, resampling: Resampling
) -> ComponentTable:
    cluster = None if resampling.labels is None else "label"
    return components(run, table, model, convention.first_conv, *resampling.arguments, cluster)


def _whole(spent: ComponentTable, confidence: float) -> Quantity:
    """The memory-inclusive total of `components`."""
    row = spent[spent["component"] == EVERYTHING].iloc[0]
    value, low, high = (float(row[key]) for key in ("energy_mj", "ci_low", "ci_high"))
    return Quantity(value, low, high, str(row["interval"]), confidence)


def _over(dense: float, own: Interval) -> Quantity:
    """Ratio of a constant to a mean: the limits of the mean turned round."""
    method = "lower bound" if own.method == "upper bound" else own.method
    with np.errstate(divide="ignore", invalid="ignore"):
        value, low, high = (float(np.float64(dense) / limit) for limit in (own.value, own.high, own.low))
    return a_ratio(Interval(value, low, high, method, own.confidence))


def _dense(parts: pd.DataFrame, table: CostTable, against: str) -> float:
    """mJ of the other network's arithmetic under a cost table: the total of a comparison."""
    chosen = (parts["costs"] == table.name) & (parts["against"] == against) & (parts["part"] == "total")
    return float(parts.loc[chosen, "against_mj"].iloc[0])


def _includes(convention: Convention) -> str:
    exact = get_convention("exact", first_conv=convention.first_conv)
    if convention.switches() == exact.switches():
        return WHOLE
    return f"{WHOLE}; counted exactly, not under the convention {convention.name}"
