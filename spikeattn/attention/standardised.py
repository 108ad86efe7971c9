"""A test of tokens against their own place: estimator="standardised" of `assess` and `attend` (ours).

Scores of different places have different nulls: position explains up to 86 % of the variance of the log null scores of
a ViT with position embedding, and counts of spikes are skewed. A null pooled over tokens as they are then calls a place
for being that place, and a two-sided one is blind upwards, since silent tokens lie farthest out. So every token's log
score is measured in standard deviations of its own place first, with the observed score among them, which makes the
B + 1 maps exchangeable; then all places are pooled, for a p-value far below 1 / (B + 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FLOOR = 0.3  # of the median deviation: a place that hardly moves must not turn the smallest change into a large z
# Pooling is wrong where the null of a place has another shape than those of the others. A p-value may be smaller than
# the place's own rank says by this factor at most, so that at a nominal .10 no place is called in more than .16 of the
# images of noise. Ranks up to .02 are excepted: with 100 or 200 replicates they are too coarse for a q.
LENIENCE = 1.6
COARSE = 0.02
SAME = 1e-12  # relative: scores that differ by less are ties


def standardised(
    x: Floats, x0: Floats, alternative: str = "greater", rng: np.random.Generator | None = None
) -> tuple[Floats, Floats]:
    """z and p of observed log scores [m] against those of the null [B, m].

    z is the distance from the mean of the token's B + 1 scores in their standard deviation (ddof 0), floored at 0.3 of
    the median over tokens. p is (1 + number of null z >= z) / (1 + number of null z), over all tokens whose null
    moves, or of absolute values with alternative="two-sided"; it is at least the token's own rank among its B + 1
    scores over 1.6, unless that rank is at most .02. A token whose null is constant has z = 0 and p = 1. With `rng`,
    ties are broken at random; without, they count against the token.
    """
    both = np.concatenate([x[None], x0])
    scale = max(1.0, float(np.abs(both).max()))
    moves = np.ptp(x0, axis=0) > SAME * scale
    z, p = np.zeros_like(x), np.ones_like(x)
    if not moves.any():
        return z, p
    both = both[:, moves]
    deviation = both.std(axis=0)
    standard = (both - both.mean(axis=0)) / np.maximum(deviation, FLOOR * np.median(deviation))
    far = np.abs(standard) if alternative == "two-sided" else standard
    same, pool = SAME * scale, np.sort(far[1:], axis=None)
    draw = np.ones_like(far[0]) if rng is None else rng.random(far.shape[1])
    own = _rank((far[1:] > far[0] + same).sum(axis=0), (far[1:] >= far[0] - same).sum(axis=0), len(x0), draw)
    reach = [pool.size - np.searchsorted(pool, far[0] + sign * same) for sign in (1, -1)]
    pooled = _rank(reach[0], reach[1], pool.size, draw)
    z[moves], p[moves] = standard[0], np.where(own <= COARSE, pooled, np.maximum(pooled, own / LENIENCE))
    return z, p


def _rank(above: NDArray[np.int64], reach: NDArray[np.int64], n: int, draw: Floats) -> Floats:
    """(1 + number that reach the observed score) / (1 + n) where `draw` is 1; below, with a part of the ties alone."""
    p: Floats = (above + draw * (1 + reach - above)) / (1 + n)
    return p
