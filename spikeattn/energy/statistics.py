"""Intervals over images: bootstrap, t and Wilson intervals, and one-sided bounds where hardly any image spikes.

Tokens, channels and time steps of one image are correlated, so images are what is resampled, jointly over all columns.
The intervals cover the choice of images; they do not cover another training seed or another data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from spikeattn.errors import SpikeattnError

REPLICATES = 2000
CONFIDENCE = 0.95
FEW_IMAGES = 10
_CHUNK_BYTES = 64 * 2**20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with its confidence limits.

    Attributes:
        method: "percentile", "t", "wilson", "upper bound" (one-sided: too few images are non-zero) or "none" (one
            image, or a published table without images: low and high are NaN).
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
        nonzero_images: images in which the column is not zero.
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


def bootstrap_means(table: ArrayLike, replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """Column means of resampled images: [replicates, C] from a table [N, C].

    Every replicate draws N images with replacement and weights all columns by the same multinomial counts / N, so
    ratios and differences of columns may be formed replicate by replicate (a paired comparison is two column groups
    of one table). The draw depends on N, `replicates` and `seed` only; memory stays below some 64 MiB of weights.
    """
    table = _table(table)
    if replicates < 100:
        raise SpikeattnError(f"replicates is {replicates}; a percentile interval needs at least 100, 2000 is usual")
    origin = table[0]
    centred = table - origin  # a constant column stays exactly constant
    blocks = [weights @ centred for weights in _weights(len(table), replicates, seed)]
    return np.concatenate(blocks) / len(table) + origin


def percentile_limits(replicates: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Lower and upper percentile limits along the first axis of a replicate array."""
    tail = _tail(confidence)
    low, high = np.quantile(np.asarray(replicates, dtype=np.float64), [tail, 1 - tail], axis=0)
    return low, high


def mean_intervals(
    table: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    ceiling: ArrayLike | None = None,
) -> Intervals:
    """Mean and bootstrap percentile interval of every column of a table [N, C].

    A column with fewer than 10 non-zero images has no usable percentile interval ([0, 0] where no image spikes): it
    gets the one-sided bound mean <= P(image is non-zero) x ceiling, with the Clopper-Pearson limit of that probability.
    One image has no interval: NaN, method "none".

    Args:
        ceiling: [C] largest possible value of one image; infinite or absent where unknown, then the largest value
            seen takes its place, and a column without any non-zero image has no bound (NaN).
    """
    table = _table(table)
    n, columns = table.shape
    value = table.mean(axis=0)
    nonzero = np.count_nonzero(table, axis=0)
    if n == 1:
        nan = np.full(columns, np.nan)
        return Intervals(value, nan, nan.copy(), np.full(columns, "none"), nonzero, n, confidence)
    low, high = percentile_limits(bootstrap_means(table, replicates, seed), confidence)
    largest = table.max(axis=0)
    limit = np.full(columns, np.inf) if ceiling is None else np.broadcast_to(np.asarray(ceiling, float), (columns,))
    seen = np.where(nonzero > 0, largest, np.nan)
    limit = np.where(np.isfinite(limit), limit, seen)
    varies = largest > table.min(axis=0)
    few = (nonzero < min(FEW_IMAGES, n)) & (varies | (limit != 0))
    share = special.betaincinv(nonzero + 1, np.maximum(n - nonzero, 1), confidence)
    low, high = np.where(few, 0.0, low), np.where(few, share * limit, high)
    method = np.where(few, np.where(np.isnan(high), "none", "upper bound"), "percentile")
    return Intervals(value, np.where(method == "none", np.nan, low), high, method, nonzero, n, confidence)


def t_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean of N values with Student's interval, the check beside the bootstrap; NaN limits for one value."""
    values = _table(values)[:, 0]
    tail = _tail(confidence)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan, "none", confidence)
    half = float(special.stdtrit(n - 1, 1 - tail) * values.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, "t", confidence)


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Share of successes among n images with Wilson's score interval (E. B. Wilson, JASA 1927)."""
    if n < 1 or not 0 <= successes <= n:
        raise SpikeattnError(f"{successes} successes among {n} images: 0 <= successes <= n and n >= 1 are needed")
    z = float(special.ndtri(1 - _tail(confidence)))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Interval(share, low, high, "wilson", confidence)


def _weights(n: int, replicates: int, seed: int) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    rows = max(1, min(replicates, _CHUNK_BYTES // (8 * n)))
    for start in range(0, replicates, rows):
        weights = np.empty((min(rows, replicates - start), n))
        for row in weights:  # one draw per replicate: the stream does not depend on the chunk
            row[:] = np.bincount(generator.integers(0, n, size=n), minlength=n)
        yield weights


def _table(table: ArrayLike) -> Floats:
    array = np.asarray(table, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise SpikeattnError(f"a table of [images, columns] is needed, got an array of shape {array.shape}")
    if len(array) == 0:
        raise SpikeattnError("no images: a mean over zero images does not exist")
    if not np.isfinite(array).all():
        column = int(np.flatnonzero(~np.isfinite(array).all(axis=0))[0])
        raise SpikeattnError(f"column {column} of the per-image table holds NaN or infinity; the run is not usable")
    return array


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise SpikeattnError(f"confidence is {confidence}; a number between 0 and 1 is needed, e.g. 0.95")
    return (1 - confidence) / 2
