"""`spikeattn attend --run`: the energy that a profiled run spent on tokens whose attention is no more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeattn.attention.maps import has_steps
from spikeattn.attention.tokens import TokenCounts, merged, token_counts
from spikeattn.data.batches import batch_indices, collate
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.tables.number_format import joules, percent
from spikeattn.runs.result import Profile
from spikeattn.spurious import SpuriousEnergy, spurious_energy

if TYPE_CHECKING:
    from spikeattn.cli.attention_run import Network
    from spikeattn.energy import Convention, CostTable

METHODS = ("p", "q", "lfdr", "soft")


def open_run(path: Path, network: Network, number: int) -> Profile:
    """The run, checked for the model's name and the first `number` images; the counts themselves are compared later."""
    profile = Profile.load(path)
    name, other = network.model.provenance["name"], profile.ledger.model.get("name")
    if name != other:
        raise SpikeattnError(f"--run {path} is of {other} and --model is {name}; give the run of the same model")
    if not has_steps(network.model):
        raise SpikeattnError(f"--run {path}: {name} has no spikes, so no energy can be told apart by token")
    _plan(network, profile, set(range(number)))
    return profile


def energy_on_noise(
    network: Network, profile: Profile, indices: Sequence[int], costs: CostTable, convention: Convention
) -> SpuriousEnergy:
    """`sa.spurious_energy` of the images of a network, with the batches of the run: another batch sums otherwise.

    Raises:
        SpikeattnError: images that the run does not hold, or counts that differ from its rows.
    """
    counted = _counted(network, profile, set(indices))
    first, *others = network.attentions
    s = network.settings
    method = s.method if s.method in METHODS else "lfdr"
    return spurious_energy(
        profile, [replace(first, tokens=counted), *others], costs=costs, convention=convention, method=method,
        threshold=None if method == "soft" else s.threshold,
    )  # fmt: skip


def describe(found: SpuriousEnergy, ids: Sequence[str]) -> dict[str, Any]:
    """The shares with their intervals, per image and in all; JSON types."""
    energy, spurious = found.maps.sum((1, 2)), found.spurious_maps.sum((1, 2))

    def interval(value: Any) -> dict[str, Any]:
        return {"value": value.value, "low": value.low, "high": value.high, "method": value.method}

    return {
        "share_of_blocks": interval(found.total),
        "share_of_network": interval(found.of_everything),
        "spurious_mj": interval(found.spurious_mj),
        "outside_share": float(found.outside["share"].sum()),
        "images": [
            {"image": name, "blocks_mj": float(all_), "spurious_mj": float(noise), "network_mj": float(whole)}
            for name, all_, noise, whole in zip(ids, energy, spurious, found.per_image, strict=True)
        ],
        "notes": list(found.notes),
        "provenance": found.provenance,
    }


def sentence(record: dict[str, Any]) -> str:
    """The result in two lines."""
    share, whole = record["share_of_blocks"], record["share_of_network"]

    def limits(of: dict[str, Any]) -> str:
        if of["low"] is None or np.isnan(of["low"]):
            return percent(of["value"])
        return f"{percent(of['value'])} [{percent(of['low']).removesuffix(' %')}, {percent(of['high'])}]"

    return (
        f"energy     {limits(share)} of the blocks' energy goes to tokens that are no more than noise, "
        f"{joules(record['spurious_mj']['value'])} per image,\n"
        f"           {limits(whole)} of the network's; {percent(record['outside_share'])} of it has no tokens "
        "(SPS, head); 95 % over images, arithmetic only"
    )


def _counted(network: Network, profile: Profile, wanted: set[int]) -> TokenCounts:
    """Spikes per token of the wanted images, in passes of the batches that the run took."""
    device = next(network.model.parameters()).device
    found = []
    for number, indices in enumerate(_plan(network, profile, wanted)):
        if wanted.isdisjoint(map(int, indices)):
            continue
        batch = collate(network.dataset, indices, number)
        every = token_counts(
            network.model, batch.images.to(device), batch.index.tolist(), layer=network.layers[-1],
            forward=network.forward,
        )  # fmt: skip
        found.append(_only(every, [row for row, index in enumerate(every.images) if index in wanted]))
    return merged(found)


def _plan(network: Network, profile: Profile, wanted: set[int]) -> list[np.ndarray]:
    """The batches of the run; an error where a wanted image is in none."""
    settings = profile.provenance.get("settings", {}).get("data") or {}
    choice = {key: settings[key] for key in ("batch_size", "limit", "sample", "seed") if key in settings}
    plan = batch_indices(len(network.dataset), **(choice or {"batch_size": 1}))
    if missing := sorted(wanted - {int(i) for indices in plan for i in indices}):
        raise SpikeattnError(
            f"the run holds no counts of {len(missing)} of the images, first {network.dataset.id(missing[0])}; profile "
            "the same --data, or give a --limit within that of the run"
        )
    return plan


def _only(counts: TokenCounts, rows: list[int]) -> TokenCounts:
    """The token counts of some of the images."""
    mappings = {
        name: {key: values[rows] for key, values in getattr(counts, name).items()}
        for name in ("values", "by_head", "pairs", "pair_values")
    }
    images = tuple(counts.images[row] for row in rows)
    return replace(counts, counts=counts.counts[rows], images=images, **mappings)
