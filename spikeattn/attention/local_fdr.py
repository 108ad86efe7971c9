"""Local false discovery rate of z-scores: the null density over a smooth estimate of the density of all of them.

Efron: Microarrays, empirical Bayes and the two-groups model, Statistical Science 23 (2008). Poisson regression of the
counts in 29 bins on a polynomial of degree 7 (Lindsey's method), with the same choices as statsmodels'
`stats.multitest.local_fdr`, to which it agrees within 1e-5 (tested).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DEGREE = 7
BINS = 29
ITERATIONS = 100
TOLERANCE = 1e-8  # of the deviance


def local_fdr(z: Floats, pi0: float = 1.0) -> Floats:
    """pi0 f0(z) / f(z), clipped to [0, 1]: f0 is the standard normal density, f the estimated one.

    z-scores [m] that are all equal say nothing of a density: their rate is 1. So is that of any token at which the
    regression gives no positive, finite density.
    """
    z = np.asarray(z, dtype=np.float64)
    if np.ptp(z) <= 1e-9 * max(1.0, np.abs(z).max()):
        return np.ones_like(z)
    edges = np.linspace(z.min(), z.max(), BINS + 1)
    counts = np.histogram(z, edges)[0].astype(np.float64)
    centres = (edges[:-1] + edges[1:]) / 2
    design = np.vander(centres, DEGREE + 1)
    scale = design.std(axis=0)
    scale[scale <= 1e-8] = 1.0
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        coefficients = poisson_regression(counts, design / scale)
        f = np.exp(np.vander(z, DEGREE + 1) / scale @ coefficients) / (z.size * (edges[1] - edges[0]))
        f0 = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        rate = pi0 * f0 / f
    rate[~(np.isfinite(f) & (f > 0))] = 1.0
    return np.clip(rate, 0.0, 1.0)


def poisson_regression(counts: Floats, design: Floats) -> Floats:
    """Coefficients [d] of log E[counts] = design @ coefficients, by iteratively reweighted least squares.

    Starts from least squares on log(1 + counts); stops when the deviance moves by less than 1e-8, after 100 rounds, or
    before a step that leaves the finite numbers: few z-scores in many empty bins have no finite maximum, and their
    coefficients are those at which the means of the empty bins fell below the floor of 2e-16.
    """
    coefficients = np.asarray(np.linalg.pinv(design) @ np.log(1 + counts), np.float64)
    predictor = design @ coefficients
    before = _deviance(counts, predictor)
    for _ in range(ITERATIONS):
        mean = np.exp(predictor)
        floored = np.maximum(mean, np.finfo(np.float64).eps)
        root = floored / np.sqrt(mean)
        working = predictor + (counts - mean) / floored
        if not (np.isfinite(root).all() and np.isfinite(working).all()):
            break
        step = np.asarray(np.linalg.lstsq(design * root[:, None], working * root, rcond=-1)[0], np.float64)
        if not np.isfinite(step).all():
            break
        coefficients, predictor = step, design @ step
        after = _deviance(counts, predictor)
        if abs(after - before) < TOLERANCE:
            break
        before = after
    return coefficients


def _deviance(counts: Floats, predictor: Floats) -> float:
    observed = np.where(counts > 0, counts, 1.0)
    return float(2 * (counts * (np.log(observed) - predictor) - (counts - np.exp(predictor))).sum())
