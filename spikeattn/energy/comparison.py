"""A spiking network beside an ANN, or beside another spiking network: part by part, in mJ, with paired intervals.

Arithmetic on both sides, under one convention and one cost table at a time; one line more sets arithmetic, neurons,
addressing and memory of both beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import pandas as pd

from spikeattn.boundary.notes import Note
from spikeattn.energy import verdicts
from spikeattn.energy.accumulators import INT8
from spikeattn.energy.activity import Activity, Run, check_run
from spikeattn.energy.beside_ann import ARITHMETIC, compare_with_ann, provenance_of
from spikeattn.energy.by_part import amounts_by_part_and_block, energies_of, in_order, scopes_of
from spikeattn.energy.comparison_lines import Pair, lines_beside_profile, notes_on_lines
from spikeattn.energy.comparison_result import Comparison, Resampling
from spikeattn.energy.comparison_tables import frame_of, intervals_of, tables_of, total_of
from spikeattn.energy.convention_notes import notes_of
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import CostTable, get_cost_tables
from spikeattn.energy.dense_twin import DenseTwin
from spikeattn.energy.paired_runs import check_same_images, names_of
from spikeattn.energy.profile_argument import activity_of, counted, labels_to_cluster, once_named
from spikeattn.energy.seed_comparison import compare_seeds
from spikeattn.energy.seed_result import SeedComparison
from spikeattn.energy.seed_runs import listed
from spikeattn.energy.twins import twin_for
from spikeattn.errors import SpikeattnError
from spikeattn.stats.bootstrap import check_resampling
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES
from spikeattn.stats.ratios import ratio_intervals

if TYPE_CHECKING:
    from torch import nn

COSTS = ("horowitz-45nm-fp32", INT8)


@overload
def compare(
    profile: Run | Activity,
    against: nn.Module | str | Run | DenseTwin | None = ...,
    costs: str | Path | CostTable | Sequence[str | Path | CostTable] = ...,
    convention: str | Convention = ...,
    gamma: float | pd.DataFrame | None = ...,
    replicates: int = ...,
    seed: int = ...,
    confidence: float = ...,
    cluster: str | None = ...,
) -> Comparison: ...


@overload
def compare(
    profile: Sequence[Run],
    against: nn.Module | str | Run | Sequence[Run] | DenseTwin | None = ...,
    costs: str | Path | CostTable | Sequence[str | Path | CostTable] = ...,
    convention: str | Convention = ...,
    gamma: float | pd.DataFrame | None = ...,
    replicates: int = ...,
    seed: int = ...,
    confidence: float = ...,
    cluster: str | None = ...,
) -> SeedComparison: ...


@once_named("ann", "against")
def compare(
    profile: Run | Activity | Sequence[Run],
    against: nn.Module | str | Run | Sequence[Run] | DenseTwin | None = None,
    costs: str | Path | CostTable | Sequence[str | Path | CostTable] = COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    gamma: float | pd.DataFrame | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    cluster: str | None = None,
) -> Comparison | SeedComparison:
    """A profiled network beside its ANN twin, beside another ANN, or beside another profile of the same images.

    Beside an ANN every cost table prices both networks, and one more pricing sets the spiking network in int8 beside
    the ANN quantised to as many levels as T steps of spikes can tell apart, b = ceil(log2((max - min) T + 1)) bits for
    spikes from min to max units, ceil(log2(T + 1)) for binary ones (Yan et al., arXiv 2409.08290). Its
    multiply-accumulate is priced, by our choice, as an int8 multiplication x b / 8 + a 32-bit addition; the layer that
    reads the image keeps 8 bits, as in the spiking network. Where the ANN has the layers of the spiking network, b is
    that of the spikes each of them receives; elsewhere it is the largest of them.

    Hardware that skips zeros makes an ANN with ReLUs cheaper by its share of zeros, gamma. Where it is not measured the
    result holds the ratio from gamma 0 to the larger of .5 and the share at which both cost the same.

    Lists of runs are training seeds: runs of one recipe over the same images, which differ in their weights alone. The
    result is then a `SeedComparison`: total energy, ratio, SOPs, rate and accuracy as means over seeds, with the spread
    and an interval over training seeds, and beside it the interval over images.

    Args:
        profile: the spiking network's run; beside an ANN also the rates of a published table (`activity_from_rates`);
            or a list of runs, one per training seed.
        against: a network, or the name of one in timm; another profile, or a list of them, one per training seed, of
            which there may be more or fewer than of the first; None for the twin of one of this package's models,
            or, of any other, for its layers once and softmax attention in place of spiking ones (`twins.dense_twin`);
            or the twin that `measured_twin` has run and counted.
        costs, convention: as of `profile.energy`; several cost tables are priced one after the other.
        gamma: the table of `measure_gamma` of this ANN, layer by layer; or a share of zeros in every layer that may
            receive some (behind a ReLU, or the image), at which parts, blocks and prices then stand; the range and
            `total` do not move with a share that is not measured. None: measured where `against` is a `measured_twin`
            that has counted its zeros, else unknown, and the tables stand at gamma 0.
        replicates, seed, confidence: of the bootstrap over images. An ANN costs the same for every image; of two
            profiles the same images are drawn.
        cluster: "label" to draw classes, each with its images, in place of images; see `stats.classes`.

    Returns:
        `Comparison`: mJ per image of both, their ratio (the other's energy / the spiking one's) and break-even rates,
        in a line for arithmetic and one for memory as well, per part, per block and in sentences. `SeedComparison` of
        lists.

    Raises:
        SpikeattnError: profiles of different images, runs of a list that are of different networks or of the same
            weights, a spiking network given as ANN, one that does not take the images,
            gamma outside 0..1, unknown costs or convention, a cost table without multiply-accumulates.
    """
    check_resampling(replicates, seed, confidence)
    seeds, others = listed(profile), listed(against)
    labels = labels_to_cluster(seeds[0] if seeds else profile, cluster)
    convention, resampling = get_convention(convention), Resampling(replicates, seed, confidence, labels)
    tables = get_cost_tables(costs)
    if isinstance(against, Run) or others is not None:
        if gamma is not None and (not isinstance(gamma, Real) or gamma != 0):
            raise SpikeattnError(
                "gamma is about a quantised ANN or one of real numbers; beside another profile leave it out"
            )
    if seeds is not None or others is not None:
        one: list[Any] = [profile] if seeds is None else seeds
        beside: Any = [against] if isinstance(against, Run) else against if others is None else others
        return compare_seeds(one, beside, tables, convention, gamma, resampling)
    if isinstance(against, Run):
        check_run("profile", profile)
        assert isinstance(profile, Run)
        return _compare_profiles(profile, against, tables, convention, resampling)
    alone: Any = profile  # no list, which `listed` has found
    activity, twin = activity_of(alone), cast(Any, against)
    found = compare_with_ann(activity, twin_for(activity.ledger, twin), tables, convention, gamma, resampling)
    return replace(found, notes=(*found.notes, *map(Note.read, activity.ledger.warnings)))


def _compare_profiles(
    profile: Run, other: Run, tables: Sequence[CostTable], convention: Convention, resampling: Resampling
) -> Comparison:
    """`compare` for two runs over the same images; the ratio is the other's energy over this one's."""
    check_same_images(profile, other)
    mine, theirs = (amounts_by_part_and_block(counted(run), convention) for run in (profile, other))
    sides = [set(mine.keys), set(theirs.keys)]
    keys = in_order(sides[0] | sides[1])
    mine, theirs, scopes = mine.over(keys), theirs.over(keys), scopes_of(keys)
    own = intervals_of(mine, scopes, tables, resampling)
    name, against = names_of(profile, other)
    frames = []
    for table in tables:
        energies = energies_of(theirs, table, scopes)
        own_energies = energies_of(mine, table, scopes)
        ratio = ratio_intervals(energies, own_energies, *resampling.arguments, labels=resampling.labels)
        limits = (ratio.value, ratio.low, ratio.high, ratio.method)
        frames.append(frame_of(mine, scopes, table, against, own[table.name], energies.mean(axis=0), limits))
    parts, blocks, attention = tables_of(frames, scopes, keys, sides)
    total = total_of(parts, resampling.confidence)
    lines = lines_beside_profile(profile, other, Pair(name, against, total), tables, convention, resampling)
    prices = pd.DataFrame(
        [(table.name, against, table.price("mac"), table.price("sop")) for table in tables],
        columns=["costs", "against", "mac_pj", "sop_pj"],
    )
    images = f"both networks saw the same {profile.counts.n_images} images, which are drawn together"
    notes = [Note("paired", images), ARITHMETIC]
    for label, run in zip((name, against), (profile, other), strict=True):
        own_notes = (*notes_of(run.ledger, convention), *map(Note.read, run.ledger.warnings))
        notes += [Note.plain(note.code, f"{label}: {note}") for note in own_notes]
    notes += [note for table in tables for note in table.notes()]
    return Comparison(
        name,
        against,
        total,
        parts,
        blocks,
        attention,
        prices,
        verdicts.beside_profile(name, parts),
        (*notes, *notes_on_lines(lines)),
        provenance_of(counted(profile), convention, tables, resampling)
        | {"against_ledger": other.ledger.hash(), "against_time_steps": other.ledger.time_steps},
        lines,
    )
