"""Attention maps without what is indistinguishable from noise: hard and soft masks from a `Significance`.

Chung, Laletin: Attention Regularization, AISTATS 2026, https://arxiv.org/abs/2604.01339.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikeattn.attention.significance import LEVEL, Significance
from spikeattn.errors import SpikeattnError, unknown

METHODS = ("p", "q", "lfdr", "pi0", "soft")  # of regularisation; see `regularize`
WITH_THRESHOLD = ("p", "q", "lfdr")
# What "significant" means unless another rule is named, everywhere in the package: q <= .1. Of the tokens it calls one
# in ten is noise at most, on average; a threshold of p promises nothing about them.
METHOD, THRESHOLD = "q", LEVEL


def regularize(
    observed: ArrayLike, significance: Significance, method: str = METHOD, threshold: float | None = None
) -> NDArray[np.float64]:
    """The map with the scores of insignificant tokens set to 0; tokens below the null's mean (z < 0) always are.

    Args:
        observed: the scores that were assessed, [N] or [h, w].
        significance: what `assess` made of them.
        method: "p", "q" or "lfdr" keep tokens at most at the threshold; "pi0" keeps the share 1 - pi0 of tokens with
            the smallest p (with pi0 = 1 the smallest alone, as published); "soft" multiplies by 1 - lfdr.
        threshold: of "p", "q" and "lfdr", in [0, 1]; 0.1 by default.

    Returns:
        float64 in the shape of `observed`.

    Raises:
        SpikeattnError: another shape than the significance has, an unknown method, a threshold that is out of range or
            that the method does not have; a q that its estimator refuses.
    """
    a = np.asarray(observed, dtype=np.float64)
    if a.shape != significance.z.shape:
        raise SpikeattnError(
            f"the map has shape {list(a.shape)}, its significance {list(significance.z.shape)}; give both of one image"
        )
    if method not in METHODS:
        raise unknown("regularisation", method, METHODS)
    if threshold is not None and method not in WITH_THRESHOLD:
        raise SpikeattnError(f'method="{method}" has no threshold; p, q and lfdr have one')
    limit = THRESHOLD if threshold is None else threshold
    if not 0 <= limit <= 1:
        raise SpikeattnError(f"threshold is {threshold}; it is a probability in [0, 1], {THRESHOLD} by default")
    base = np.where(significance.z >= 0, a, 0.0)
    if method == "soft":
        return base * (1 - significance.lfdr)
    if method == "pi0":
        p = significance.p
        return np.where((p <= np.quantile(p, 1 - significance.pi0)) & (p < 1), base, 0.0)
    return np.where(significance.measure(method) <= limit, base, 0.0)
