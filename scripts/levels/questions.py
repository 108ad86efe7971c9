"""The tests whose levels are measured, by the question that each asks of a map."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from spikeattn.attention.significance import AttentionWarning, assess, benjamini_hochberg, plus_one_p, standardise
from spikeattn.attention.standardised import standardised
from spikeattn.errors import SpikeattnError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEVEL = 0.1  # nominal, of p, q and lfdr
HOW_MUCH, WHERE = "how much", "where"  # of estimator="standardised"; the second with relative=True, for spikes alone
PLUS_ONE = "plus-one"  # the estimator that was the default before


def tests_of(unit: float | None) -> tuple[str, ...]:
    """The tests of maps of spikes, and of a softmax, whose rows add up to a constant, so that "where" is "how much"."""
    return (HOW_MUCH, PLUS_ONE) if unit is None else (HOW_MUCH, WHERE, PLUS_ONE)


def log_scores(maps: Floats, unit: float | None, test: str) -> Floats:
    """The scores [B, m] on the scale on which `assess` tests them.

    Raises:
        SpikeattnError: a softmax map with a zero, whose logarithm would need an offset that is not measured here.
    """
    if unit is None and maps.min() <= 0:
        raise SpikeattnError(f"a softmax map has the score {maps.min()}, which has no logarithm: leave its model out")
    x = np.log(maps + (0.0 if unit is None else unit / 2))
    return x - np.log(np.exp(x).mean(axis=1, keepdims=True)) if test == WHERE else x


def q_values(x: Floats, x0: Floats, test: str) -> tuple[Floats, Floats]:
    """p and q of log scores [m] against those of the null [B, m], as of `assess`, without the cost of its lfdr."""
    if test == PLUS_ONE:
        z, z0 = standardise(x, x0) if x0.std() > 0 else (x * 0, x0 * 0)
        p = plus_one_p(np.abs(z), np.abs(z0))
    else:
        p = standardised(x, x0)[1]
    return p, benjamini_hochberg(p)


def by_assess(observed: Floats, null: Floats, unit: float | None, test: str) -> tuple[Flags, Flags, Flags]:
    """p, q and lfdr at most .1, each [m], of one map [m] against its null [B, m], by `assess`."""
    estimator = "plus-one" if test == PLUS_ONE else "standardised"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttentionWarning)  # of a constant map nothing is called, and that is counted
        one = assess(observed, null, estimator, unit=unit, relative=test == WHERE)
    return one.p <= LEVEL, one.measure("q") <= LEVEL, one.lfdr <= LEVEL
