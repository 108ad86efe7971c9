"""Resampling of images: one matrix of multinomial weights times the per-image table, drawn and multiplied in chunks.

The weights are joint over all columns (tensors, time steps, parts, a second model), so anything formed from the columns
may be formed replicate by replicate. They depend on the number of images, `replicates` and the seed only.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from spikeattn.boundary.arguments import shown, whole_number
from spikeattn.errors import SpikeattnError

REPLICATES = 2000  # a limit of a 95 % interval then rests on 50 replicates
CONFIDENCE = 0.95
FEWEST = 100  # replicates: the limits of a 95 % interval are then the 3rd from either end
MOST = 10_000_000  # beyond, limits move by less than a thousandth of a standard error, and memory runs out
_CHUNK_BYTES = 32 * 2**20  # of weights at a time, little beside the table of a large run
_DRAWS = 2**15  # at a time, so that they and their counts stay in the cache
_NO_SPREAD = 1e-10  # of the second moment: a replicate that drew equal images only
_ENDLESS = 1e30  # stands for an infinite t, of which no quantile could be interpolated
DOUBLE_BELOW = 1000  # images; above, single precision halves time and memory and costs some 1e-6 of a standard error

Floats = NDArray[np.float64]


def bootstrap_means(table: ArrayLike, replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """Column means of resampled images: [replicates, C] from a table [N, C].

    Every replicate draws N images with replacement and weights all columns by the same multinomial counts / N, so
    ratios and differences of columns may be formed replicate by replicate (a paired comparison is two column groups
    of one table). The same seed gives the same bits, whatever the number of threads. Beside the table and the result,
    memory is a single-precision copy of the table and some 32 MiB of weights.

    Raises:
        SpikeattnError: no images, NaN or infinity, fewer than 100 replicates.
    """
    table = as_table(table)
    low, high = table.min(axis=0), table.max(axis=0)
    origin = np.where(low == high, low, table.mean(axis=0))  # a constant column stays exactly constant
    scale = np.maximum(high - origin, origin - low)
    scale[scale == 0] = 1
    centred = np.empty(table.shape, np.float64 if len(table) < DOUBLE_BELOW else np.float32)
    for start in range(0, len(table), 1024):  # blocks of rows: no second copy in double precision
        rows = slice(start, start + 1024)
        centred[rows] = (table[rows] - origin) / scale
    means = reweighted(centred, replicates, seed)
    means *= scale
    means += origin
    return means


def percentile_limits(replicates: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Lower and upper percentile limits along the first axis of a replicate array."""
    tail = tail_of(confidence)
    low, high = np.quantile(np.asarray(replicates, dtype=np.float64), [tail, 1 - tail], axis=0)
    return low, high


def studentised_limits(
    table: ArrayLike, replicates: int = REPLICATES, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Limits [C] of the column means of a table [N, C] by the studentised bootstrap; infinite where it has no end.

    Every replicate gives t* = (mean* - mean) / se* with the standard error of its own images; the limits are
    mean - quantiles of t* x se. A replicate that drew equal images only has se* = 0 and an infinite t*.
    """
    table = as_table(table)
    mean = table.mean(axis=0)
    centred = table - mean
    scale = np.abs(centred).max(axis=0)
    scale[scale == 0] = 1
    centred /= scale  # squares neither overflow nor vanish, and their differences lose no digits
    means, squares = np.split(reweighted(np.concatenate([centred, centred**2], axis=1), replicates, seed), 2, axis=1)
    spread = centred.std(axis=0) * scale
    low, high = np.where(spread > 0, quantiles_of_t(means, squares - means**2, squares, confidence), 0)
    return mean - high * spread, mean - low * spread


def reweighted(columns: NDArray[np.floating], replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """Means of resampled rows in the precision of the columns: [replicates, C] from [N, C]; centre them before."""
    check_resampling(replicates, seed)
    n = len(columns)
    means = np.empty((replicates, columns.shape[1]))
    start = 0
    with threadpool_limits(1, user_api="blas"):  # sums in one order; and threads that wait on a busy core cost tenfold
        for weights in _weights(n, replicates, seed, columns.dtype):
            means[start : start + len(weights)] = weights @ columns
            start += len(weights)
    means /= n
    return means


def quantiles_of_t(means: Floats, variances: Floats, squares: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Quantiles of mean / sqrt(variance) over replicates; infinite where that many replicates have no variance."""
    none = variances <= _NO_SPREAD * squares
    t = np.where(none, np.sign(means) * _ENDLESS, means / np.sqrt(np.where(none, 1, variances)))
    low, high = percentile_limits(t, confidence)
    return np.where(low < -_ENDLESS / 1e9, -np.inf, low), np.where(high > _ENDLESS / 1e9, np.inf, high)


def as_table(table: ArrayLike) -> Floats:
    """The array as [images, columns] in double precision.

    Raises:
        SpikeattnError: another shape, no images, NaN or infinity.
    """
    array = np.asarray(table, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise SpikeattnError(f"a table of [images, columns] is needed, got an array of shape {array.shape}")
    if len(array) == 0:
        raise SpikeattnError("no images: a mean over zero images does not exist")
    finite = np.isfinite(array).all(axis=0)
    if not finite.all():
        column = int(np.flatnonzero(~finite)[0])
        raise SpikeattnError(f"column {column} of the per-image table holds NaN or infinity; the run is not usable")
    return array


def tail_of(confidence: float) -> float:
    """Probability left outside on either side."""
    if not isinstance(confidence, Real) or isinstance(confidence, bool) or not 0 < confidence < 1:
        raise SpikeattnError(f"confidence is {shown(confidence)}; a number between 0 and 1 is needed, e.g. 0.95")
    return (1 - float(confidence)) / 2


def check_resampling(replicates: Any, seed: Any, confidence: Any = CONFIDENCE) -> None:
    """Refuse settings of a bootstrap that are none, also where no image is resampled in the end.

    Raises:
        SpikeattnError: naming the setting.
    """
    whole_number("replicates", replicates, FEWEST, MOST, why=f", {REPLICATES} is usual")
    whole_number("seed", seed)
    tail_of(confidence)


def _weights(n: int, replicates: int, seed: int, dtype: DTypeLike) -> Iterator[NDArray[np.floating]]:
    generator = np.random.default_rng(seed)
    rows = max(1, min(replicates, _CHUNK_BYTES // (np.dtype(dtype).itemsize * n)))
    few = max(1, _DRAWS // n)
    for start in range(0, replicates, rows):
        weights = np.empty((min(rows, replicates - start), n), dtype)
        for first in range(0, len(weights), few):  # the stream of draws depends on neither chunk nor block
            block = weights[first : first + few]
            drawn = generator.integers(0, n, size=block.shape)
            drawn += np.arange(0, block.size, n)[:, None]
            block[:] = np.bincount(drawn.ravel(), minlength=block.size).reshape(block.shape)
        yield weights
