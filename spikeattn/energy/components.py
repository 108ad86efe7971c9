"""Energy of a count table, component by component: arithmetic, neurons, addressing and memory, with intervals."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from spikeattn.energy.activity import CountedActivity, CountTable
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.counted_terms import Constant, part_order
from spikeattn.energy.estimate import PJ_TO_MJ, sample_of, unpriced_notes
from spikeattn.energy.models.memory import COMPONENTS, LEAKY, NOT_LEAKY, Line, check_prices, lines_of, word_price
from spikeattn.energy.models.registry import DEFAULT as DEFAULT_MODEL
from spikeattn.energy.models.registry import EnergyModel, get_model
from spikeattn.energy.rules import notes_of
from spikeattn.stats import intervals
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger

EVERYTHING = "memory-inclusive total"


class ComponentTable(pd.DataFrame):
    """Energy per part and component, a DataFrame that carries how it came about.

    Rows: every component of every part in the order of the network; then the components of part "total"; then, for
    models with memory, one row whose component is "memory-inclusive total", named so that it cannot pass for the
    compute-only figure of the literature. Columns: part, component, energy_mj (per image), ci_low, ci_high, interval
    (the method). What is derived from the table (a slice, a copy) is a plain DataFrame.

    Attributes:
        lines: what was charged, one row per layer or population and kind: name, part, component, what, amount (per
            image), unit ("operations" or "words"), buffer_bytes (of the memory that holds the words), pj (of one),
            energy_mj.
        per_image: mJ of every image, a column per component.
        costs, model: the cost table and the energy model.
        notes: choices and limits a reader must know, one sentence each.
        provenance: costs, model, settings, n_images, time_steps, replicates, seed, confidence, ledger hash.
    """

    _metadata: ClassVar[list[str]] = ["lines", "per_image", "costs", "model", "notes", "provenance"]
    lines: pd.DataFrame
    per_image: pd.DataFrame
    costs: CostTable
    model: EnergyModel
    notes: list[str]
    provenance: dict[str, Any]

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def wide(self) -> pd.DataFrame:
        """mJ per image with a row per part and a column per component; NaN where a part has no such component."""
        rows = self[self["component"] != EVERYTHING]
        frame = rows.pivot(index="part", columns="component", values="energy_mj")
        frame = frame.loc[rows["part"].unique(), [c for c in COMPONENTS if c in frame]]
        frame.columns.name = None
        return frame.reset_index()


def components(
    ledger: Ledger,
    counts: CountTable,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    model: str | EnergyModel = DEFAULT_MODEL,
    first_conv: str = "once",
    replicates: int = intervals.REPLICATES,
    seed: int = 0,
    confidence: float = intervals.CONFIDENCE,
) -> ComponentTable:
    """Energy per image, part and component in mJ, with an interval over images; see `memory` for what is charged.

    Args:
        model: "compute", "compute+memory", "lemaire-2022", or `get_model(name, off_chip=True, ...)`.
        first_conv: "once" or "every-step", how often the first layer runs on a still image.

    Raises:
        SpikeattnError: unknown model or cost table, a cost table without prices of memories, a run that does not hold
            numbers of weights, zero images, counts that do not belong to the ledger.
    """
    costs, model = get_costs(costs), get_model(model)
    convention = get_convention("exact", first_conv=first_conv)
    check_prices(costs, model)
    activity = CountedActivity(ledger, counts)
    total = lru_cache(maxsize=8)(activity.total)  # the lines of a layer stand together
    lines = lines_of(ledger, convention, model)
    rows = sorted({(line.part, line.component) for line in lines}, key=_order)
    energies = np.zeros((activity.n_images, len(rows)))
    ceiling, floor = np.zeros(len(rows)), np.zeros(len(rows))
    charged, unpriced, priced = [], {}, np.zeros(len(rows), dtype=bool)
    for line in lines:
        amount, row = total(line.source) * line.factor, rows.index((line.part, line.component))
        if line.op is not None and not costs.has(line.op):
            unpriced[line.what] = unpriced.get(line.what, 0.0) + float(amount.mean())
            continue
        pj = costs.price(line.op) if line.op is not None else word_price(costs, model, line.buffer or 0)
        energies[:, row] += amount * (pj * PJ_TO_MJ)
        ceiling[row] += line.ceiling * pj * PJ_TO_MJ if pj else 0.0
        floor[row] += amount[0] * pj * PJ_TO_MJ if isinstance(line.source, Constant) else 0.0
        priced[row] = True
        charged.append(_charged(line, float(amount.mean()), pj, costs))

    kinds = [component for component in COMPONENTS if any(component == found for _, found in rows)]
    of_kind = np.array([[component == kind for kind in kinds] for _, component in rows], dtype=float)
    finite = np.where(np.isfinite(ceiling), ceiling, 0.0)
    boundless = (np.isinf(ceiling).astype(float) @ of_kind) > 0
    per_image, most = energies @ of_kind, np.where(boundless, np.inf, finite @ of_kind)
    least = floor @ of_kind
    columns, ceilings, floors = [energies, per_image], [ceiling, most], [floor, least]
    labels = [*rows, *(("total", kind) for kind in kinds)]
    if model.memory:
        columns.append(per_image.sum(axis=1, keepdims=True))
        ceilings.append(most.sum(keepdims=True))
        floors.append(least.sum(keepdims=True))
        labels.append(("total", EVERYTHING))
    found = intervals.mean_intervals(
        np.concatenate(columns, axis=1),
        replicates,
        seed,
        confidence,
        ceiling=np.concatenate(ceilings),
        floor=np.concatenate(floors),
    )
    table = ComponentTable(
        {
            "part": [part for part, _ in labels],
            "component": [component for _, component in labels],
            "energy_mj": found.value,
            "ci_low": found.low,
            "ci_high": found.high,
            "interval": found.method,
        }
    )
    table.loc[np.flatnonzero(~priced), ["energy_mj", "ci_low", "ci_high"]] = np.nan
    table.loc[np.flatnonzero(~priced), "interval"] = "none"
    table.lines = pd.DataFrame(charged).astype({"buffer_bytes": "Int64"})
    table.per_image = pd.DataFrame(per_image, columns=kinds)
    table.costs, table.model = costs, model
    table.notes = [
        *notes_of(ledger, convention),
        *_notes(ledger, model, costs, table.lines, per_image.mean(axis=0), kinds),
        *costs.notes(),
        *unpriced_notes(costs, unpriced),
    ]
    table.provenance = {
        "costs": costs.name,
        "cost_source": costs.source,
        "model": model.name,
        "model_source": model.source,
        "first_conv": first_conv,
        **sample_of(ledger, activity, replicates, seed, confidence),
    }
    return table


def _order(row: tuple[str, str]) -> tuple[Any, ...]:
    part, component = row
    return *part_order(part), COMPONENTS.index(component)


def _charged(line: Line, amount: float, pj: float, costs: CostTable) -> dict[str, Any]:
    size = None if line.buffer is None or costs.bits is None else line.buffer * costs.bits // 8
    return {
        "name": line.name,
        "part": line.part,
        "component": line.component,
        "what": line.what,
        "amount": amount,
        "unit": "operations" if line.op is not None else "words",
        "buffer_bytes": size,
        "pj": pj,
        "energy_mj": amount * pj * PJ_TO_MJ,
    }


def _notes(
    ledger: Ledger, model: EnergyModel, costs: CostTable, lines: pd.DataFrame, means: Floats, kinds: list[str]
) -> list[str]:
    if not model.memory:
        return ["arithmetic alone: addressing, memory and neurons are not in this figure"]
    notes = []
    compute = float(means[kinds.index("compute")]) if "compute" in kinds else 0.0
    if compute > 0:
        notes.append(
            f"memory-inclusive: all components together are {means.sum() / compute:.1f} times compute alone; published "
            "energies of spiking transformers are compute alone, so quote the two apart and never compare one with the "
            "other"
        )
    assert costs.bits is not None
    notes.append(f"words: weights, activations and membrane potentials have {costs.bits} bits each")
    largest = max(memory.bytes for memory in costs.memory.values() if memory.bytes is not None)
    over = sorted(lines.loc[lines["buffer_bytes"].gt(largest).fillna(False), "name"].unique())
    if over:
        where = "off the chip" if model.off_chip else "in several of that size (off_chip=True prices them off the chip)"
        notes.append(
            f"large-buffers: {len(over)} layers or populations have more than {largest:,} bytes, {where}: {_few(over)}"
        )
    products = [product.name for product in ledger.products if product.op != "mask"]
    if products:
        notes.append(
            f"products: of {len(products)} token sums and matrix products the additions are counted, their memory and "
            f"addressing are not: {_few(products)}"
        )
    classes = sorted({t.neuron or "unknown" for t in ledger.tensors if t.maker == "neuron"} - {*LEAKY, *NOT_LEAKY})
    if classes:
        notes.append(f"neurons: {', '.join(classes)} charged as a leaky neuron with one state; it may cost more")
    return notes


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
