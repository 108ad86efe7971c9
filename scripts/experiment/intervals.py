"""Means with their 95 % intervals: over images, or over training seeds and images together."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from spikeattn.stats.intervals import mean_intervals

from .scores import Floats

CONFIDENCE = 0.95


def of_each(columns: list[Floats]) -> list[tuple[float, float, float]]:
    """Mean and limits of each [image], or [seed, image]; those of all images alike are resampled together."""
    if len({values.shape for values in columns}) == 1 and columns[0].ndim == 1 and not np.isnan(columns).any():
        table = np.stack(columns, axis=1)
        # `mean_intervals` is for counts, which are not negative; a shift changes no width.
        low = np.minimum(table.min(axis=0), 0.0)
        found = mean_intervals(table - low)
        return list(zip(found.value + low, found.low + low, found.high + low, strict=True))
    return [over_images(values) if values.ndim == 1 else over_seeds_and_images(values) for values in columns]


def over_images(values: Floats) -> tuple[float, float, float]:
    """Mean and limits of values [image]; images without one (NaN) are left out."""
    known = values[~np.isnan(values)]
    if not known.size:
        return math.nan, math.nan, math.nan
    return of_each([known])[0]


def over_seeds_and_images(values: Floats) -> tuple[float, float, float]:
    """Mean and limits of values [seed, image] that share their images; NaN where an image has no value.

    Seeds and images are both drawn: the variances of their means add up, less what both of them hold (two-way layout
    with one value per cell). Limits by Student's t with the degrees of freedom of the seeds, which are the fewer.
    """
    table = values[:, ~np.isnan(values).any(axis=0)]
    seeds, images = table.shape
    if seeds < 2 or images < 2:
        return (*over_images(values.ravel()),)
    mean = float(table.mean())
    of_seed, of_image = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    rest = float(((table - of_seed - of_image + mean) ** 2).sum() / ((seeds - 1) * (images - 1)))
    variance = float(of_seed.var(ddof=1)) / seeds + float(of_image.var(ddof=1)) / images - rest / (seeds * images)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1)) * math.sqrt(max(variance, rest / (seeds * images)))
    return mean, mean - half, mean + half
