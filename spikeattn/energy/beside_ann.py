"""A spiking network beside the layers of an ANN, with real numbers and quantised: part by part, in mJ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.boundary.notes import Note
from spikeattn.energy import verdicts
from spikeattn.energy.accumulators import accumulators
from spikeattn.energy.activity import Activity
from spikeattn.energy.attention_alone import AttentionCharges, cleared
from spikeattn.energy.by_part import amounts_by_part_and_block, in_order, keys_of_layers, scopes_of
from spikeattn.energy.comparison_lines import Pair, lines_beside_ann, notes_on_lines
from spikeattn.energy.comparison_result import Comparison, Resampling
from spikeattn.energy.comparison_tables import (
    divided,
    frame_of,
    in_both,
    intervals_of,
    inverted,
    never_dearer,
    tables_of,
    with_break_even,
)
from spikeattn.energy.convention_notes import notes_of
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_costs
from spikeattn.energy.dense_twin import DenseTwin
from spikeattn.energy.gamma import Zeros, ranges_of, zeros_frame
from spikeattn.energy.paired_runs import model_name
from spikeattn.energy.quantised_ann import QUANTISED, QuantisedAnn
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger

ARITHMETIC = Note(
    "arithmetic",
    "operations x pJ on both sides; neurons and reading weights and activations from memory are in the line of memory "
    "alone",
)


@dataclass(frozen=True, eq=False)
class Pricing:
    """One way to price both networks.

    Attributes:
        table: of both.
        against: the ANN as this pricing has it.
        bits: the most of any layer of a quantised ANN; None for real numbers.
        pj: [layers], of one multiply-accumulate.
        others: tables and pj of the same arithmetic with every width of the accumulator, the own among them.
    """

    table: CostTable
    against: str
    bits: int | None
    pj: Floats
    others: tuple[tuple[CostTable, Floats], ...]


@dataclass(frozen=True, eq=False)
class _Ann:
    """The energy of an ANN by scope.

    Attributes:
        macs: [layers].
        members: [layers, scopes], which layers a scope adds up.
        zeros: what the layers may skip.
        additions: [scopes], of numbers without weights, of which nothing is skipped.
    """

    macs: Floats
    members: Floats
    zeros: Zeros
    additions: Floats

    def mj(self, pj: Floats) -> Floats:
        """[scopes], with pj of [layers] for every multiply-accumulate, without additions."""
        return self.macs * pj @ self.members * PJ_TO_MJ

    def dense(self, pj: Floats, table: CostTable) -> Floats:
        """[scopes], nothing skipped."""
        return self.mj(pj) + self._added(table)

    def priced(self, pj: Floats, table: CostTable, shares: Floats | None = None) -> Floats:
        """[scopes], with the zeros skipped that were measured or given, or at common shares [scopes]."""
        if shares is None or self.zeros.measured:
            return self.mj(pj * (1 - self.zeros.shares)) + self._added(table)
        return self.dense(pj, table) - shares * self.mj(pj * self.zeros.able)

    def _added(self, table: CostTable) -> Floats:
        return self.additions * (table.price("ac") * PJ_TO_MJ) if self.additions.any() else self.additions

    @property
    def measured(self) -> Floats:
        """[scopes], the share of multiply-accumulates that is skipped at the measured zeros."""
        return divided(self.macs * self.zeros.shares @ self.members, self.macs @ self.members)


def compare_with_ann(
    activity: Activity,
    twin: DenseTwin,
    tables: Sequence[CostTable],
    convention: Convention,
    gamma: float | pd.DataFrame | None = None,
    resampling: Resampling = Resampling(),  # noqa: B008 - frozen
) -> Comparison:
    """`compare` for any activity, counted or published rates, and the layers of any ANN."""
    ledger, layers = activity.ledger, twin.layers
    amounts, layer_keys = amounts_by_part_and_block(activity, convention), keys_of_layers(layers)
    added = twin.additions if convention.additions == "counted" else ()
    sides = [set(amounts.keys), {*layer_keys, *((part, block) for part, block, _ in added)}]
    keys = in_order(sides[0] | sides[1])
    amounts, scopes = amounts.over(keys), scopes_of(keys)
    quantised, zeros = QuantisedAnn.of(ledger, twin), Zeros.of(twin, gamma)
    charges = AttentionCharges.of(ledger, convention, amounts, scopes)
    macs, inner = layers["macs"].to_numpy(dtype=float), quantised.inner
    where = [keys.index(key) for key in layer_keys]
    acs = np.zeros(len(keys))
    for part, block, count in added:
        acs[keys.index((part, block))] += count
    members = np.stack([scope.members for scope in scopes], axis=1).astype(float)
    ann = _Ann(macs, members[where], zeros, acs @ members)
    pricings = _pricings(twin, tables, quantised)
    own = intervals_of(amounts, scopes, [pricing.table for pricing in pricings], resampling)

    both = in_both(scopes, keys, sides)
    of_parts = np.array([scope.table == "parts" for scope in scopes])
    frames, ranges, totals, prices = [], [], [], []
    for pricing in pricings:
        table, mine, extra = pricing.table, own[pricing.table.name], charges.extra(pricing.table)
        theirs = ann.priced(pricing.pj, table)
        ratios, dense = inverted(theirs, mine, extra), ann.dense(pricing.pj, table)
        frame = frame_of(amounts, scopes, table, pricing.against, mine, theirs, ratios, extra)
        able = ann.mj(pricing.pj * zeros.able)
        found = zeros_frame(frame, dense, able, zeros, ann.measured)
        high = found["high"].to_numpy()
        never, at_high = (
            never_dearer(amounts, scopes, [(o, ann.priced(pj, o, at), charges.extra(o)) for o, pj in pricing.others])
            for at in (None, high)
        )
        bare = charges.without_ratio(table, mine.value + extra)
        frame = with_break_even(frame, amounts, scopes, table, theirs, extra, never)
        frames.append(cleared(frame, bare).assign(includes=charges.includes(table)))
        kept = both & ~bare & of_parts
        ranges.append(found.assign(cannot_lose=at_high)[kept])
        at_total = theirs if zeros.measured else dense  # at the gamma of `Comparison.total`
        totals.append(frame.assign(against_mj=at_total)[of_parts & (frame["part"] == "total").to_numpy()])
        share = zeros.mean(macs, inner)
        mac_pj = float(divided((macs * pricing.pj)[inner].sum(), macs[inner].sum())) * (1 - share)
        prices.append((table.name, pricing.against, pricing.bits, share, mac_pj, table.price("sop")))
    parts, blocks, attention = tables_of(frames, scopes, keys, sides)
    gammas = pd.concat(ranges, ignore_index=True)
    listed = pd.DataFrame(prices, columns=["costs", "against", "bits", "gamma", "mac_pj", "sop_pj"])
    listed = listed.astype({"bits": "Int64"})
    listed = listed.assign(break_even=divided(listed["mac_pj"], listed["sop_pj"] * ledger.time_steps))
    name = model_name(ledger)
    ends = ranges_of(gammas, zeros.source, resampling.confidence)
    pair = Pair(name, twin.name, ends[0].at_low)
    lines = lines_beside_ann(activity, twin, pair, pd.concat(totals), tables, convention, resampling, ends[0].beside())
    return Comparison(
        name,
        twin.name,
        ends[0].at_low,
        parts,
        blocks,
        attention,
        listed,
        verdicts.beside_ann(name, ledger.time_steps, parts, attention, listed, gammas, ends),
        (*_notes(ledger, twin, quantised, zeros.note(macs), tables, convention), *notes_on_lines(lines, twin)),
        provenance_of(activity, convention, tables, resampling) | {"ann_macs": twin.macs},
        lines,
        gammas,
        ends,
    )


def _pricings(twin: DenseTwin, tables: Sequence[CostTable], quantised: QuantisedAnn) -> list[Pricing]:
    """Every cost table, then the quantised ANN."""

    def every(table: CostTable) -> Floats:
        return np.full(len(twin.layers), table.price("mac"))

    found = [
        Pricing(table, twin.name, None, every(table), tuple((other, every(other)) for other in accumulators(table)))
        for table in tables
    ]
    int8, bits = get_costs(QUANTISED), quantised.most_bits
    others = tuple((other, quantised.pj(other)) for other in accumulators(int8))
    return [*found, Pricing(int8, f"{twin.name}, {bits} bits", bits, quantised.pj(), others)]


def _notes(
    ledger: Ledger,
    twin: DenseTwin,
    quantised: QuantisedAnn,
    skipped: Note,
    tables: Sequence[CostTable],
    convention: Convention,
) -> list[Note]:
    left_out = "batch norm, activations, max-pools and softmax are counted on neither side"
    notes = [
        Note("twin", f"{twin.note}; {left_out}"),
        *_additions(ledger, twin, convention),
        quantised.bits_note(),
        skipped,
        ARITHMETIC,
    ]
    if any(t.kind == "integer" and t.maker == "neuron" and (t.low is None or t.high is None) for t in ledger.tensors):
        text = "largest values unknown, so the bits of the quantised ANN follow from T alone"
        notes.append(Note("integer-spikes", text))
    return [*notes, *notes_of(ledger, convention), *(note for table in tables for note in table.notes())]


def _additions(ledger: Ledger, twin: DenseTwin, convention: Convention) -> list[Note]:
    """Which side has its residual sums and averages counted."""
    if convention.additions != "counted" or not ledger.additions:
        return []
    text = f"residual sums and averages are counted on both sides, in {twin.name} once each"
    if not twin.additions:
        text = f"residual sums and averages of numbers are counted in the spiking network alone: those of {twin.name} "
        text += "are not known"
    return [Note("additions", text)]


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
