"""Columns with silent images: against the rule by hand, without a jump, and how often the truth is covered."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from spikeattn.stats.bootstrap import studentised_limits
from spikeattn.stats.intervals import mean_intervals
from tests.stats.conftest import covers


def rare(spiking: int, n: int, seed: int = 0) -> np.ndarray:
    """The first images spike, at rates far below 1; a further one changes no earlier one."""
    values = np.random.default_rng(seed).gamma(4, 0.001, n)
    return np.where(np.arange(n) < spiking, values, 0)


@pytest.mark.parametrize(("spiking", "n"), [(2, 40), (3, 40), (12, 40), (39, 40), (9, 1000), (500, 2000)])
def test_share_times_mean_by_hand(spiking, n):
    x = rare(spiking, n)
    values = x[x > 0]
    mean, error = values.mean(), stats.sem(values)
    t = stats.t.ppf(0.975, spiking - 1)
    ends = mean - t * error, mean + t * error
    if spiking >= 3:
        studentised = studentised_limits(values)[1][0] if spiking > 3 else ends[1]
        ends = mean * np.exp(-t * error / mean), max(studentised, mean * np.exp(t * error / mean))
    share, limits = spiking / n, stats.binomtest(spiking, n).proportion_ci(0.95, method="exact")
    up = np.sqrt(np.log(limits.high / share) ** 2 + np.log(ends[1] / mean) ** 2)
    down = np.sqrt(np.log(share / limits.low) ** 2 + np.log(mean / ends[0]) ** 2) if ends[0] > 0 else np.inf
    found = mean_intervals(x, ceiling=1.0)[0]
    assert found.method == "two-part" and found.value == pytest.approx(share * mean)
    assert (found.low, found.high) == pytest.approx((share * mean * np.exp(-down), share * mean * np.exp(up)))


def test_no_jump_with_the_number_of_spiking_images():
    """One more spiking image moves the limits by as much as the mean may move; 9 and 10 of 1000 were a hundredfold."""
    table = np.stack([rare(k, 1000) for k in range(2, 60)], axis=1)
    found = mean_intervals(table, ceiling=1.0)
    assert set(found.method) == {"two-part"}
    steps = found.high[6:] / found.high[5:-1]  # from 7 and 8 spiking images on
    assert (steps > 0.7).all() and (steps < 1.4).all()
    relative = found.high / found.value
    assert (relative[3:] < 6).all() and relative[-1] < 1.5


def test_equal_spikes_give_rising_limits():
    table = (np.arange(60)[:, None] < np.arange(61)).astype(float)  # 0 to 60 images spike
    found = mean_intervals(table, ceiling=1.0)
    assert (np.diff(found.high) >= 0).all() and (np.diff(found.low) >= 0).all()
    assert (found.low <= found.value).all() and (found.value <= found.high).all() and (found.high <= 1).all()


def test_joins_the_studentised_interval_where_many_images_spike():
    rng = np.random.default_rng(4)
    x = np.where(rng.random((500, 8)) < 0.5, rng.gamma(4, 1, (500, 8)), 0)
    found, (low, high) = mean_intervals(x), studentised_limits(x)
    assert set(found.method) == {"two-part"}
    width = high - low
    assert (np.abs(found.low - low) < 0.08 * width).all() and (np.abs(found.high - high) < 0.08 * width).all()


def test_joins_the_percentile_interval_at_1000_spiking_images():
    table = np.stack([rare(k, 3000) for k in (999, 1000)], axis=1)
    found = mean_intervals(table)
    assert list(found.method) == ["two-part", "percentile"]
    width = np.diff([found.low[1], found.high[1]])
    assert abs(found.high[0] - found.high[1]) < 0.08 * width and abs(found.low[0] - found.low[1]) < 0.08 * width


def test_a_ceiling_bounds_what_few_images_leave_open():
    x = np.zeros(30)
    x[:2] = 0.01, 0.9
    bounded, free = mean_intervals(x, ceiling=1.0)[0], mean_intervals(x)[0]
    share = stats.binomtest(2, 30).proportion_ci(0.95, method="exact").high
    assert bounded.high == pytest.approx(share) and share < free.high < np.inf
    assert bounded.low == free.low == 0


@pytest.mark.parametrize(
    ("n", "silent"), [(20, 0.1), (20, 0.5), (20, 0.9), (50, 0.9), (200, 0.98)], ids=lambda value: f"{value:g}"
)
def test_coverage_with_silent_images(n, silent):
    """300 data sets of skewed rates: standard error 1.3 %; scripts/simulate_coverage.py has 4000 of each kind."""
    rng = np.random.default_rng(7)
    table = np.where(rng.random((n, 300)) < silent, 0, rng.beta(2, 8, (n, 300)))
    found = mean_intervals(table, replicates=500, ceiling=1.0)
    assert np.isfinite(found.high).all()
    assert covers(found, (1 - silent) * 0.2) > 0.93 - 0.013
