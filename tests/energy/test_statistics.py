"""Intervals: agreement with independent formulas, seeds, chunks, and the cases where no interval exists."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from spikeattn.energy import statistics
from spikeattn.energy.statistics import (
    bootstrap_means,
    mean_intervals,
    percentile_limits,
    t_interval,
    wilson_interval,
)
from spikeattn.errors import SpikeattnError


@pytest.fixture
def table() -> np.ndarray:
    rng = np.random.default_rng(3)
    x = rng.gamma(4.0, 1.0, (400, 1))
    return np.concatenate([x, 3 * x + 1, np.full_like(x, 0.1)], axis=1)


def test_replicates_are_resampled_means(table):
    rng = np.random.default_rng(11)
    expected = np.array([table[rng.integers(0, 400, 400)].mean(axis=0) for _ in range(150)])
    assert np.allclose(bootstrap_means(table, replicates=150, seed=11), expected, rtol=1e-12)


def test_columns_are_resampled_jointly_and_constants_stay_constant(table):
    means = bootstrap_means(table, seed=5)
    assert means.shape == (2000, 3)
    assert np.allclose(means[:, 1], 3 * means[:, 0] + 1)
    assert (means[:, 2] == 0.1).all()


def test_seed_and_chunk(table, monkeypatch):
    means = bootstrap_means(table, seed=5)
    assert not np.allclose(means, bootstrap_means(table, seed=6))
    monkeypatch.setattr(statistics, "_CHUNK_BYTES", 8 * 400 * 7)
    assert np.allclose(bootstrap_means(table, seed=5), means, rtol=1e-12)


def test_bootstrap_agrees_with_t(table):
    found, check = mean_intervals(table)[0], t_interval(table[:, 0])
    assert found.method == "percentile" and check.method == "t"
    assert found.value == pytest.approx(check.value)
    width = check.high - check.low
    assert abs(found.low - check.low) < 0.05 * width and abs(found.high - check.high) < 0.05 * width
    low, high = stats.t.interval(0.95, 399, loc=table[:, 0].mean(), scale=stats.sem(table[:, 0]))
    assert (check.low, check.high) == pytest.approx((low, high))


def test_a_lower_confidence_is_narrower(table):
    wide, narrow = mean_intervals(table), mean_intervals(table, confidence=0.5)
    assert wide.low[0] < narrow.low[0] < narrow.value[0] < narrow.high[0] < wide.high[0]
    low, high = percentile_limits(bootstrap_means(table), 0.5)
    assert np.allclose([low[0], high[0]], [narrow.low[0], narrow.high[0]])


def test_wilson_interval():
    for successes, n in ((0, 20), (1, 20), (351, 360), (20, 20)):
        expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
        found = wilson_interval(successes, n)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        assert found.value == successes / n
    for successes, n in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(SpikeattnError, match="0 <= successes <= n"):
            wilson_interval(successes, n)


def test_few_spiking_images_get_a_bound_and_never_zero_to_zero():
    table = np.zeros((100, 5))
    table[:9, 1] = 2.0  # nine images
    table[:10, 2] = 2.0  # ten: enough
    table[:9, 3] = 2.0
    found = mean_intervals(table, ceiling=[8.0, 8.0, 8.0, np.inf, 0.0])
    assert list(found.method) == ["upper bound", "upper bound", "percentile", "upper bound", "percentile"]
    none = 1 - 0.05 ** (1 / 100)  # exact: (1 - p)^100 = 0.05
    nine = stats.binomtest(9, 100, alternative="less").proportion_ci(0.95).high
    assert found[0].high == pytest.approx(8 * none)
    assert found[1].high == pytest.approx(8 * nine)
    assert found[3].high == pytest.approx(2 * nine)  # no ceiling: the largest value seen
    assert (found.low[[0, 1, 3]] == 0).all()
    assert (found.low[2], found.high[2]) != (0, 0)
    assert (found.low[4], found.high[4]) == (0, 0)  # nothing can happen here
    assert list(found.nonzero_images) == [0, 9, 10, 9, 0]
    silent = mean_intervals(table[:, 0])[0]
    assert silent.method == "none" and np.isnan(silent.low) and np.isnan(silent.high)


def test_few_images_that_all_spike_are_not_flagged():
    assert mean_intervals([[1.0], [2.0], [3.0]])[0].method == "percentile"


def test_one_image_has_no_interval():
    found = mean_intervals([[4.0, 0.0]])
    assert list(found.value) == [4.0, 0.0]
    assert np.isnan(found.low).all() and np.isnan(found.high).all()
    assert list(found.method) == ["none", "none"]
    assert t_interval([4.0]).method == "none"


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (np.zeros((0, 3)), {}, "zero images"),
        ([[1.0], [np.nan]], {}, "column 0 of the per-image table holds NaN"),
        ([[1.0], [2.0]], {"replicates": 10}, "replicates is 10"),
        ([[1.0], [2.0]], {"confidence": 95}, "confidence is 95"),
        (np.zeros((2, 2, 2)), {}, "shape"),
    ],
)
def test_bad_input(table, options, message):
    with pytest.raises(SpikeattnError, match=message):
        mean_intervals(table, **options)
