"""A spiking network beside an ANN, or beside another spiking network: part by part, in mJ, with paired intervals.

Arithmetic on both sides, under one convention and one cost table at a time; memory traffic is on neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spikeattn.energy import verdicts
from spikeattn.energy.activity import Activity, CountedActivity, Run, check_run
from spikeattn.energy.by_part import cells_of, in_order, keys_of, keys_of_layers, scopes_of
from spikeattn.energy.comparison_result import (
    Comparison,
    Resampling,
    divided,
    frame_of,
    intervals_of,
    inverted,
    matched_bits,
    tables_of,
    total_of,
    with_break_even,
)
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import CostTable, get_cost_tables, get_costs
from spikeattn.energy.estimate import PJ_TO_MJ
from spikeattn.energy.rules import notes_of
from spikeattn.energy.twins import DenseTwin, twin_for
from spikeattn.errors import SpikeattnError
from spikeattn.stats.bootstrap import check_resampling
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES, Floats
from spikeattn.stats.ratios import ratio_intervals
from spikeattn.storage.ledger import Ledger

if TYPE_CHECKING:
    from torch import nn

COSTS = ("horowitz-45nm-fp32", "horowitz-45nm-int8")
QUANTISED = "horowitz-45nm-int8"  # what the ANN of few bits, and the spiking network beside it, are priced in
ARITHMETIC = "arithmetic: operations x pJ on both sides; reading weights and activations from memory is in neither"


def compare(
    profile: Run,
    ann: nn.Module | str | Run | DenseTwin | None = None,
    costs: str | Path | CostTable | Sequence[str | Path | CostTable] = COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    gamma: float | pd.DataFrame = 0.0,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """A profiled network beside its ANN twin, beside another ANN, or beside another profile of the same images.

    Beside an ANN every cost table prices both networks, and one more pricing sets the spiking network in int8 beside
    the ANN quantised to as many levels as T steps of spikes can tell apart, b = ceil(log2((max - min) T + 1)) bits for
    spikes from min to max units, ceil(log2(T + 1)) for binary ones (Yan et al., arXiv 2409.08290). Its
    multiply-accumulate is priced, by our choice, as an int8 multiplication x b / 8 + an int8 addition; the layer that
    reads the image keeps 8 bits, as in the spiking network. Where the ANN has the layers of the spiking network, b is
    that of the spikes each of them receives; elsewhere it is the largest of them.

    Args:
        profile: the spiking network's run.
        ann: a network, or the name of one in timm; another profile; None for the twin of one of this package's models,
            or, of any other, for its layers once and softmax attention in place of spiking ones (`twins.dense_twin`);
            or the twin that `measured_twin` has run and counted.
        costs, convention: as of `profile.energy`; several cost tables are priced one after the other.
        gamma: share of the quantised ANN's multiply-accumulates that hardware skips because the activation is zero, in
            all layers but the first; or the table of `measure_gamma`, layer by layer.
        replicates, seed, confidence: of the bootstrap over images. An ANN costs the same for every image; of two
            profiles the same images are drawn.

    Returns:
        `Comparison`: mJ per image of both, their ratio (the other's energy / the spiking one's) and break-even rates,
        per part, per block and in sentences.

    Raises:
        SpikeattnError: profiles of different images, a spiking network given as ANN, one that does not take the images,
            gamma outside 0..1, unknown costs or convention, a cost table without multiply-accumulates.
    """
    convention, resampling = get_convention(convention), Resampling(replicates, seed, confidence)
    check_resampling(replicates, seed, confidence)
    check_run("profile", profile)
    tables = get_cost_tables(costs)
    if isinstance(ann, Run):
        if not isinstance(gamma, Real) or gamma != 0:
            raise SpikeattnError("gamma is about a quantised ANN; beside another profile leave it out")
        return compare_profiles(profile, ann, tables, convention, resampling)
    twin = twin_for(profile.ledger, ann)
    activity = CountedActivity(profile.ledger, profile.counts)
    made = compare_activity(profile.ledger, activity, twin, tables, convention, gamma, resampling)
    return replace(made, notes=(*made.notes, *profile.ledger.warnings))


def compare_activity(
    ledger: Ledger,
    activity: Activity,
    twin: DenseTwin,
    tables: Sequence[CostTable],
    convention: Convention,
    gamma: float | pd.DataFrame = 0.0,
    resampling: Resampling = Resampling(),  # noqa: B008 - frozen
) -> Comparison:
    """`compare` for any activity, counted or published rates, and the layers of any ANN."""
    layers, T = twin.layers, ledger.time_steps
    layer_keys, own_keys = keys_of_layers(layers), keys_of(ledger, convention)
    keys = in_order({*own_keys, *layer_keys})
    cells, scopes = cells_of(ledger, activity, convention, keys), scopes_of(keys)
    macs, inner = layers["macs"].to_numpy(dtype=float), ~layers["reads_image"].to_numpy(dtype=bool)
    skipped, int8 = _gammas(twin, gamma), get_costs(QUANTISED)
    each = _bits(ledger, twin)
    bits = int(each[inner].max()) if inner.any() else T.bit_length()
    narrow = (int8.price("mult") * each / 8 + int8.price("add")) * (1 - skipped)
    pricings: list[tuple[CostTable, str, int | None, Floats]] = [
        (table, twin.name, None, np.full(len(layers), table.price("mac"))) for table in tables
    ]
    pricings.append((int8, f"{twin.name}, {bits} bits", bits, np.where(inner, narrow, int8.price("mac"))))

    own = intervals_of(cells, scopes, [table for table, *_ in pricings], resampling)
    where = [keys.index(key) for key in layer_keys]
    frames, prices = [], []
    for table, label, width, pj in pricings:
        per_cell = np.bincount(where, weights=macs * pj, minlength=len(keys)) * PJ_TO_MJ
        theirs = np.array([per_cell[scope.cells].sum() for scope in scopes])
        made = own[table.name]
        frame = frame_of(cells, scopes, table, label, made, theirs, inverted(theirs, made))
        frames.append(with_break_even(frame, cells, scopes, table, theirs))
        mac_pj = float(divided((macs * pj)[inner].sum(), macs[inner].sum()))
        share = float(divided((macs * skipped)[inner].sum(), macs[inner].sum())) if width else 0.0
        prices.append((table.name, label, width, share, mac_pj, table.price("sop")))
    parts, blocks, attention = tables_of(frames, scopes, keys, [own_keys, set(layer_keys)])
    listed = pd.DataFrame(prices, columns=["costs", "against", "bits", "gamma", "mac_pj", "sop_pj"])
    listed = listed.astype({"bits": "Int64"}).assign(break_even=divided(listed["mac_pj"], listed["sop_pj"] * T))
    name = _name(ledger)
    notes = [
        f"twin: {twin.note}; batch norm, activations, pooling and softmax are counted on neither side",
        _bits_note(each[inner], bits, T),
        _gamma_note(gamma, prices[-1][3]),
        ARITHMETIC,
    ]
    if any(t.kind == "integer" and t.maker == "neuron" and (t.low is None or t.high is None) for t in ledger.tensors):
        notes.append("integer-spikes: largest values unknown, so the bits of the quantised ANN follow from T alone")
    notes += [*notes_of(ledger, convention), *(note for table in tables for note in table.notes())]
    return Comparison(
        name,
        twin.name,
        total_of(parts, resampling.confidence),
        parts,
        blocks,
        attention,
        listed,
        verdicts.beside_ann(name, T, parts, attention, listed),
        tuple(notes),
        _provenance(ledger, activity, convention, tables, resampling) | {"ann_macs": twin.macs},
    )


def compare_profiles(
    profile: Run, other: Run, tables: Sequence[CostTable], convention: Convention, resampling: Resampling
) -> Comparison:
    """`compare` for two runs over the same images; the ratio is the other's energy over this one's."""
    _check_same_images(profile, other)
    runs = (profile, other)
    sides = [keys_of(run.ledger, convention) for run in runs]
    keys = in_order(sides[0] | sides[1])
    scopes = scopes_of(keys)
    mine, theirs = (cells_of(run.ledger, CountedActivity(run.ledger, run.counts), convention, keys) for run in runs)
    own = intervals_of(mine, scopes, tables, resampling)
    name, against = _names(profile, other)
    frames = []
    for table in tables:
        ratio = ratio_intervals(theirs.energies(table, scopes), mine.energies(table, scopes), *resampling.arguments)
        value = theirs.energies(table, scopes).mean(axis=0)
        limits = (ratio.value, ratio.low, ratio.high, ratio.method)
        frames.append(frame_of(mine, scopes, table, against, own[table.name], value, limits))
    parts, blocks, attention = tables_of(frames, scopes, keys, sides)
    prices = pd.DataFrame(
        [(table.name, against, table.price("mac"), table.price("sop")) for table in tables],
        columns=["costs", "against", "mac_pj", "sop_pj"],
    )
    n_images = profile.counts.n_images
    notes = [f"paired: both networks saw the same {n_images} images, which are drawn together", ARITHMETIC]
    for label, run in zip((name, against), runs, strict=True):
        notes += [f"{label}: {note}" for note in (*notes_of(run.ledger, convention), *run.ledger.warnings)]
    notes += [note for table in tables for note in table.notes()]
    activity = CountedActivity(profile.ledger, profile.counts)
    return Comparison(
        name,
        against,
        total_of(parts, resampling.confidence),
        parts,
        blocks,
        attention,
        prices,
        verdicts.beside_profile(name, parts),
        tuple(notes),
        _provenance(profile.ledger, activity, convention, tables, resampling)
        | {"against_ledger": other.ledger.hash(), "against_time_steps": other.ledger.time_steps},
    )


def _check_same_images(profile: Run, other: Run) -> None:
    mine, theirs = (run.counts.rows[["index", "id", "label"]] for run in (profile, other))
    if len(mine) == len(theirs) and mine[["index", "id"]].equals(theirs[["index", "id"]]):
        known = (mine["label"] >= 0) & (theirs["label"] >= 0)
        if (wrong := known & (mine["label"] != theirs["label"])).any():
            first = mine[wrong].iloc[0]
            raise SpikeattnError(
                f"image {first['id']} has label {first['label']} in one profile and "
                f"{theirs['label'][wrong].iloc[0]} in the other: these are different data sets; a paired comparison "
                "needs the same images"
            )
        return
    common = len(mine.merge(theirs, on=["index", "id"]))
    raise SpikeattnError(
        f"the two profiles are of different images: {len(mine)} and {len(theirs)}, of which {common} are the same by "
        "number and name; a paired comparison needs the same images, so profile both with the same data, split and "
        "selection"
    )


def _gammas(twin: DenseTwin, gamma: float | pd.DataFrame) -> Floats:
    """Share of skipped multiply-accumulates per layer; 0 in layers that read the image."""
    layers = twin.layers
    if isinstance(gamma, pd.DataFrame):
        if missing := sorted({"layer", "gamma"} - set(gamma.columns)):
            raise SpikeattnError(f"gamma lacks the column {missing[0]!r}; give a share or the table of measure_gamma")
        known = dict(zip(gamma["layer"], gamma["gamma"], strict=True))
        if absent := [layer for layer in layers["layer"] if layer not in known]:
            raise SpikeattnError(
                f"gamma was measured on another network: {len(absent)} of the {len(layers)} layers of {twin.name} are "
                f"not in it, the first is {absent[0]!r}"
            )
        share = layers["layer"].map(known).to_numpy(dtype=float)
    elif isinstance(gamma, Real) and not isinstance(gamma, bool):
        share = np.full(len(layers), float(gamma))
    else:
        raise SpikeattnError(f"gamma is a {type(gamma).__name__}; give a share from 0 to 1 or a measure_gamma table")
    if (bad := ~((share >= 0) & (share <= 1))).any():
        raise SpikeattnError(f"gamma is {share[bad][0]:g}; it is a share, from 0 to 1")
    return np.where(layers["reads_image"], 0.0, share)


def _bits(ledger: Ledger, twin: DenseTwin) -> Floats:
    """Bits of every layer of the quantised ANN: each its own where they are the ledger's layers, else the largest."""
    own, most = matched_bits(ledger)
    names = list(twin.layers["layer"])
    return np.array([own[name] for name in names] if set(names) <= set(own) else [most] * len(names), dtype=float)


def _bits_note(each: Floats, most: int, time_steps: int) -> str:
    steps = "binary steps" if most == time_steps.bit_length() else "steps of these spikes"
    varying = len(set(each)) > 1
    least, b = (f"{each.min():.0f} to ", "b") if varying else ("", str(most))
    return (
        f"quantised: {least}{most} bits tell apart as many levels as {time_steps} {steps} (arXiv 2409.08290); "
        f"multiply-accumulate = int8 multiplication x {b}/8 + int8 addition (our choice), 8 bits in the layer that "
        "reads the image"
    )


def _gamma_note(gamma: float | pd.DataFrame, mean: float) -> str:
    how = "as measured" if isinstance(gamma, pd.DataFrame) else "assumed, not measured"
    return f"gamma: {mean:.4g} of the quantised ANN's multiply-accumulates are skipped for a zero activation ({how})"


def _name(ledger: Ledger) -> str:
    return str(ledger.model.get("name", "the model"))


def _names(profile: Run, other: Run) -> tuple[str, str]:
    """The names of two models; the same model twice is told apart by T, or by its order."""
    name, against = _name(profile.ledger), _name(other.ledger)
    if name != against:
        return name, against
    if profile.ledger.time_steps != other.ledger.time_steps:
        return f"{name}, T={profile.ledger.time_steps}", f"{against}, T={other.ledger.time_steps}"
    return name, f"the other {against}"


def _provenance(
    ledger: Ledger, activity: Activity, convention: Convention, tables: Sequence[CostTable], resampling: Resampling
) -> dict[str, Any]:
    return {
        "n_images": activity.n_images,
        "time_steps": ledger.time_steps,
        "convention": convention.name,
        "switches": convention.switches(),
        "costs": [table.name for table in tables],
        "replicates": resampling.replicates,
        "seed": resampling.seed,
        "confidence": resampling.confidence,
        "ledger": ledger.hash(),
    }
