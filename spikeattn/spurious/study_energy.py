"""The energy that a profiled run spent on the images of a `Study`, at tokens whose attention is no more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeattn.attention.regularize import METHOD
from spikeattn.attention.scores import has_steps
from spikeattn.attention.study import Study
from spikeattn.attention.token_taps import Unsigned
from spikeattn.attention.tokens import TokenCounts, merged, token_counts
from spikeattn.data.batches import batch_indices, collate
from spikeattn.energy import Convention, CostTable
from spikeattn.errors import SpikeattnError
from spikeattn.provenance import device_of
from spikeattn.runs.result import Profile
from spikeattn.spurious.shares import SpuriousEnergy, spurious_energy
from spikeattn.spurious.significance_rules import SHARING


def check_run_of(study: Study, profile: Profile, indices: Set[int]) -> None:
    """Whether a run is of the network of a study and holds its images; the counts themselves are compared later.

    Raises:
        SpikeattnError: it is of another, or lacks some.
    """
    other = profile.ledger.model.get("name")
    if study.name != other:
        raise SpikeattnError(f"the run is of {other}, and the model is {study.name}; give the run of the same model")
    if not has_steps(study.model):
        raise SpikeattnError(f"{study.name} has no spikes, so no energy can be told apart by token")
    _batches_of_run(study, profile, indices)


def with_nulls(study: Study, nulls: Sequence[str]) -> list[Study]:
    """The same study against other nulls, none attended yet: for the rows of these nulls in the grid of specifications.

    Raises:
        SpikeattnError: an unknown null, one twice, or that of the study itself.
    """
    if again := [null for k, null in enumerate(nulls) if null in (study.settings.null, *nulls[:k])]:
        raise SpikeattnError(
            f"the null {again[0]} is asked for twice; the study has {study.settings.null}, so name others, each once"
        )
    return [Study(study.model, study.dataset, replace(study.settings, null=null), study.forward) for null in nulls]


def study_energy(
    study: Study,
    profile: Profile,
    indices: Sequence[int],
    costs: CostTable,
    convention: Convention,
    also: Sequence[Study] = (),
) -> SpuriousEnergy:
    """`sa.spurious_energy` of the images of a study, with the batches of the run: another batch sums otherwise.

    Args:
        indices: of the images, in the order in which the study looked at them.
        also: the same images against other nulls; see `with_nulls`.

    Raises:
        SpikeattnError: images that the run does not hold, or counts that differ from its rows.
    """
    counted = _counted(study, profile, set(indices))
    first, *others = study.attentions
    s = study.settings
    return spurious_energy(
        profile, [replace(first, tokens=counted), *others],
        also=[attention for other in also for attention in other.attentions], costs=costs, convention=convention,
        method=s.method if s.method in SHARING else METHOD, threshold=None if s.method == "soft" else s.threshold,
    )  # fmt: skip


def _counted(study: Study, profile: Profile, wanted: Set[int]) -> TokenCounts:
    """Spikes per token of the wanted images, in passes of the batches that the run took."""
    device, counts = device_of(study.model), []
    for number, indices in enumerate(_batches_of_run(study, profile, wanted)):
        if wanted.isdisjoint(map(int, indices)):
            continue
        batch = collate(study.dataset, indices, number)
        every = token_counts(
            study.model, batch.images.to(device), batch.index.tolist(), layer=study.layers[-1], forward=study.forward
        )
        counts.append(_only(every, [row for row, index in enumerate(every.images) if index in wanted]))
    return merged(counts)


def _batches_of_run(study: Study, profile: Profile, wanted: Set[int]) -> list[NDArray[np.intp]]:
    """The batches of the run; an error where a wanted image is in none."""
    settings = profile.provenance.get("settings", {}).get("data") or {}
    choice = {key: settings[key] for key in ("batch_size", "limit", "sample", "seed") if key in settings}
    batches = batch_indices(len(study.dataset), **(choice or {"batch_size": 1}))
    if missing := sorted(wanted - {int(i) for indices in batches for i in indices}):
        raise SpikeattnError(
            f"the run holds no counts of {len(missing)} of the images, first {study.dataset.id(missing[0])}; profile "
            "the same data, or attend to images of the run alone"
        )
    return batches


def _only(counts: TokenCounts, rows: list[int]) -> TokenCounts:
    """The token counts of some of the images."""

    def some(by_name: Mapping[str, Unsigned]) -> dict[str, Unsigned]:
        return {name: values[rows] for name, values in by_name.items()}

    images = tuple(counts.images[row] for row in rows)
    return replace(
        counts, counts=counts.counts[rows], images=images, values=some(counts.values),
        by_head=some(counts.by_head), pairs=some(counts.pairs), pair_values=some(counts.pair_values),
    )  # fmt: skip
