"""Limits for columns that are zero on some images: the share of spiking images times the mean over those.

Where an image either spikes or does not, the bootstrap of few spiking images misses them in many resamples. The mean
over all images is share x mean over the spiking ones; each factor has limits of its own, and the limits of the product
follow from theirs on the logarithmic scale (the MOVER of G. Y. Zou and A. Donner, Statistics in Medicine 27, 2008):

    log(high / mean) = sqrt(log(share_high / share)^2 + log(spiking_high / spiking)^2)

The share has the limits of C. J. Clopper and E. S. Pearson (Biometrika 26, 1934), which hold for any number of images.
The rule is the same from 2 spiking images on, so no limit jumps at some number of them, and it comes to within some
percent of the studentised interval of all images where many spike (reports/statistics/coverage.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeattn.stats.bootstrap import Floats, studentised_limits, tail_of
from spikeattn.stats.quantiles import beta_quantile
from spikeattn.stats.student import t_limits

BOUNDED_FROM = 2  # spiking images: one image says nothing of the spread among them
_LOG_FROM = 3  # spiking images: t of one degree of freedom is 12.7, and its exponential says nothing


def two_part_limits(
    table: Floats, ceiling: Floats, replicates: int, seed: int, confidence: float
) -> tuple[Floats, Floats, NDArray[np.str_]]:
    """Limits and methods [C] of the column means of a table [N, C] without negative values and with silent images.

    From two spiking images on "two-part", at most share_high x ceiling. Below, "upper bound": 0 and, one-sided,
    share_high x ceiling; "none" and NaN where the ceiling is infinite.

    Args:
        ceiling: [C] largest possible value of one image, infinite where unknown.
    """
    n, tail = len(table), tail_of(confidence)
    spiking = np.count_nonzero(table, axis=0)
    enough = spiking >= BOUNDED_FROM
    share_high = beta_quantile(spiking + 1, n - spiking, np.where(enough, 1 - tail, confidence))
    with np.errstate(invalid="ignore"):
        most = np.where(np.isfinite(ceiling), share_high * ceiling, np.inf)
    low, high = np.zeros(len(spiking)), np.where(np.isinf(most), np.nan, most)
    method = np.where(np.isnan(high), "none", "upper bound").astype("<U16")
    low[np.isnan(high)] = np.nan
    if enough.any():
        count = spiking[enough]
        mean = table[:, enough].sum(axis=0) / count
        spiking_low, spiking_high = _spiking_limits(table[:, enough], replicates, seed, confidence)
        share, share_low = count / n, beta_quantile(count, n - count + 1, tail)
        up = np.hypot(np.log(share_high[enough] / share), np.log(spiking_high / mean))
        some = spiking_low > 0
        down = np.hypot(np.log(share / share_low), np.log(mean / np.where(some, spiking_low, mean)))
        low[enough] = np.where(some, share * mean * np.exp(-down), 0)
        high[enough] = np.maximum(np.minimum(share * mean * np.exp(up), most[enough]), share * mean)
        method[enough] = "two-part"
    return low, high, method


def _spiking_limits(table: Floats, replicates: int, seed: int, confidence: float) -> tuple[Floats, Floats]:
    """Limits [C] of the mean over the non-zero images of each column, of which there are two or more.

    From three images on Student's limits of the logarithm, which leave 0 out, the upper one no less than studentised:
    of some five skewed images the studentised limit is the lower one and covers 92 %, of twenty the other one.
    """
    spikes, low, high = table != 0, np.empty(table.shape[1]), np.empty(table.shape[1])
    counts = np.count_nonzero(spikes, axis=0)
    for count in np.unique(counts):  # columns with as many spiking images share their resamples
        columns = np.flatnonzero(counts == count)
        values = table[:, columns].T[spikes[:, columns].T].reshape(len(columns), count).T
        low[columns], high[columns] = _limits_of_few(values, replicates, seed, confidence)
    return low, high


def _limits_of_few(values: Floats, replicates: int, seed: int, confidence: float) -> tuple[Floats, Floats]:
    low, high = t_limits(values, confidence)
    if len(values) < _LOG_FROM:
        return low, high
    mean = values.mean(axis=0)
    width = (high - mean) / mean
    studentised = studentised_limits(values, replicates, seed, confidence)[1]
    studentised = np.where(np.isfinite(studentised), studentised, high)
    return mean * np.exp(-width), np.maximum(studentised, mean * np.exp(width))
