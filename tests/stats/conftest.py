"""The ledger and counts of tests/energy, for intervals of energies; how often an interval covers the truth."""

import numpy as np

from spikeattn.stats.intervals import Intervals
from tests.energy.conftest import counts, ledger, only, profile, spikes  # noqa: F401


def covers(found: Intervals, truth: float) -> float:
    """Share of columns, each a data set of its own, whose interval holds the truth."""
    return float(np.mean((found.low <= truth) & (truth <= found.high)))
