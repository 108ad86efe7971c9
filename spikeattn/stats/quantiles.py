"""Quantiles of Student's t, of the normal and of the beta distribution.

scipy.special is loaded when the first of them is asked for: its import takes as long as pricing a small run, and the
intervals of most runs need none.
"""

from __future__ import annotations

from typing import Any


def student_quantile(freedom: float, probability: float) -> float:
    """Where the distribution of t with these degrees of freedom reaches a probability."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def normal_quantile(probability: float) -> float:
    """Where the standard normal distribution reaches a probability."""
    from scipy.special import ndtri

    return float(ndtri(probability))


def beta_quantile(a: Any, b: Any, probability: Any) -> Any:
    """Where the beta distribution reaches a probability; numbers or arrays."""
    from scipy.special import betaincinv

    return betaincinv(a, b, probability)
