"""Student's limits of a mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from spikeattn.stats.bootstrap import CONFIDENCE, Floats, as_table, tail_of
from spikeattn.stats.quantiles import student_quantile


def t_limits(table: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Student's limits [C] of the column means of a table [N, C], N > 1."""
    table = as_table(table)
    n, mean = len(table), table.mean(axis=0)
    half = student_quantile(n - 1, 1 - tail_of(confidence)) * table.std(axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half
