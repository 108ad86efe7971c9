"""Intervals over images: studentised and percentile bootstrap, t and Wilson intervals, and one-sided bounds.

Tokens, channels and time steps of one image are correlated, so images are what is resampled, jointly over all columns.
The intervals cover the choice of images; they do not cover another training seed or another data set.

Which interval: below 200 images the studentised bootstrap (bootstrap-t; Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 12), because the percentile interval of few and skewed images is too short; above, the
percentile interval; where fewer than 10 images spike, a one-sided bound. scripts/simulate_coverage.py measures them.
Paired ratios are in `ratios.py`, the resampling itself is in `bootstrap.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from spikeattn.errors import SpikeattnError
from spikeattn.stats.bootstrap import (
    CONFIDENCE,
    REPLICATES,
    Floats,
    as_table,
    bootstrap_means,
    check_resampling,
    percentile_limits,
    studentised_limits,
    tail_of,
)

__all__ = [
    "CONFIDENCE",
    "FEW_IMAGES",
    "REPLICATES",
    "STUDENTISED_BELOW",
    "Floats",
    "Interval",
    "Intervals",
    "bootstrap_means",
    "images_by_label",
    "mean_intervals",
    "means_above",
    "percentile_limits",
    "studentised_limits",
    "t_interval",
    "t_limits",
    "wilson_interval",
]

FEW_IMAGES = 10  # a resample misses all of k images that spike with probability e^-k: 5e-5 at 10, 5 % at 3
STUDENTISED_BELOW = 200  # up to skewness 2 percentile limits cover 94 % from there on (reports/statistics/coverage.md)
ALIKE = 1e-13  # of the largest value: what rounding leaves between equal energies


@dataclass(frozen=True)
class Interval:
    """A value with its confidence limits.

    Attributes:
        method: how the limits came about.
            "studentised" (bootstrap-t, below 200 images) and "percentile" (bootstrap, from 200 images on);
            "t" (Student's: so few images, or so few unlike the others, that a studentised interval has no end);
            "upper bound" (one-sided: fewer than 10 images are non-zero) and "lower bound" (of a ratio over such a
            column); "constant" (the same on every image); "wilson" (a share of successes);
            "none" (one image, a published table, or nothing to bound it with: low and high are NaN).
    """

    value: float
    low: float
    high: float
    method: str = "percentile"
    confidence: float = CONFIDENCE


@dataclass(frozen=True)
class Intervals:
    """Means of C columns over N images with their limits; all arrays are [C].

    Attributes:
        method: as in `Interval`, per column.
        nonzero_images: images in which the column is not zero, or above its floor.
    """

    value: Floats
    low: Floats
    high: Floats
    method: NDArray[np.str_]
    nonzero_images: NDArray[np.int64]
    n_images: int
    confidence: float

    def __getitem__(self, column: int) -> Interval:
        value, low, high = (float(array[column]) for array in (self.value, self.low, self.high))
        return Interval(value, low, high, str(self.method[column]), self.confidence)


def t_limits(table: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Student's limits [C] of the column means of a table [N, C], N > 1."""
    table = as_table(table)
    n, mean = len(table), table.mean(axis=0)
    half = special.stdtrit(n - 1, 1 - tail_of(confidence)) * table.std(axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def mean_intervals(
    table: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    ceiling: ArrayLike | None = None,
    floor: ArrayLike | None = None,
) -> Intervals:
    """Mean and interval of every column of a table [N, C]; `Interval` lists the methods.

    A column with fewer than 10 non-zero images has no usable bootstrap ([0, 0] where no image spikes): it gets the
    one-sided bound mean <= P(image is non-zero) x ceiling, with the Clopper-Pearson limit of that probability. The
    limits of a column without negative values are cut at 0 and at the ceiling. One image has no interval.

    Args:
        ceiling: [C] largest possible value of one image; infinite or absent where unknown, then Student's upper limit
            of the non-zero images takes its place, each limit at half the error, and a column with fewer than two
            non-zero images has no bound (NaN).
        floor: [C] what every image has whether or not it spikes, 0 where absent (the multiply-accumulates of a first
            layer); an image is non-zero where it has more.

    Raises:
        SpikeattnError: no images, NaN or infinity, fewer than 100 replicates, confidence not between 0 and 1.
    """
    check_resampling(replicates, seed, confidence)
    table = as_table(table)
    n, columns = table.shape
    if floor is not None:
        floor = np.broadcast_to(np.asarray(floor, dtype=np.float64), (columns,))
        above = None if ceiling is None else _less(np.broadcast_to(ceiling, (columns,)), floor)
        rest = mean_intervals(_less(table, floor), replicates, seed, confidence, above)
        return replace(rest, value=rest.value + floor, low=rest.low + floor, high=rest.high + floor)
    value, least, largest = table.mean(axis=0), table.min(axis=0), table.max(axis=0)
    nonzero = np.count_nonzero(table, axis=0)
    ceiling = np.broadcast_to(np.asarray(np.inf if ceiling is None else ceiling, dtype=np.float64), (columns,))
    if n == 1:
        nan = np.full(columns, np.nan)
        return Intervals(value, nan, nan.copy(), np.full(columns, "none"), nonzero, n, confidence)
    if n < STUDENTISED_BELOW:
        (low, high), method = studentised_limits(table, replicates, seed, confidence), np.full(columns, "studentised")
        endless, student = ~(np.isfinite(low) & np.isfinite(high)), t_limits(table, confidence)
        low, high = np.where(endless, student[0], low), np.where(endless, student[1], high)
        method = np.where(endless, "t", method)
    else:
        low, high = percentile_limits(bootstrap_means(table, replicates, seed), confidence)
        method = np.full(columns, "percentile")
    alike = largest - least <= ALIKE * np.maximum(np.abs(largest), np.abs(least))
    low, high, method = np.where(alike, value, low), np.where(alike, value, high), np.where(alike, "constant", method)
    counts = least >= 0
    low = np.where(counts, np.maximum(low, 0), low)
    high = np.where(counts, np.minimum(high, np.maximum(ceiling, value)), high)
    few = counts & (nonzero < min(FEW_IMAGES, n)) & ~(alike & (ceiling == 0))
    low[few], high[few] = 0, _bounds(table[:, few], nonzero[few], ceiling[few], confidence)
    method = np.where(few, np.where(np.isnan(high), "none", "upper bound"), method)
    return Intervals(value, np.where(method == "none", np.nan, low), high, method, nonzero, n, confidence)


def images_by_label(labels: ArrayLike, n_images: int) -> dict[int, NDArray[np.intp]]:
    """Row numbers of the images of every label, by label in rising order.

    A class is a data set of its own: its interval is the one that a table of its images alone gives. Intervals hold one
    class each; they are not simultaneous over classes.

    Raises:
        SpikeattnError: not one whole number per image.
    """
    labels = np.asarray(labels)
    if labels.shape != (n_images,) or not np.issubdtype(labels.dtype, np.integer):
        raise SpikeattnError(
            f"labels are an array of shape {labels.shape} and type {labels.dtype}; one whole number for each of the "
            f"{n_images} images is needed"
        )
    order = np.argsort(labels, kind="stable")
    distinct, starts = np.unique(labels[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(order, starts[1:]), strict=True))


def t_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean of N values with Student's interval, the check beside the bootstrap; NaN limits for one value."""
    values = as_table(values)[:, :1]
    mean = float(values.mean())
    tail_of(confidence)
    if len(values) == 1:
        return Interval(mean, np.nan, np.nan, "none", confidence)
    low, high = t_limits(values, confidence)
    return Interval(mean, float(low[0]), float(high[0]), "t", confidence)


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Share of successes among n images with Wilson's score interval (E. B. Wilson, JASA 1927)."""
    if n < 1 or not 0 <= successes <= n:
        raise SpikeattnError(f"{successes} successes among {n} images: 0 <= successes <= n and n >= 1 are needed")
    z = float(special.ndtri(1 - tail_of(confidence)))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Interval(share, low, high, "wilson", confidence)


def _bounds(table: Floats, nonzero: NDArray[np.int64], ceiling: Floats, confidence: float) -> Floats:
    """Upper limits of the means of columns with few non-zero images; NaN where nothing bounds them."""
    n, known = len(table), np.isfinite(ceiling)
    level = np.where(known, confidence, 1 - tail_of(confidence))
    share = special.betaincinv(nonzero + 1, n - nonzero, level)
    some = np.maximum(nonzero, 2)
    mean = table.sum(axis=0) / some
    spread = np.sqrt((np.where(table > 0, table - mean, 0) ** 2).sum(axis=0) / (some - 1) / some)
    student = np.where(nonzero > 1, mean + special.stdtrit(some - 1, level) * spread, np.nan)
    return share * np.where(known, ceiling, student)


def means_above(table: Floats, floor: Floats) -> Floats:
    """The values of `mean_intervals` with this floor, to the last digit, without their limits: [C] from [N, C]."""
    return _less(table, floor).mean(axis=0) + floor


def _less(table: Floats, floor: Floats) -> Floats:
    """table - floor, 0 where the two differ by rounding alone."""
    with np.errstate(invalid="ignore"):
        rest = table - floor
    rest[np.abs(rest) <= ALIKE * np.abs(floor)] = 0
    return rest
