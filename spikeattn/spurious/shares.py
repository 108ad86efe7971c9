"""Joules spent on noise: the energy of the tokens whose attention cannot be told from that of noise (ours).

`attend` says which tokens of a layer's attention stand out from the same network on resampled input; the token counts
of the same images say what each token costs. Joined, they give the share of a block's energy that goes to tokens whose
attention is indistinguishable from the null: per image, layer and head, with an interval over images and replicates,
and for every meaning of "indistinguishable" side by side. Definition, assumptions and limits: `docs/attention.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.regularize import METHOD
from spikeattn.boundary import display
from spikeattn.energy.activity import CountedActivity, check_run
from spikeattn.energy.by_label import SelectedImages
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_costs
from spikeattn.energy.estimate import price, prices_of
from spikeattn.runs.result import Profile
from spikeattn.spurious.attribution import Attribution, attribute
from spikeattn.spurious.energy_tables import Tables
from spikeattn.spurious.join import join
from spikeattn.spurious.significance_rules import rule_of
from spikeattn.spurious.specification_text import as_text
from spikeattn.spurious.specifications import specifications_of
from spikeattn.stats.bootstrap import check_resampling
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES, Floats
from spikeattn.stats.quantity import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class SpuriousEnergy:
    """Energy of the blocks by token, and the part of it at tokens whose attention is indistinguishable from the null.

    Printed, it shows the share that was asked for, the range over all specifications, and their grid.

    Attributes:
        frame: one row per image, layer, head and synapse or product: image (number in the profile), id, layer, head
            (missing where a row belongs to none), part, synapse, energy_mj, spurious_mj, below_mj (at tokens that are
            distinguishable because they get less attention than noise does), share (spurious / energy; NaN over 0).
        parts: one row per layer and part, per layer ("all"), and for all layers: layer, part, energy_mj and spurious_mj
            per image, share with ci_low, ci_high, interval (its method), below_share.
        heads: one row per layer and head of the attention, where every head was assessed (else no row): layer, head and
            the columns of `parts`.
        specifications: the share of the blocks' energy that is spurious by null, question and rule: null, replicates,
            question ("how much" or "where"), rule ("q <= 0.1"), method, threshold, share, low, high, interval (its
            method), chosen (the row that all other attributes are of).
        total: share of the blocks' energy that is spurious, a ratio of means with its interval.
        spurious_mj: mJ per image, with its interval.
        of_everything: share of the whole network's energy that is spurious.
        maps, spurious_maps: mJ of every token [image, h, w], all layers together, and the spurious part of it.
        layer_maps, spurious_layer_maps: the same by layer, [image, layer, h, w].
        layers: numbers of the layers in these.
        outside: what has no tokens or no attention: part, synapse, reason, energy_mj per image, share of the whole.
        per_image: mJ of the whole network for every image [image], as `profile.energy` has it.
        images: numbers of the images in the profile.
        notes: what a reader must know, one sentence each.
        provenance: of the attention and of the energy, method, threshold, question.

    Intervals are over images and replicates of the null, "studentised, replicates" and the like: that over images
    (`stats.ratios`), widened by how the same images move when half of the replicates are left out (`replicate_noise`).
    No interval covers the choice of the specification: `range` shows what that does.
    """

    frame: pd.DataFrame
    parts: pd.DataFrame
    heads: pd.DataFrame
    specifications: pd.DataFrame
    total: Quantity
    spurious_mj: Quantity
    of_everything: Quantity
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

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest share of `specifications`."""
        shares = self.specifications["share"]
        return float(shares.min()), float(shares.max())

    def __repr__(self) -> str:
        number, blocks = len(self.images), len(self.layers)
        size = f"{number} image{'s' * (number != 1)}, {blocks} block{'s' * (blocks != 1)}"
        return f"<SpuriousEnergy of {size}>\n{as_text(self.specifications, self.of_everything.value)}"

    def _repr_html_(self) -> str:
        """In a notebook: the share that was asked for, the curve over all specifications, the parts to unfold."""
        return display.view("spurious_view").html(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share under every specification, the lowest first, with intervals; the chosen in black.

        Args:
            ax: axes to draw into; without, those of a new figure of pyplot.
        """
        return display.view("spurious_view").plot(self, ax)


def spurious_energy(
    profile: Profile,
    attention: Attention | Sequence[Attention],
    *,
    also: Attention | Sequence[Attention] = (),
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    method: str = METHOD,
    threshold: float | None = None,
    question: str = "how much",
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> SpuriousEnergy:
    """Energy that goes to tokens whose attention is indistinguishable from the null.

    Args:
        profile: a run that holds the images of the attention.
        attention: of `attend(..., tokens=True, indices=...)`: one, or several that together hold the same layers of
            every image (one per batch of the profile, one per layer).
        also: attentions of the same images, layers and model against other nulls, for the rows of these nulls in
            `specifications`; they need no tokens.
        costs, convention: as of `profile.energy`.
        method: a token is spurious where its "q", "lfdr" or "p" is above the threshold; "soft" takes the lfdr itself
            for the spurious share of the token's energy, which is its expectation if the lfdr is right.
        threshold: 0.1 by default; "soft" has none.
        question: "how much", or "where" in the image, whatever the total; see `Attention.answer`.
        replicates, seed, confidence: of the intervals over images; the seed also of the halves of the null's
            replicates.

    Returns:
        SpuriousEnergy: mJ per image and shares, by image, head, part and layer, each with an interval, and the share of
        the blocks under every specification.

    Raises:
        SpikeattnError: no tokens in the attention; a profile of another model, input size or number of time steps;
            images that the profile does not hold; token counts that do not add up to its rows; maps of another grid;
            other attentions of other images, models or maps.
    """
    costs, convention = get_costs(costs), get_convention(convention)
    check_run("profile", profile)
    check_resampling(replicates, seed, confidence)
    joined = join(profile, attention, method, threshold, question)
    activity = CountedActivity(profile.ledger, profile.counts)
    spread = attribute(activity, convention, joined.tokens, joined.rows, joined.heads > 1)
    table = price(SelectedImages(activity, joined.rows), costs, convention, replicates, seed, confidence)
    settings = {"replicates": replicates, "seed": seed, "confidence": confidence}
    tables = Tables(spread, joined, prices_of(costs) * PJ_TO_MJ, table.per_image, settings)
    grid = specifications_of(joined, also, tables.energy, (question, rule_of(method, threshold)), settings)
    tables.noise = grid.noise
    shape = (*tables.maps.shape[:2], *joined.tokens.grid)
    notes = [*joined.notes, *grid.notes, *_notes_of(spread), *table.notes]
    return SpuriousEnergy(
        frame=tables.frame,
        parts=tables.parts(),
        heads=tables.heads(),
        specifications=grid.frame,
        total=Quantity.of(tables.shares(tables.everything[:, 0]), unit="", per=""),
        spurious_mj=Quantity.of(tables.spurious_mj()),
        of_everything=Quantity.of(tables.shares(table.per_image), unit="", per=""),
        layer_maps=tables.maps.reshape(shape),
        spurious_layer_maps=tables.spurious.reshape(shape),
        layers=joined.layers,
        outside=tables.outside(),
        per_image=table.per_image,
        images=joined.tokens.images,
        notes=list(dict.fromkeys(notes)),
        provenance={"energy": table.provenance, "interval": grid.interval, **joined.provenance},
    )


def _notes_of(spread: Attribution) -> list[str]:
    notes = ["SPS, head and whatever has no tokens stay outside: `outside` lists them with their share"]
    if spread.evenly:
        notes.append(f"spread evenly over the heads for want of counts by head: {', '.join(spread.evenly)}")
    return notes
