"""The join behind `spurious_energy`: significance and token counts of the same images, checked against a profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.map_sources import SPIKE_DRIVEN, SPIKFORMER
from spikeattn.attention.regularize import THRESHOLD, WITH_THRESHOLD
from spikeattn.attention.tokens import TokenCounts, merged
from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.runs.result import Profile
from spikeattn.stats.intervals import Floats

SHARING = (*WITH_THRESHOLD, "soft")  # methods that say of every token which share of it is noise; pi0 ranks tokens


@dataclass(frozen=True, eq=False)
class Join:
    """Images with their token counts, their rows in the profile, and what of every token is spurious.

    Attributes:
        rows, ids: of the images in the profile's count table.
        layers: numbers of the layers that were attended.
        heads: 1, or those of the attention where every head was assessed.
        spurious: share of each token's energy that counts as spurious [image, layer, head, token]; 0 or 1 but for
            method="soft".
        above: share that counts as above the null; what is left is below it.
    """

    tokens: TokenCounts
    rows: NDArray[np.intp]
    ids: NDArray[Any]
    layers: tuple[int, ...]
    heads: int
    spurious: Floats
    above: Floats
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    def weights(self, place: int, heads: int) -> tuple[Floats, Floats]:
        """Spurious and below-the-null shares [image, heads, token] of the layer at `place`.

        What belongs to no head is spurious as far as the head that calls the token most says so.
        """
        spurious, above = self.spurious[:, place], self.above[:, place]
        if heads == 1:
            spurious, above = spurious.min(1, keepdims=True), above.max(1, keepdims=True)
        return spurious, np.clip(1 - spurious - above, 0, 1)


def join(profile: Profile, attention: Attention | Sequence[Attention], method: str, threshold: float | None) -> Join:
    """Match images and check everything that can be checked; see `spurious_energy` for the errors."""
    assessed = assess_tokens(attention, method, threshold)
    tokens = assessed.tokens
    rows, ids = _rows_of(profile, tokens)
    _check_counts(profile, tokens, rows, ids)
    return Join(
        tokens, rows, ids, assessed.layers, assessed.spurious.shape[2], assessed.spurious, assessed.above,
        assessed.notes, assessed.provenance,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Assessed:
    """Tokens with what of them is spurious and above the null, [image, layer, head, token]; see `Join`."""

    tokens: TokenCounts
    layers: tuple[int, ...]
    spurious: Floats
    above: Floats
    scores: Floats
    notes: tuple[str, ...]
    provenance: dict[str, Any]


def assess_tokens(
    attention: Attention | Sequence[Attention], method: str, threshold: float | None, values: bool = False
) -> Assessed:
    """One table of several attentions, image by image and layer by layer.

    Args:
        values: give the method's own values for `spurious`, and whether a token is at least at the null's mean for
            `above`, whatever the threshold.

    Raises:
        SpikeattnError: no attention, no tokens, other grids, a layer twice or missing for an image, different nulls,
            unknown method.
    """
    if method not in SHARING:
        raise unknown("method", method, SHARING)
    if method == "soft" and threshold is not None:
        raise SpikeattnError('method="soft" has no threshold; lfdr, p and q have one')
    limit = THRESHOLD if threshold is None else threshold
    if not 0 <= limit <= 1:
        raise SpikeattnError(f"threshold is {threshold}; it is a probability in [0, 1], {THRESHOLD} by default")
    attentions = _attentions(attention)
    if not attentions or any(len(one.maps) == 0 for one in attentions):
        raise SpikeattnError("the attention holds zero images; attend at least one")
    _check_alike(attentions)
    counted = [one.tokens for one in attentions if one.tokens is not None]
    if not counted:
        raise SpikeattnError(
            "the attention holds no token counts, so no energy can be told apart by token; attend the images with "
            "tokens=True (and indices=, their numbers in the profile)"
        )
    tokens = merged(counted)
    found: dict[tuple[int, int], tuple[Floats, Floats, Floats]] = {}
    for one in attentions:
        for place, layer, entry in _maps_of(one, tokens, method, None if values else limit):
            if (place, layer) in found:
                raise SpikeattnError(f"layer {layer} of image {tokens.images[place]} stands twice in the attention")
            found[place, layer] = entry
    layers = sorted({layer for _, layer in found})
    missing = [(i, layer) for i in range(len(tokens.images)) for layer in layers if (i, layer) not in found]
    if missing:
        place, layer = missing[0]
        raise SpikeattnError(
            f"image {tokens.images[place]} was not attended at layer {layer}, as others were; attend the same layers "
            'of every image, as layer="all" does'
        )
    heads = {entry[0].shape for entry in found.values()}
    if len(heads) > 1:
        raise SpikeattnError("some of the attention is by head and some is not; give heads= alike in every call")
    spurious, above, scores = (
        np.stack([np.stack([found[i, layer][k] for layer in layers]) for i in range(len(tokens.images))])
        for k in range(3)
    )
    provenance = {
        "method": method,
        "threshold": None if method == "soft" else limit,
        "attention": attentions[0].provenance | {"indices": list(tokens.images), "layer": layers},
    }
    notes = _notes(spurious, len(tokens.layers), layers, attentions[0].provenance["statistic"])
    return Assessed(tokens, tuple(layers), spurious, above, scores, notes, provenance)


def _attentions(attention: Any) -> list[Attention]:
    """One attention or several as a list."""
    several = isinstance(attention, Iterable) and not isinstance(attention, Attention | str)
    attentions = list(attention) if several else [attention]
    if odd := [one for one in attentions if not isinstance(one, Attention)]:
        raise SpikeattnError(f"the attention is {shown(odd[0])}; give what spikeattn.attend returns, or several of it")
    return attentions


def _check_alike(attentions: Sequence[Attention]) -> None:
    """Every attention answers the same question: one null, one kind of map, one estimator, one B."""
    for name in ("null", "statistic", "estimator", "replicates"):
        values = list(dict.fromkeys(one.provenance[name] for one in attentions))
        if len(values) > 1:
            raise SpikeattnError(
                f"the attentions differ in {name}: {values[0]!r} and {values[1]!r}; their tokens are called against "
                "different nulls. Give attentions of one attend setting, and another setting in another call"
            )


def _maps_of(one: Attention, tokens: TokenCounts, method: str, limit: float | None) -> Any:
    """Image, layer, and [head, token] of spurious and above shares and of scores, for every map of an attention."""
    leading = one.axes[1:-2]
    if not set(leading) <= {"layer", "head"}:
        raise SpikeattnError(
            f"the attention's maps have the axes {', '.join(one.axes)}; energy is joined with maps by layer and head "
            'over all time steps: attend with steps="mean" and a map of `attention_map`'
        )
    shapes = {"maps": one.maps.shape[-2:], "p-values": one.significance[0].p.shape}
    if one.null_maps is not None:
        shapes["null"] = one.null_maps.shape[-2:]
    for name, shape in shapes.items():
        if tuple(shape) != tuple(tokens.grid):
            raise SpikeattnError(
                f"the {name} of the attention are {'x'.join(map(str, shape))} and the tokens {tokens.grid[0]}x"
                f"{tokens.grid[1]}: give the attention of the model and image size that the tokens were counted at"
            )
    numbers = one.provenance["indices"]
    if len(numbers) != len(one.maps):
        raise SpikeattnError(f"the attention has maps of {len(one.maps)} images and numbers of {len(numbers)}")
    strange = [number for number in numbers if number not in tokens.images]
    if strange:
        raise SpikeattnError(f"image {strange[0]} of the attention has no token counts; attend it with tokens=True")

    def shaped(values: Floats) -> Floats:
        """[image, layer, head, token]"""
        sizes = dict(zip(leading, values.shape[1:-2], strict=True))
        return values.reshape(len(values), sizes.get("layer", 1), sizes.get("head", 1), -1)

    depth = len(tokens.layers)
    layer = one.provenance["layer"]
    layers = range(depth) if "layer" in leading else [int(layer) % depth]
    z, scores = shaped(one.z), shaped(one.maps)
    measure = shaped(getattr(one, "lfdr" if method == "soft" else method))
    spurious = measure if method == "soft" or limit is None else (measure > limit).astype(float)
    above = np.where(z >= 0, 1.0 if limit is None else 1 - spurious, 0.0)
    for row, number in enumerate(numbers):
        for place, block in enumerate(layers):
            yield tokens.images.index(number), block, (spurious[row, place], above[row, place], scores[row, place])


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
