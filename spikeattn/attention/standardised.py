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
Counts = NDArray[np.int64]

FLOOR = 0.3  # of the median deviation: a place that hardly moves must not turn the smallest change into a large z
# Pooling is wrong where the null of a place has another shape than those of the others, so a p-value may be smaller and
# larger than the place's own rank says by these factors at most. At a nominal .10 no place is then called in more than
# .16 of the images of noise, nor, unless its scores tie, in fewer than .05. The largest score of a place is exempt.
LENIENCE = 1.6
SEVERITY = 2.0
SAME = 1e-12  # relative: scores that differ by less are ties


def standardised(
    x: Floats, x0: Floats, alternative: str = "greater", rng: np.random.Generator | None = None
) -> tuple[Floats, Floats]:
    """z and p of observed log scores [m] against those of the null [B, m].

    z is the distance from the mean of the token's B + 1 scores in their standard deviation (ddof 0), floored at 0.3 of
    the median over tokens. p comes from all n tokens whose null moves, and from absolute values of z with
    alternative="two-sided":

    - of a score that is not the largest of its token's B + 1: (1 + number of null z >= z) / (1 + n B), but at least its
      rank among the B + 1, as a share of them, over 1.6, and at most twice that share;
    - of the largest, which its rank alone could never put below 1 / (B + 1), the harmonic mean of two: the same
      (1 + number of null z >= z) / (1 + n B), and (1 + k) / (1 + n B), where k is the number of tokens whose largest
      score is one of the null and as far above the next one, in z. The first is blunt where the nulls of other places
      have longer tails, the second where that of its own place has; their harmonic mean keeps the level of either
      nearly (Wilson: The harmonic mean p-value, PNAS 116 (2019)), which the smaller of them would not.

    A token whose null is constant has z = 0 and p = 1, whatever its score: nothing says how far it lies from a null
    without a spread. With `rng`, ties are broken at random; without, they count against the token.
    """
    both = np.concatenate([x[None], x0])
    scale = max(1.0, float(np.abs(both).max()))
    moves = np.ptp(x0, axis=0) > SAME * scale
    z, p = np.zeros_like(x), np.ones_like(x)
    if not moves.any():
        return z, p
    standard = in_deviations(both[:, moves])
    far, same = np.abs(standard) if alternative == "two-sided" else standard, SAME * scale
    draw: Floats = np.ones_like(far[0]) if rng is None else 1 - rng.random(far[0].shape)
    own = _share((far[1:] > far[0] + same).sum(axis=0), (far[1:] >= far[0] - same).sum(axis=0), len(x0), draw)
    size, pool = far[1:].size, np.sort(far[1:], axis=None)
    pooled = _share(count_reaching(pool, far[0] + same), count_reaching(pool, far[0] - same), size, draw)
    number, lead = leads(far, same)
    pool = np.sort(lead[number > 0])
    beyond = _share(count_reaching(pool, lead + same), count_reaching(pool, lead - same), size, draw)
    z[moves], p[moves] = standard[0], p_values(own, pooled, np.where(number == 0, beyond, np.nan))
    return z, p


def _share(above: Counts, reach: Counts, size: int, draw: Floats) -> Floats:
    """(1 + number of null scores that reach the observed) / (1 + size) where `draw` is 1; below, less of the ties."""
    p: Floats = (above + draw * (1 + reach - above)) / (1 + size)
    return p


def in_deviations(x: Floats) -> Floats:
    """Scores [B + 1, m] from the mean of their place in its standard deviation; no place is constant."""
    deviation = x.std(axis=0)
    standard: Floats = (x - x.mean(axis=0)) / np.maximum(deviation, FLOOR * np.median(deviation))
    return standard


def count_reaching(pool: Floats, scores: Floats) -> Counts:
    """How many of a pool in ascending order are at least as large as each score."""
    return pool.size - np.searchsorted(pool, scores)


def leads(z: Floats, same: float) -> tuple[Counts, Floats]:
    """For each place of [B + 1, m] the number of the map that is ahead of all others, and by how much; -1 for a tie."""
    second, first = np.partition(z, len(z) - 2, axis=0)[-2:]
    lead = first - second
    return np.where(lead > same, z.argmax(axis=0), -1), lead


def p_values(own: Floats, pooled: Floats, beyond: Floats) -> Floats:
    """p from the rank among the scores of the own place, as a share of them, and from the scores of all places.

    `beyond` holds the second p of scores that are the largest of their place, and NaN for all others.
    """
    held = np.clip(pooled, own / LENIENCE, np.minimum(own * SEVERITY, 1.0))
    return np.where(np.isnan(beyond), held, 2 * pooled * beyond / (pooled + beyond))
