"""Intervals over images: studentised and percentile bootstrap, two-part, t and Wilson intervals, one-sided bounds.

Tokens, channels and time steps of one image are correlated, so images are what is resampled, jointly over all columns.
The intervals cover the choice of images; they do not cover another training seed or another data set.

Which interval: below 1000 images the studentised bootstrap (bootstrap-t; Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 12), because the percentile interval of few and skewed images is too short; above, the
percentile interval; where images are silent and fewer than 1000 spike, the two-part rule of `two_part.py`.
scripts/simulate_coverage.py measures them. Paired ratios are in `ratios.py`, the resampling itself in `bootstrap.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikeattn.boundary import display
from spikeattn.boundary.number_format import with_bound, with_limits
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
from spikeattn.stats.classes import checked_labels, class_means, images_by_label
from spikeattn.stats.quantiles import normal_quantile
from spikeattn.stats.student import t_limits
from spikeattn.stats.two_part import two_part_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

FEW_IMAGES = 10  # spiking images, below which a note says how few they are; no limit depends on it
STUDENTISED_BELOW = 1000  # of 200 images of skewness 6 percentile limits cover 91 to 92 % (reports/statistics)
ALIKE = 1e-13  # of the largest value: what rounding leaves between equal energies
_ROWS = 1 << 12  # images at a time: 1.6 MB of 50 columns


@dataclass(frozen=True, repr=False)
class Interval:
    """A value with its confidence limits.

    Attributes:
        method: how the limits came about.
            "studentised" (bootstrap-t, below 1000 images) and "percentile" (bootstrap, from 1000 images on);
            "two-part" (some images are zero, and from 2 to 999 are not: share of those x mean over them);
            "t" (Student's: so few images, or so few unlike the others, that a studentised interval has no end);
            "upper bound" (one-sided: no image or one is non-zero) and "lower bound" (of a ratio over such a column);
            "constant" (the same on every image); "wilson" (a share of successes);
            "none" (one image, a published table, or nothing to bound it with: low and high are NaN).
    """

    value: float
    low: float
    high: float
    method: str = "percentile"
    confidence: float = CONFIDENCE

    def __str__(self) -> str:
        bounds = {"upper bound": (self.high, "≤"), "lower bound": (self.low, "≥")}
        method = self.method.partition(",")[0]  # "upper bound, replicates" where a null adds its noise
        pair = (
            with_bound(self.value, *bounds[method])
            if method in bounds
            else with_limits(self.value, self.low, self.high)
        )
        return " ".join(pair).strip()

    def __repr__(self) -> str:
        told = self.method if self.method in ("none", "constant") else f"{self.confidence * 100:g} %, {self.method}"
        return f"<{self}: {told}>"

    def _repr_html_(self) -> str:
        """In a notebook: value, limits, how they came about, and where the value lies between them."""
        return display.view("interval_view").html(self)

    def plot(self, ax: Axes | None = None, *, at: float = 0.0, label: str = "", color: str | None = None) -> Axes:
        """Draw the value as a point with its limits as a whisker, along x; several go into the same axes.

        Args:
            ax: axes to draw into; without, those of a new figure of pyplot.
            at: place along y.
            label: at that place.
            color: of point and whisker.
        """
        return display.view("interval_view").plot(self, ax, at, label, color)


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


def mean_intervals(
    table: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    ceiling: ArrayLike | None = None,
    floor: ArrayLike | None = None,
    labels: ArrayLike | None = None,
) -> Intervals:
    """Mean and interval of every column of a table [N, C]; `Interval` lists the methods.

    Where images are zero and fewer than 1000 are not, the limits are those of `two_part_limits`, finite from two
    non-zero images on. Below that the mean has a one-sided bound, P(image is non-zero) x ceiling, with the
    Clopper-Pearson limit of that probability. The limits of a column without negative values are cut at 0 and at the
    ceiling. One image has no interval.

    Args:
        ceiling: [C] largest possible value of one image; infinite or absent where unknown, then a column with fewer
            than two non-zero images has no bound (NaN).
        floor: [C] what every image has whether or not it spikes, 0 where absent (the multiply-accumulates of a first
            layer); an image is non-zero where it has more.
        labels: [N] class of every image, to cluster by class: the class means are what is drawn, each class with its
            images, and their relative limits are those of the mean over images. For classes that are themselves a
            sample, of which the images hold as many as they come; `n_images` and `nonzero_images` still count images.

    Raises:
        SpikeattnError: no images, NaN or infinity, fewer than 100 replicates, confidence not between 0 and 1, labels
            that are missing or of one class alone.
    """
    check_resampling(replicates, seed, confidence)
    table = as_table(table)
    n, columns = table.shape
    if floor is not None:
        floor = np.broadcast_to(np.asarray(floor, dtype=np.float64), (columns,))
        above = None if ceiling is None else _less(np.broadcast_to(ceiling, (columns,)), floor)
        rest = mean_intervals(_less(table, floor), replicates, seed, confidence, above, labels=labels)
        return replace(rest, value=rest.value + floor, low=rest.low + floor, high=rest.high + floor)
    value, least, largest = table.mean(axis=0), table.min(axis=0), table.max(axis=0)
    nonzero = np.count_nonzero(table, axis=0)
    ceiling = np.broadcast_to(np.asarray(np.inf if ceiling is None else ceiling, dtype=np.float64), (columns,))
    if labels is not None:
        means = class_means(table, checked_labels(labels, n))
        of_classes = mean_intervals(means, replicates, seed, confidence, ceiling)
        some = (least >= 0) & (of_classes.value > 0)
        scale = np.where(some, value / np.where(some, of_classes.value, 1), 1)
        shift = np.where(least >= 0, 0, value - of_classes.value)  # numbers of both signs have no relative limits
        low, high = (limits * scale + shift for limits in (of_classes.low, of_classes.high))
        high = np.where(least >= 0, np.minimum(high, np.maximum(ceiling, value)), high)
        return Intervals(value, low, high, of_classes.method, nonzero, n, confidence)
    low, high, method = np.full(columns, np.nan), np.full(columns, np.nan), np.full(columns, "none", "<U16")
    if n == 1:
        return Intervals(value, low, high, method, nonzero, n, confidence)
    counts, alike = least >= 0, largest - least <= ALIKE * np.maximum(np.abs(largest), np.abs(least))
    silent = counts & (nonzero < min(n, STUDENTISED_BELOW))
    constant = alike & ~(silent & (ceiling > 0))
    low[constant], high[constant], method[constant] = value[constant], value[constant], "constant"
    for chosen, limits in ((~constant & ~silent, _limits_of_all), (~constant & silent, two_part_limits)):
        if chosen.any():
            part = table if chosen.all() else table[:, chosen]  # no copy of a large table
            found = limits(part, ceiling[chosen], replicates, seed, confidence)
            low[chosen], high[chosen], method[chosen] = found
    low = np.where(counts, np.maximum(low, 0), low)
    high = np.where(counts, np.minimum(high, np.maximum(ceiling, value)), high)
    return Intervals(value, low, high, method, nonzero, n, confidence)


def t_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean of N values with Student's interval, the check beside the bootstrap; NaN limits for one value."""
    values = as_table(values)[:, :1]
    mean = float(values.mean())
    tail_of(confidence)
    if len(values) == 1:
        return Interval(mean, np.nan, np.nan, "none", confidence)
    low, high = t_limits(values, confidence)
    return Interval(mean, float(low[0]), float(high[0]), "t", confidence)


def wilson_interval(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Share of successes among n images with Wilson's score interval (E. B. Wilson, JASA 1927).

    Of several networks both numbers may be fractions, see `accuracy.mean_accuracy`.
    """
    if n < 1 or not 0 <= successes <= n:
        raise SpikeattnError(f"{successes:g} successes among {n:g} images: 0 <= successes <= n and n >= 1 are needed")
    z = normal_quantile(1 - tail_of(confidence))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Interval(share, low, high, "wilson", confidence)


def _limits_of_all(
    table: Floats, ceiling: Floats, replicates: int, seed: int, confidence: float
) -> tuple[Floats, Floats, NDArray[np.str_]]:
    """Limits of columns without silent images, or with so many spiking ones that the silent ones do not matter."""
    if len(table) >= STUDENTISED_BELOW:
        low, high = percentile_limits(bootstrap_means(table, replicates, seed), confidence)
        return low, high, np.full(len(low), "percentile")
    low, high = studentised_limits(table, replicates, seed, confidence)
    ended = np.isfinite(low) & np.isfinite(high)
    if not ended.all():
        student = t_limits(table, confidence)
        low, high = np.where(ended, low, student[0]), np.where(ended, high, student[1])
    return low, high, np.where(ended, "studentised", "t")


def means_above(table: Floats, floor: Floats) -> Floats:
    """The values of `mean_intervals` with this floor, to the last digit, without their limits: [C] from [N, C]."""
    return _less(table, floor).mean(axis=0) + floor


def _less(table: Floats, floor: Floats) -> Floats:
    """table - floor, 0 where the two differ by rounding alone."""
    with np.errstate(invalid="ignore"):
        rest = table - floor
    alike = ALIKE * np.abs(floor)
    for start in range(0, len(rest), _ROWS):  # of a million images no second copy
        rows = rest[start : start + _ROWS]
        rows[np.abs(rows) <= (alike if rest.ndim > 1 else alike[start : start + _ROWS])] = 0
    return rest
