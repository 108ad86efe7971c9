"""The base class of torchmetrics, which is an optional dependency."""

from __future__ import annotations


def torchmetrics_base() -> type | None:
    """`torchmetrics.Metric`, or None where torchmetrics is not installed."""
    try:
        from torchmetrics import Metric
    except ImportError:
        return None
    return Metric
