"""Energy of a count table, component by component: arithmetic, neurons, addressing and memory, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import Run
from spikeattn.energy.component_charges import charges_of, with_totals
from spikeattn.energy.convention_notes import notes_of
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.estimate import sample_of, unpriced_notes
from spikeattn.energy.models.memory import COMPONENTS, LEAKY, NOT_LEAKY, check_prices, lines_of
from spikeattn.energy.models.registry import DEFAULT as DEFAULT_MODEL
from spikeattn.energy.models.registry import EnergyModel, get_model
from spikeattn.energy.profile_argument import counted, labels_to_cluster, of_profile, once_named
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
    notes: list[Note]
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


@of_profile
@once_named("model", "energy_model")
def components(
    profile: Run,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    energy_model: str | EnergyModel = DEFAULT_MODEL,
    first_conv: str = "once",
    replicates: int = intervals.REPLICATES,
    seed: int = 0,
    confidence: float = intervals.CONFIDENCE,
    cluster: str | None = None,
) -> ComponentTable:
    """Energy per image, part and component in mJ, with an interval over images; see `memory` for what is charged.

    Args:
        profile: a finished run; a ledger and its counts, two arguments, may stand in its place.
        energy_model: "compute", "compute+memory", "lemaire-2022", or `get_model(name, off_chip=True, ...)`.
        first_conv: "once" or "every-step", how often the first layer runs on a still image.
        cluster: "label" to draw classes, each with its images, in place of images; see `stats.classes`.

    Raises:
        SpikeattnError: unknown model or cost table, a cost table without prices of memories, a run that does not hold
            numbers of weights, zero images, counts that do not belong to the ledger.
    """
    costs, model = get_costs(costs), get_model(energy_model)
    convention = get_convention("exact", first_conv=first_conv)
    check_prices(costs, model)
    activity = counted(profile)
    charges = charges_of(activity, costs, model, lines_of(activity.ledger, convention, model))
    labels_of_images = labels_to_cluster(profile, cluster)
    kinds, per_image, limits = with_totals(charges, model, replicates, seed, confidence, labels_of_images)
    labels = [*charges.rows, *(("total", kind) for kind in kinds)]
    if model.memory:
        labels.append(("total", EVERYTHING))
    table = ComponentTable(
        {
            "part": [part for part, _ in labels],
            "component": [component for _, component in labels],
            "energy_mj": limits.value,
            "ci_low": limits.low,
            "ci_high": limits.high,
            "interval": limits.method,
        }
    )
    unpriced = np.flatnonzero(~charges.priced)
    table.loc[unpriced, ["energy_mj", "ci_low", "ci_high"]] = np.nan
    table.loc[unpriced, "interval"] = "none"
    table.lines = pd.DataFrame(charges.charged).astype({"buffer_bytes": "Int64"})
    table.per_image = pd.DataFrame(per_image, columns=kinds)
    table.costs, table.model = costs, model
    table.notes = [
        *notes_of(activity.ledger, convention),
        *_notes(activity.ledger, model, costs, table.lines, per_image.mean(axis=0), kinds),
        *costs.notes(),
        *unpriced_notes(costs, charges.unpriced),
    ]
    table.provenance = {
        "costs": costs.name,
        "cost_source": costs.source,
        "model": model.name,
        "model_source": model.source,
        "first_conv": first_conv,
        **sample_of(activity, replicates, seed, confidence),
        **({} if cluster is None else {"cluster": cluster}),
    }
    return table


def _notes(
    ledger: Ledger, model: EnergyModel, costs: CostTable, lines: pd.DataFrame, means: Floats, kinds: list[str]
) -> list[Note]:
    if not model.memory:
        text = "arithmetic alone: addressing, memory and neurons are not in this figure"
        return [Note.plain("arithmetic", text)]
    notes = []
    compute = float(means[kinds.index("compute")]) if "compute" in kinds else 0.0
    if compute > 0:
        text = (
            f"all components together are {means.sum() / compute:.1f} times compute alone; published energies of "
            "spiking transformers are compute alone, so quote the two apart and never compare one with the other"
        )
        notes.append(Note("memory-inclusive", text))
    assert costs.bits is not None  # `check_prices` has seen to it
    notes.append(Note("words", f"weights, activations and membrane potentials have {costs.bits} bits each"))
    largest = max(memory.bytes for memory in costs.memory.values() if memory.bytes is not None)
    over = sorted(lines.loc[lines["buffer_bytes"].gt(largest).fillna(False), "name"].unique())
    if over:
        where = "off the chip" if model.off_chip else "in several of that size (off_chip=True prices them off the chip)"
        text = f"{len(over)} layers or populations have more than {largest:,} bytes, {where}: {_few(over)}"
        notes.append(Note("large-buffers", text))
    products = [product.name for product in ledger.products if product.op != "mask"]
    if products:
        text = (
            f"of {len(products)} token sums and matrix products the additions are counted, their memory and addressing "
            f"are not: {_few(products)}"
        )
        notes.append(Note("products", text))
    classes = sorted({t.neuron or "unknown" for t in ledger.tensors if t.maker == "neuron"} - {*LEAKY, *NOT_LEAKY})
    if classes:
        text = f"{', '.join(classes)} charged as a leaky neuron with one state; it may cost more"
        notes.append(Note("neurons", text))
    return notes


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
