"""A spiking network beside the layers of an ANN, with real numbers and quantised: part by part, in mJ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.boundary.notes import Note
from spikeattn.energy import verdicts
from spikeattn.energy.activity import Activity
from spikeattn.energy.by_part import amounts_by_part_and_block, in_order, keys_of_layers, scopes_of
from spikeattn.energy.comparison_result import Comparison, Resampling
from spikeattn.energy.comparison_tables import (
    divided,
    frame_of,
    intervals_of,
    inverted,
    tables_of,
    total_of,
    with_break_even,
)
from spikeattn.energy.convention_notes import notes_of
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_costs
from spikeattn.energy.dense_twin import DenseTwin
from spikeattn.energy.quantised_ann import QUANTISED, QuantisedAnn
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger

ARITHMETIC = Note(
    "arithmetic", "operations x pJ on both sides; reading weights and activations from memory is in neither"
)


def compare_with_ann(
    activity: Activity,
    twin: DenseTwin,
    tables: Sequence[CostTable],
    convention: Convention,
    gamma: float | pd.DataFrame = 0.0,
    resampling: Resampling = Resampling(),  # noqa: B008 - frozen
) -> Comparison:
    """`compare` for any activity, counted or published rates, and the layers of any ANN."""
    ledger, layers = activity.ledger, twin.layers
    amounts, layer_keys = amounts_by_part_and_block(activity, convention), keys_of_layers(layers)
    sides = [set(amounts.keys), set(layer_keys)]
    keys = in_order({*amounts.keys, *layer_keys})
    amounts, scopes = amounts.over(keys), scopes_of(keys)
    quantised = QuantisedAnn.of(ledger, twin, gamma)
    macs, inner, bits = layers["macs"].to_numpy(dtype=float), quantised.inner, quantised.most_bits
    pricings: list[tuple[CostTable, str, int | None, Floats]] = [
        (table, twin.name, None, np.full(len(layers), table.price("mac"))) for table in tables
    ]
    pricings.append((get_costs(QUANTISED), f"{twin.name}, {bits} bits", bits, quantised.pj()))

    own = intervals_of(amounts, scopes, [table for table, *_ in pricings], resampling)
    where = [keys.index(key) for key in layer_keys]
    skipped = float(divided((macs * quantised.skipped)[inner].sum(), macs[inner].sum()))
    frames, prices = [], []
    for table, label, width, pj in pricings:
        per_key = np.bincount(where, weights=macs * pj, minlength=len(keys)) * PJ_TO_MJ
        theirs = np.array([per_key[scope.members].sum() for scope in scopes])
        mine = own[table.name]
        frame = frame_of(amounts, scopes, table, label, mine, theirs, inverted(theirs, mine))
        frames.append(with_break_even(frame, amounts, scopes, table, theirs))
        mac_pj = float(divided((macs * pj)[inner].sum(), macs[inner].sum()))
        prices.append((table.name, label, width, skipped if width else 0.0, mac_pj, table.price("sop")))
    parts, blocks, attention = tables_of(frames, scopes, keys, sides)
    listed = pd.DataFrame(prices, columns=["costs", "against", "bits", "gamma", "mac_pj", "sop_pj"])
    listed = listed.astype({"bits": "Int64"})
    listed = listed.assign(break_even=divided(listed["mac_pj"], listed["sop_pj"] * ledger.time_steps))
    name = model_name(ledger)
    return Comparison(
        name,
        twin.name,
        total_of(parts, resampling.confidence),
        parts,
        blocks,
        attention,
        listed,
        verdicts.beside_ann(name, ledger.time_steps, parts, attention, listed),
        tuple(_notes(ledger, twin, quantised, prices[-1][3], tables, convention)),
        provenance_of(activity, convention, tables, resampling) | {"ann_macs": twin.macs},
    )


def _notes(
    ledger: Ledger,
    twin: DenseTwin,
    quantised: QuantisedAnn,
    skipped: float,
    tables: Sequence[CostTable],
    convention: Convention,
) -> list[Note]:
    left_out = "batch norm, activations, pooling and softmax are counted on neither side"
    notes = [
        Note("twin", f"{twin.note}; {left_out}"),
        quantised.bits_note(),
        quantised.gamma_note(skipped),
        ARITHMETIC,
    ]
    if any(t.kind == "integer" and t.maker == "neuron" and (t.low is None or t.high is None) for t in ledger.tensors):
        text = "largest values unknown, so the bits of the quantised ANN follow from T alone"
        notes.append(Note("integer-spikes", text))
    return [*notes, *notes_of(ledger, convention), *(note for table in tables for note in table.notes())]


def model_name(ledger: Ledger) -> str:
    """The name of a network in sentences."""
    return str(ledger.model.get("name", "the model"))


def provenance_of(
    activity: Activity, convention: Convention, tables: Sequence[CostTable], resampling: Resampling
) -> dict[str, Any]:
    """What a comparison rests on."""
    return {
        "n_images": activity.n_images,
        "time_steps": activity.ledger.time_steps,
        "convention": convention.name,
        "switches": convention.switches(),
        "costs": [table.name for table in tables],
        "replicates": resampling.replicates,
        "seed": resampling.seed,
        "confidence": resampling.confidence,
        **({} if resampling.labels is None else {"cluster": "label"}),
        "ledger": activity.ledger.hash(),
    }
