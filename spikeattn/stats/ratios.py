"""Ratios of two means over the same images, paired image by image: SNN against ANN, one model against another."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikeattn.errors import SpikeattnError
from spikeattn.stats.bootstrap import (
    CONFIDENCE,
    REPLICATES,
    Floats,
    as_table,
    bootstrap_means,
    check_resampling,
    percentile_limits,
    quantiles_of_t,
    reweighted,
    tail_of,
)
from spikeattn.stats.classes import checked_labels, class_means
from spikeattn.stats.intervals import ALIKE, STUDENTISED_BELOW, Intervals, mean_intervals
from spikeattn.stats.quantiles import student_quantile

_PAIRED_FROM = 10  # non-zero images: a resample misses all of k of them with probability e^-k: 5e-5 at 10, 5 % at 3
_DEAD = 1e-6  # of the mean: a replicate below drew no image that spikes, but for rounding in single precision


def ratio_intervals(
    numerator: ArrayLike,
    denominator: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    numerator_ceiling: ArrayLike | None = None,
    denominator_ceiling: ArrayLike | None = None,
    labels: ArrayLike | None = None,
) -> Intervals:
    """mean(numerator) / mean(denominator), column by column, formed replicate by replicate on the same images.

    Where one side is the same on every image (the multiply-accumulates of an ANN), the interval is that of the other
    side's mean, divided or inverted, one-sided bounds included. Where both vary, the logarithm of the ratio is
    studentised below 1000 images, so that the interval of the inverse ratio is the inverse interval; from 1000 images
    on it is the percentile interval. Where a side has fewer than 10 non-zero images no resample is of use: the limits
    of the two means are put together as if they were independent ("two-part", or a bound where one of them has but
    one), which is wider where both spike on the same images. An upper limit over a mean that may be 0 is infinite.

    Args:
        numerator, denominator: tables [N, C] of the same images in the same order, [N] for one column, or one number
            that holds for every image. None may be negative.
        numerator_ceiling, denominator_ceiling: as in `mean_intervals`.
        labels: as in `mean_intervals`, to cluster by class; the ratio itself stays that of the means over images.

    Returns:
        `nonzero_images` is the smaller one of the two sides. A ratio over zero is NaN, method "none".

    Raises:
        SpikeattnError: different images or columns, negative numbers, and whatever `mean_intervals` refuses.
    """
    check_resampling(replicates, seed, confidence)
    over, under = _pair(numerator, denominator)
    n, columns = over.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        value = over.mean(axis=0) / under.mean(axis=0)
    value[~np.isfinite(value)] = np.nan
    nonzero = np.minimum(np.count_nonzero(over, axis=0), np.count_nonzero(under, axis=0))
    if labels is not None:
        classes = checked_labels(labels, n)
        of_classes = ratio_intervals(
            class_means(over, classes), class_means(under, classes),
            replicates, seed, confidence, numerator_ceiling, denominator_ceiling,
        )  # fmt: skip
        scale = np.where(of_classes.value > 0, value / np.where(of_classes.value > 0, of_classes.value, 1), 1)
        low, high = of_classes.low * scale, of_classes.high * scale
        return Intervals(value, low, high, of_classes.method, nonzero, n, confidence)
    low, high, method = np.full(columns, np.nan), np.full(columns, np.nan), np.full(columns, "none", "<U16")
    joint = ~_alike(over) & ~_alike(under) & (nonzero >= min(_PAIRED_FROM, n))
    if joint.any():
        low[joint], high[joint], method[joint] = _paired(over[:, joint], under[:, joint], replicates, seed, confidence)
    if not joint.all():
        ceilings = (
            None if ceiling is None else np.broadcast_to(ceiling, (columns,))[~joint]
            for ceiling in (numerator_ceiling, denominator_ceiling)
        )
        sides = (
            mean_intervals(side[:, ~joint], replicates, seed, confidence, ceiling)
            for side, ceiling in zip((over, under), ceilings, strict=True)
        )
        low[~joint], high[~joint], method[~joint] = _unpaired(*sides)
    none = np.isnan(value) | np.isnan(low)
    low[none], high[none], method[none] = np.nan, np.nan, "none"
    return Intervals(value, low, high, method, nonzero, n, confidence)


def _unpaired(over: Intervals, under: Intervals) -> tuple[Floats, Floats, NDArray[np.str_]]:
    """Limits of the ratio of two means from the limits of each, as if they were independent; exact where one is fixed.

    On the logarithmic scale the distances of the limits from the value add up in squares, as in `two_part.py`. A mean
    of 0 has no logarithm: there the ends are divided.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = over.value / under.value
        up = np.hypot(np.log(over.high / over.value), np.log(under.value / under.low))
        down = np.hypot(np.log(over.value / over.low), np.log(under.high / under.value))
        silent = over.value == 0
        low = np.where(silent, over.low / under.high, value * np.exp(-down))
        high = np.where(silent, over.high / under.low, value * np.exp(up))
    fixed = [side.method == "constant" for side in (over, under)]
    method = np.select(
        [
            (over.method == "none") | (under.method == "none"),
            (over.method == "upper bound") & (under.method == "upper bound"),
            under.method == "upper bound",
            over.method == "upper bound",
            fixed[1],
            fixed[0],
        ],
        ["none", "none", "lower bound", "upper bound", over.method, under.method],
        "two-part",
    )
    return low, high, method


def _pair(numerator: ArrayLike, denominator: ArrayLike) -> tuple[Floats, Floats]:
    sides = [np.asarray(side, dtype=np.float64) for side in (numerator, denominator)]
    n = max((len(side) for side in sides if side.ndim), default=0)
    over, under = (as_table(np.full(n, side) if side.ndim == 0 else side) for side in sides)
    if len(over) != len(under) or 1 != over.shape[1] != under.shape[1] != 1:
        raise SpikeattnError(
            f"a ratio pairs the same images and columns, got tables of {over.shape} and {under.shape} [images, columns]"
        )
    if over.min() < 0 or under.min() < 0:
        raise SpikeattnError("a ratio of means needs tables without negative numbers")
    over, under = np.broadcast_arrays(over, under)
    return over, under


def _alike(table: Floats) -> NDArray[np.bool_]:
    return np.ptp(table, axis=0) <= ALIKE * np.abs(table).max(axis=0)


def _paired(
    over: Floats, under: Floats, replicates: int, seed: int, confidence: float
) -> tuple[Floats, Floats, NDArray[np.str_]]:
    """Limits of mean(over) / mean(under) through d = over / its mean - under / its mean, which loses no digits."""
    ratio = over.mean(axis=0) / under.mean(axis=0)
    base = under / under.mean(axis=0)
    difference = over / over.mean(axis=0) - base
    difference -= difference.mean(axis=0)
    if len(over) < STUDENTISED_BELOW:
        low, high, method = _studentised(difference, base, replicates, seed, confidence)
    else:
        columns = np.concatenate([difference, base], axis=1)
        moved, level = np.split(bootstrap_means(columns, replicates, seed), 2, axis=1)
        dead = level < _DEAD
        low, high = percentile_limits(np.where(dead, np.inf, 1 + moved / np.where(dead, 1, level)), confidence)
        method = np.full(len(ratio), "percentile")
    alike = np.abs(difference).max(axis=0) <= ALIKE * base.max(axis=0)
    return (
        np.where(alike, ratio, ratio * low),
        np.where(alike, ratio, ratio * high),
        np.where(alike, "constant", method),
    )


def _studentised(
    difference: Floats, base: Floats, replicates: int, seed: int, confidence: float
) -> tuple[Floats, Floats, NDArray[np.str_]]:
    """Limits of the ratio in units of itself: bootstrap-t of its logarithm, Student's t where that has no end.

    With r = ratio* / ratio the squared standard error of log r is mean*((d - (r - 1) base)^2) / mean*(over)^2.
    """
    columns = [difference, base - 1, difference**2, difference * base, base**2]
    moments = reweighted(np.concatenate(columns, axis=1), replicates, seed)
    moved, level, dd, db, bb = np.split(moments, len(columns), axis=1)
    level += 1
    over = level + moved
    dead = (level < _DEAD) | (over < _DEAD)  # no image that spikes was drawn
    level, over = np.where(dead, 1, level), np.where(dead, 1, over)
    step = moved / level
    residual = np.where(dead, 0, dd - 2 * step * db + step**2 * bb) / over**2
    change = np.where(dead, moved, np.log1p(np.where(dead, 0, step)))
    low, high = quantiles_of_t(change, residual, np.where(dead, 1, dd / over**2), confidence)
    student = student_quantile(len(base) - 1, 1 - tail_of(confidence)) / np.sqrt(len(base) - 1)
    endless = ~(np.isfinite(low) & np.isfinite(high))
    low, high = np.where(endless, -student, low), np.where(endless, student, high)
    spread = difference.std(axis=0)
    return np.exp(-high * spread), np.exp(-low * spread), np.where(endless, "t", "studentised")
