"""Spread between training seeds: networks trained alike but for their random numbers, one value of each.

Another kind of chance than the choice of images, which `intervals.py` is about: here every network saw the same images,
and what varies is what training made of it. Student's interval, because seeds are few: it is exact where the values of
networks trained alike are normally distributed, whatever their number, while a bootstrap of three values can draw no
more than ten different samples and is far too short. scripts/simulate_coverage.py measures the intervals over images,
tests/stats/test_training_seeds.py those over seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spikeattn.errors import SpikeattnError
from spikeattn.stats.bootstrap import CONFIDENCE, tail_of
from spikeattn.stats.intervals import ALIKE, Interval
from spikeattn.stats.quantiles import student_quantile

FEWEST = 2  # seeds with a spread between them
WIDE = 2  # seeds, of which Student's t is 12.7 at 95 %: the interval is nine standard deviations to either side


@dataclass(frozen=True)
class Spread:
    """The values of networks that were trained alike, one per training seed.

    Attributes:
        n: seeds.
        sd: standard deviation between seeds, with n - 1; NaN of one seed.
        least, most: the range of the values.
        mean: their mean with Student's interval of n - 1 degrees of freedom, of what the mean over all seeds would be;
            method "none" and NaN limits of one seed, and where no two seeds differ: a share of few images is then the
            same by chance, and an interval of no width would say that it always is.
    """

    n: int
    sd: float
    least: float
    most: float
    mean: Interval


def spread_of(
    values: ArrayLike, confidence: float = CONFIDENCE, floor: float = -np.inf, ceiling: float = np.inf
) -> Spread:
    """Mean over training seeds, with the spread between them.

    Args:
        values: [seeds], one value of each network.
        floor, ceiling: what a value cannot go beyond, at which the limits are cut: 0 of an energy, 1 of an accuracy.

    Raises:
        SpikeattnError: no values, NaN or infinity.
    """
    array, tail = _checked(values), tail_of(confidence)
    n, mean, nan = len(array), float(array.mean()), float("nan")
    if n < FEWEST:
        return Spread(n, nan, mean, mean, Interval(mean, nan, nan, "none", confidence))
    if np.ptp(array) <= ALIKE * np.abs(array).max():
        return Spread(n, 0.0, mean, mean, Interval(mean, nan, nan, "none", confidence))
    sd = float(array.std(ddof=1))
    half = student_quantile(n - 1, 1 - tail) * sd / np.sqrt(n)
    low, high = max(mean - half, min(floor, mean)), min(mean + half, max(ceiling, mean))
    return Spread(
        n, sd, float(array.min()), float(array.max()), Interval(mean, float(low), float(high), "t", confidence)
    )


def ratio_of_means(over: ArrayLike, under: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """mean(over) / mean(under) of two sides of training seeds, which no seed of the other side belongs to.

    Unpaired: with m the mean and s the standard deviation of a side of n seeds, the squared standard error of the
    logarithm of its mean is v = s^2 / (n m^2), and the limits are ratio x exp(+- t sqrt(v_over + v_under)), t with the
    degrees of freedom of B. L. Welch (Biometrika 34, 1947) and F. E. Satterthwaite (Biometrics 2, 1946). Those cover
    90 % in place of 95 where one side has 2 seeds and the other 10; so with 2 on a side it is the one degree of freedom
    of that side, which is never too short.

    Args:
        over, under: positive values, [seeds] each, or one number that is the same whatever the seed (an ANN's energy).

    Returns:
        Method "t"; "none" and NaN limits where a side has one seed alone, whose spread nobody knows, or no two seeds
        differ on either. Beside a number the limits are those of `spread_of`, turned round.
    """
    if np.ndim(over) == 0:
        own = spread_of(under, confidence, floor=0.0).mean
        with np.errstate(divide="ignore", invalid="ignore"):
            value, low, high = (float(np.float64(np.asarray(over) / limit)) for limit in (own.value, own.high, own.low))
        return Interval(value, low, high, own.method, confidence)
    sides = [_checked(side) for side in (over, under)]
    means, tail = [float(side.mean()) for side in sides], tail_of(confidence)
    ratio, nan = means[0] / means[1] if means[1] > 0 else float("nan"), float("nan")
    if min(map(len, sides)) < FEWEST or not min(means) > 0:
        return Interval(ratio, nan, nan, "none", confidence)
    squares = [float(side.var(ddof=1)) / (len(side) * mean**2) for side, mean in zip(sides, means, strict=True)]
    if not sum(squares) > ALIKE**2:
        return Interval(ratio, nan, nan, "none", confidence)
    freedom = sum(squares) ** 2 / sum(v**2 / (len(side) - 1) for v, side in zip(squares, sides, strict=True))
    if min(map(len, sides)) <= WIDE:
        freedom = 1.0
    half = student_quantile(freedom, 1 - tail) * np.sqrt(sum(squares))
    return Interval(ratio, ratio * float(np.exp(-half)), ratio * float(np.exp(half)), "t", confidence)


def _checked(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise SpikeattnError(f"one finite value per training seed is needed, got an array of shape {array.shape}")
    return array
