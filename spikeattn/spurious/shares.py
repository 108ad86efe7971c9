"""Joules spent on noise: the energy of the tokens whose attention cannot be told from that of noise (ours).

`attend` says which tokens of a layer's attention stand out from the same network on resampled input; the token counts
of the same images say what each token costs. Joined, they give the share of a block's energy that goes to tokens whose
attention is indistinguishable from the null: per image, layer and head, with an interval over images. Definition,
assumptions and limits: `docs/attention.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.regularize import METHOD
from spikeattn.energy.activity import CountedActivity, check_run
from spikeattn.energy.amounts import OPS
from spikeattn.energy.by_label import SelectedImages
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_costs
from spikeattn.energy.estimate import price, prices_of
from spikeattn.runs.result import Profile
from spikeattn.spurious.attribution import Attribution, attribute
from spikeattn.spurious.join import Join, join
from spikeattn.stats.bootstrap import check_resampling
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES, Floats, Interval, Intervals, mean_intervals
from spikeattn.stats.ratios import ratio_intervals


@dataclass(frozen=True, eq=False)
class SpuriousEnergy:
    """Energy of the blocks by token, and the part of it at tokens whose attention is indistinguishable from the null.

    Attributes:
        frame: one row per image, layer, head and synapse or product: image (number in the profile), id, layer, head
            (missing where a row belongs to none), part, synapse, energy_mj, spurious_mj, below_mj (at tokens that are
            distinguishable because they get less attention than noise does), share (spurious / energy; NaN over 0).
        parts: one row per layer and part, per layer ("all"), and for all layers: layer, part, energy_mj and spurious_mj
            per image, share with ci_low, ci_high, interval (its method), below_share.
        heads: one row per layer and head of the attention, where every head was assessed (else no row): layer, head and
            the columns of `parts`.
        total: share of the blocks' energy that is spurious, a ratio of means with its interval over images.
        spurious_mj: mJ per image, with its interval.
        of_everything: share of the whole network's energy that is spurious.
        maps, spurious_maps: mJ of every token [image, h, w], all layers together, and the spurious part of it.
        layer_maps, spurious_layer_maps: the same by layer, [image, layer, h, w].
        layers: numbers of the layers in these.
        outside: what has no tokens or no attention: part, synapse, reason, energy_mj per image, share of the whole.
        per_image: mJ of the whole network for every image [image], as `profile.energy` has it.
        images: numbers of the images in the profile.
        notes: what a reader must know, one sentence each.
        provenance: of the attention and of the energy, method, threshold.
    """

    frame: pd.DataFrame
    parts: pd.DataFrame
    heads: pd.DataFrame
    total: Interval
    spurious_mj: Interval
    of_everything: Interval
    layer_maps: Floats
    spurious_layer_maps: Floats
    layers: tuple[int, ...]
    outside: pd.DataFrame
    per_image: Floats
    images: tuple[int, ...]
    notes: list[str]
    provenance: dict[str, Any]

    @property
    def maps(self) -> Floats:
        return self.layer_maps.sum(axis=1)

    @property
    def spurious_maps(self) -> Floats:
        return self.spurious_layer_maps.sum(axis=1)

    def __repr__(self) -> str:
        share, of_all = self.total, self.of_everything
        return (
            f"<SpuriousEnergy of {len(self.images)} images: {share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of "
            f"the energy of {len(self.layers)} blocks, {of_all.value:.1%} of the network's>"
        )


def spurious_energy(
    profile: Profile,
    attention: Attention | Sequence[Attention],
    *,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    method: str = METHOD,
    threshold: float | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> SpuriousEnergy:
    """Energy that goes to tokens whose attention is indistinguishable from the null.

    Args:
        profile: a run that holds the images of the attention.
        attention: of `attend(..., tokens=True, indices=...)`: one, or several that together hold the same layers of
            every image (one per batch of the profile, one per layer).
        costs, convention: as of `profile.energy`.
        method: a token is spurious where its "q", "lfdr" or "p" is above the threshold; "soft" takes the lfdr itself
            for the spurious share of the token's energy, which is its expectation if the lfdr is right.
        threshold: 0.1 by default; "soft" has none.
        replicates, seed, confidence: of the intervals over images.

    Returns:
        SpuriousEnergy: mJ per image and shares, by image, head, part and layer, each with an interval.

    Raises:
        SpikeattnError: no tokens in the attention; a profile of another model, input size or number of time steps;
            images that the profile does not hold; token counts that do not add up to its rows; maps of another grid.
    """
    costs, convention = get_costs(costs), get_convention(convention)
    check_run("profile", profile)
    check_resampling(replicates, seed, confidence)
    joined = join(profile, attention, method, threshold)
    activity = CountedActivity(profile.ledger, profile.counts)
    spread = attribute(activity, convention, joined.tokens, joined.rows, joined.heads > 1)
    table = price(SelectedImages(activity, joined.rows), costs, convention, replicates, seed, confidence)
    settings = {"replicates": replicates, "seed": seed, "confidence": confidence}
    return _Tables(spread, joined, prices_of(costs) * PJ_TO_MJ, table.per_image, settings).result(
        notes=[*joined.notes, *_notes_of(spread), *table.notes],
        provenance={"energy": table.provenance, **joined.provenance},
    )


class _Tables:
    """Everything that is formed from one attribution and the significance of its tokens."""

    def __init__(
        self, spread: Attribution, joined: Join, prices: Floats, per_image: Floats, settings: dict[str, Any]
    ) -> None:
        self.spread, self.joined, self.prices, self.per_image, self.settings = (
            spread, joined, prices, per_image, settings,
        )  # fmt: skip
        self.n = len(joined.rows)
        self.rows: list[dict[str, Any]] = []
        shape = (self.n, len(joined.layers), joined.tokens.grid[0] * joined.tokens.grid[1])
        self.maps, self.spurious = np.zeros(shape), np.zeros(shape)
        self.cells: dict[tuple[int, str], Floats] = {}  # [image, (energy, spurious, below)]
        self.by_head: dict[tuple[int, int], Floats] = {}  # the same by layer and head
        self.left: dict[tuple[str, str, str], Floats] = {}

    def result(self, notes: list[str], provenance: dict[str, Any]) -> SpuriousEnergy:
        for inside in self.spread.inside:
            mj = inside.amounts * self.prices[OPS.index(inside.term.op)]  # [image, head, token]
            if inside.layer not in self.joined.layers:
                reason = f"block {inside.layer} was not attended"
                self._leave(inside.part, inside.term.name, reason, mj.sum((1, 2)))
                continue
            self._add(inside.term.name, inside.part, inside.layer, mj)
        for left in self.spread.outside:
            self._leave(left.part, left.term.name, left.reason, left.amounts * self.prices[OPS.index(left.term.op)])
        everything = np.sum([*self.cells.values()], axis=0) if self.cells else np.zeros((self.n, 3))
        grid, images = self.joined.tokens.grid, self.joined.tokens.images
        intervals = mean_intervals(everything[:, 1:2], **self.settings)
        return SpuriousEnergy(
            frame=pd.concat([pd.DataFrame(rows) for rows in self.rows], ignore_index=True).astype({"head": "Int64"}),
            parts=self._parts(everything),
            heads=self._rows_of(["layer", "head"], [(*key, values) for key, values in self.by_head.items()]),
            total=self._shares(everything[:, 1], everything[:, 0])[0],
            spurious_mj=intervals[0],
            of_everything=self._shares(everything[:, 1], self.per_image)[0],
            layer_maps=self.maps.reshape(*self.maps.shape[:2], *grid),
            spurious_layer_maps=self.spurious.reshape(*self.maps.shape[:2], *grid),
            layers=self.joined.layers,
            outside=self._outside(),
            per_image=self.per_image,
            images=images,
            notes=list(dict.fromkeys(notes)),
            provenance=provenance,
        )

    def _add(self, name: str, part: str, layer: int, mj: Floats) -> None:
        """Enter the energies [image, head, token] of a synapse or product of one layer."""
        place = self.joined.layers.index(layer)
        weight, below = self.joined.weights(place, mj.shape[1])  # [image, head, token]
        found = [mj, mj * weight, mj * below]
        self.maps[:, place] += mj.sum(1)
        self.spurious[:, place] += found[1].sum(1)
        sums = np.stack([x.sum(2) for x in found], axis=2)  # [image, head, 3]
        self.cells[layer, part] = self.cells.get((layer, part), 0) + sums.sum(1)
        heads = range(mj.shape[1]) if mj.shape[1] > 1 else [None]
        for head, columns in zip(heads, sums.swapaxes(0, 1), strict=True):
            energy, spurious, under = columns.T
            if head is not None:
                self.by_head[layer, head] = self.by_head.get((layer, head), 0) + columns
            self.rows.append(
                {
                    "image": self.joined.tokens.images, "id": self.joined.ids, "layer": layer, "head": head,
                    "part": part, "synapse": name, "energy_mj": energy, "spurious_mj": spurious, "below_mj": under,
                    "share": _over(spurious, energy),
                }
            )  # fmt: skip

    def _leave(self, part: str, name: str, reason: str, mj: Floats) -> None:
        key = (part, name, reason)
        self.left[key] = self.left.get(key, 0) + mj

    def _parts(self, everything: Floats) -> pd.DataFrame:
        layers = {layer: sum(v for (at, _), v in self.cells.items() if at == layer) for layer in self.joined.layers}
        names = list(dict.fromkeys(part for _, part in self.cells))
        over_layers = {part: sum(v for (_, name), v in self.cells.items() if name == part) for part in names}
        entries: list[tuple[Any, str, Any]] = []
        for layer in self.joined.layers:
            entries += [(layer, part, values) for (at, part), values in self.cells.items() if at == layer]
            entries.append((layer, "all", layers[layer]))
        entries += [("all", part, values) for part, values in over_layers.items()]
        entries.append(("all", "all", everything))
        return self._rows_of(["layer", "part"], entries)

    def _rows_of(self, names: list[str], entries: list[tuple[Any, Any, Any]]) -> pd.DataFrame:
        """Means and shares of energies [image, (energy, spurious, below)], one row per entry."""
        columns = [*names, "energy_mj", "spurious_mj", "share", "ci_low", "ci_high", "interval", "below_share"]
        if not entries:
            return pd.DataFrame(columns=columns)
        stacked = np.stack([values for _, _, values in entries], axis=1)  # [image, row, 3]
        shares, means = self._shares(stacked[:, :, 1], stacked[:, :, 0]), stacked.mean(0)
        found = [
            pd.Series([first for first, _, _ in entries], dtype=object),
            [second for _, second, _ in entries],
            means[:, 0],
            means[:, 1],
            shares.value,
            shares.low,
            shares.high,
            shares.method,
            _over(means[:, 2], means[:, 0]),
        ]
        return pd.DataFrame(dict(zip(columns, found, strict=True)))

    def _shares(self, part: Floats, whole: Floats) -> Intervals:
        """Ratios of means with limits that no share exceeds."""
        found = ratio_intervals(part, whole, **self.settings)
        return replace(found, high=np.minimum(found.high, 1.0))

    def _outside(self) -> pd.DataFrame:
        columns = ["part", "synapse", "reason", "energy_mj", "share"]
        whole = self.per_image.mean()
        rows = [(*key, mj.mean(), mj.mean() / whole if whole > 0 else np.nan) for key, mj in self.left.items()]
        return pd.DataFrame(rows, columns=columns)


def _notes_of(spread: Attribution) -> list[str]:
    notes = ["SPS, head and whatever has no tokens stay outside: `outside` lists them with their share"]
    if spread.evenly:
        notes.append(f"spread evenly over the heads for want of counts by head: {', '.join(spread.evenly)}")
    return notes


def _over(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
