"""How well scores of tokens find a region [image, h, w]: with a rank alone, and with a choice of tokens.

Ties count half: a constant map has an AUC of one half, and points to the region as often as its area says.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from .scores import Flags, Floats

Values = tuple[dict[str, object], Floats]


def auc(scores: Floats, inside: Flags, outside: Flags) -> Floats:
    """Per image the chance that a token inside scores higher than one outside; NaN where one of them is empty."""
    values = []
    for one, within, without in zip(scores, inside, outside, strict=True):
        a, b = one[within], one[without]
        if not a.size or not b.size:
            values.append(np.nan)
            continue
        ranks = rankdata(np.concatenate([a, b]))[: a.size]
        values.append((ranks.sum() - a.size * (a.size + 1) / 2) / (a.size * b.size))
    return np.array(values)


def energy_inside(scores: Floats, share: Floats) -> Floats:
    """Per image the part of the map's total inside; `share` of each token's pixels. NaN for maps without a total."""
    positive = np.maximum(scores, 0)
    total = positive.sum((1, 2))
    found = np.full(len(scores), np.nan)
    np.divide((positive * share).sum((1, 2)), total, out=found, where=total > 0)
    return found


def places(scores: Floats, seed: int = 0) -> NDArray[np.int64]:
    """The place of every token in its image, 0 the highest; ties are broken at random, not by where they lie."""
    flat = scores.reshape(len(scores), -1)
    noise = np.random.default_rng(seed).random(flat.shape)
    order = np.lexsort((noise, -flat), axis=-1)
    return np.argsort(order, axis=-1).reshape(scores.shape)


def top(scores: Floats, k: int, seed: int = 0) -> Flags:
    """The k highest tokens of every image."""
    chosen: Flags = places(scores, seed) < k
    return chosen


def iou(chosen: Flags, inside: Flags) -> Floats:
    """Per image intersection over union."""
    union = (chosen | inside).sum((1, 2))
    return (chosen & inside).sum((1, 2)) / np.maximum(union, 1)


def share_of(chosen: Flags, region: Flags) -> Floats:
    """Per image the share of a region's tokens that are chosen; NaN where there is no region."""
    size = region.sum((1, 2))
    return np.where(size > 0, (chosen & region).sum((1, 2)) / np.maximum(size, 1), np.nan)


def otsu(scores: Floats) -> Flags:
    """Per image the tokens above Otsu's threshold: the split of the values with the largest variance between."""
    # In float32 the middle of two neighbouring values can be one of them.
    return np.stack([_split(one.astype(np.float64)) for one in scores])


def _split(scores: NDArray[np.float64]) -> Flags:
    values = np.sort(np.unique(scores))
    if len(values) < 2:
        return np.zeros(scores.shape, bool)
    flat = scores.ravel()
    between = []
    for cut in (values[1:] + values[:-1]) / 2:
        upper = flat > cut
        weight = upper.mean()
        between.append(weight * (1 - weight) * (flat[upper].mean() - flat[~upper].mean()) ** 2)
    best = int(np.argmax(between))
    above: Flags = scores > (values[best] + values[best + 1]) / 2
    return above


def per_image(about: dict[str, object], measured: dict[str, Floats]) -> list[Values]:
    """What the values of every measure are about, and the values, one per image."""
    return [(about | {"measure": name}, values) for name, values in measured.items()]


def as_table(found: list[Values]) -> pd.DataFrame:
    """A row per image: columns of what they are about, "image" and "value"."""
    lengths = [len(values) for _, values in found]
    columns = {name: np.repeat([about[name] for about, _ in found], lengths) for name in found[0][0]}
    columns["image"] = np.concatenate([np.arange(length) for length in lengths])
    return pd.DataFrame(columns | {"value": np.concatenate([values for _, values in found])})
