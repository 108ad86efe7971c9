"""The join behind `spurious_energy`: significance and token counts of the same images, checked against a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.map_sources import SPIKE_DRIVEN, SPIKFORMER
from spikeattn.attention.tokens import TokenCounts, merged
from spikeattn.errors import SpikeattnError
from spikeattn.runs.result import Profile
from spikeattn.spurious.arrangement import Arrangement, attentions_of, check_alike
from spikeattn.spurious.significance_rules import rule_of
from spikeattn.stats.intervals import Floats


@dataclass(frozen=True, eq=False)
class Join:
    """Images with their token counts, their rows in the profile, and what of every token is spurious.

    Attributes:
        rows, ids: of the images in the profile's count table.
        arrangement: of the attention, with the layers and heads that were assessed.
        spurious: share of each token's energy that counts as spurious [image, layer, head, token]; 0 or 1 but for
            method="soft".
        above: share that counts as above the null; what is left is below it.
    """

    tokens: TokenCounts
    rows: NDArray[np.intp]
    ids: NDArray[Any]
    arrangement: Arrangement
    spurious: Floats
    above: Floats
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers that were attended."""
        return self.arrangement.layers

    @property
    def heads(self) -> int:
        """1, or those of the attention where every head was assessed."""
        return self.arrangement.heads

    def weights(self, place: int, heads: int) -> tuple[Floats, Floats]:
        """Spurious and below-the-null shares [image, heads, token] of the layer at `place`.

        What belongs to no head is spurious as far as the head that calls the token most says so.
        """
        spurious, above = self.spurious[:, place], self.above[:, place]
        if heads == 1:
            spurious, above = spurious.min(1, keepdims=True), above.max(1, keepdims=True)
        return spurious, np.clip(1 - spurious - above, 0, 1)


def join(
    profile: Profile,
    attention: Attention | Sequence[Attention],
    method: str,
    threshold: float | None,
    question: str = "how much",
) -> Join:
    """Match images and check everything that can be checked; see `spurious_energy` for the errors."""
    assessed = assess_tokens(attention, method, threshold, question)
    tokens = assessed.tokens
    rows, ids = _rows_of(profile, tokens)
    _check_counts(profile, tokens, rows, ids)
    return Join(
        tokens, rows, ids, assessed.arrangement, assessed.spurious, assessed.above, assessed.notes, assessed.provenance
    )


@dataclass(frozen=True, eq=False)
class Assessed:
    """Tokens with what of them is spurious and above the null, [image, layer, head, token]; see `Join`."""

    tokens: TokenCounts
    arrangement: Arrangement
    spurious: Floats
    above: Floats
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def layers(self) -> tuple[int, ...]:
        return self.arrangement.layers

    @property
    def scores(self) -> Floats:
        """The maps, [image, layer, head, token]."""
        return self.arrangement.of(lambda one: one.maps)


def assess_tokens(
    attention: Attention | Sequence[Attention],
    method: str,
    threshold: float | None,
    question: str = "how much",
    values: bool = False,
) -> Assessed:
    """One table of several attentions, image by image and layer by layer.

    Args:
        values: give the method's own values for `spurious`, and whether a token is at least at the null's mean for
            `above`, whatever the threshold.

    Raises:
        SpikeattnError: no attention, no tokens, other grids, a layer twice or missing for an image, different nulls,
            unknown method or question.
    """
    rule = rule_of(method, threshold)
    attentions = attentions_of(attention)
    if not attentions or any(len(one.maps) == 0 for one in attentions):
        raise SpikeattnError("the attention holds zero images; attend at least one")
    check_alike(attentions)
    counted = [one.tokens for one in attentions if one.tokens is not None]
    if not counted:
        raise SpikeattnError(
            "the attention holds no token counts, so no energy can be told apart by token; attend the images with "
            "tokens=True (and indices=, their numbers in the profile)"
        )
    tokens = merged(counted)
    arrangement = Arrangement(attentions, tokens, tokens.images)
    answer = {id(one): one.answer(question) for one in attentions}
    if values:
        spurious = arrangement.of(lambda one: getattr(answer[id(one)], method))
        above = arrangement.of(lambda one: (answer[id(one)].z >= 0).astype(float))
    else:
        spurious = arrangement.of(lambda one: rule.spurious(answer[id(one)]))
        above = arrangement.of(lambda one: rule.above(answer[id(one)]))
    known = attentions[0].provenance | {"indices": list(tokens.images), "layer": list(arrangement.layers)}
    provenance = {"method": method, "threshold": rule.threshold, "question": question, "attention": known}
    notes = _notes(spurious, len(tokens.layers), arrangement.layers, known["statistic"])
    return Assessed(tokens, arrangement, spurious, above, notes, provenance)


def _notes(spurious: Floats, depth: int, layers: Sequence[int], statistic: str) -> tuple[str, ...]:
    notes = []
    if statistic not in (*SPIKE_DRIVEN, *SPIKFORMER):
        notes.append(f"own-statistic: {statistic} is no map of a block; it is taken for that of block {layers[-1]}")
    nothing = int((spurious.min(-1) >= 1).sum())
    if nothing:
        total = int(np.prod(spurious.shape[:3]))
        notes.append(
            f"nothing-called: in {nothing} of {total} maps no token stands out from the null, so all of their energy "
            "is spurious; a constant map and a null with too few replicates look the same"
        )
    if len(layers) < depth:
        left = ", ".join(str(i) for i in range(depth) if i not in layers)
        notes.append(f"not-attended: blocks {left} have no attention here and stay outside")
    return tuple(notes)


def _rows_of(profile: Profile, tokens: TokenCounts) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Rows of the images in the profile, which must be of the same network at the same input size."""
    if profile.time_steps != tokens.time_steps:
        raise SpikeattnError(
            f"the profile has {profile.time_steps} time steps, the attention's tokens {tokens.time_steps}: they are of "
            "different networks"
        )
    if profile.ledger.hash() != tokens.ledger:
        raise SpikeattnError(
            "the profile is of another network or input size than the attention (their ledgers differ): profile and "
            "attend the same model on the same images"
        )
    rows = profile.counts.rows
    index = rows["index"].to_numpy()
    places = np.searchsorted(index, tokens.images)
    held = places < len(index)
    held[held] = index[places[held]] == np.asarray(tokens.images)[held]
    if not held.all():
        missing = np.asarray(tokens.images)[~held]
        raise SpikeattnError(
            f"the profile does not hold {len(missing)} of {len(held)} attended images, the first is number "
            f"{missing[0]}; it holds numbers {index[0]} to {index[-1]}. attend takes the numbers as indices="
        )
    return places, rows["id"].to_numpy()[places]


def _check_counts(profile: Profile, tokens: TokenCounts, rows: NDArray[np.intp], ids: NDArray[Any]) -> None:
    """Sums over tokens are the rows of the profile, to the last spike."""
    compared = [("nnz", name, tokens.of(name)) for name in tokens.tensors]
    compared += [
        ("abs", name, values) for name, values in tokens.values.items() if profile.ledger.tensor(name).kind != "real"
    ]
    compared += [("pairs", name, values.sum(2, dtype=np.int64)) for name, values in tokens.pairs.items()]
    for measure, name, counts in compared:
        ours = counts.sum(axis=2, dtype=np.int64)  # [image, t]
        theirs = profile.counts.column(measure, name)[rows]
        if not np.array_equal(ours, theirs):
            image, t = np.argwhere(ours != theirs)[0]
            raise SpikeattnError(
                f"the tokens of {name} in image {tokens.images[image]} ({ids[image]}) hold {ours[image, t]} spikes at "
                f"step {t + 1} and the profile's row {theirs[image, t]}, so they are of different passes: other "
                "weights, another image or preparation, or another batch or path, which sum in another order; profile "
                "with plain=True and attend the batches that the profile ran"
            )
