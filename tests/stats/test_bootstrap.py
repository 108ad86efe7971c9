"""Resampling: the draws, their independence of chunks, threads and precision, and an independent bootstrap-t."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

from spikeattn.stats import bootstrap
from spikeattn.stats.bootstrap import bootstrap_means, percentile_limits, studentised_limits


@pytest.fixture
def table() -> np.ndarray:
    x = np.random.default_rng(3).gamma(4.0, 1.0, (401, 1))
    return np.concatenate([x, 3 * x + 1, np.full_like(x, 0.1)], axis=1)


def test_replicates_are_resampled_means(table):
    rng = np.random.default_rng(11)
    expected = np.array([table[rng.integers(0, 401, 401)].mean(axis=0) for _ in range(150)])
    assert np.allclose(bootstrap_means(table, replicates=150, seed=11), expected, rtol=1e-12)


def test_columns_are_resampled_jointly_and_constants_stay_constant(table):
    means = bootstrap_means(table, seed=5)
    assert means.shape == (2000, 3)
    assert np.allclose(means[:, 1], 3 * means[:, 0] + 1, rtol=1e-12)
    assert (means[:, 2] == 0.1).all()


def test_seed_chunk_and_block(table, monkeypatch):
    means = bootstrap_means(table, seed=5)
    assert (means == bootstrap_means(table, seed=5)).all()
    assert not np.allclose(means, bootstrap_means(table, seed=6))
    monkeypatch.setattr(bootstrap, "_CHUNK_BYTES", 8 * 401 * 7)
    monkeypatch.setattr(bootstrap, "_DRAWS", 401 * 3)
    assert np.allclose(bootstrap_means(table, seed=5), means, rtol=1e-12)


def test_threads_do_not_change_a_bit():
    x = np.random.default_rng(0).gamma(1.0, 1.0, (1200, 60))
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(bootstrap_means(x, 200))
    assert (found[0] == found[1]).all()


def test_single_precision_moves_the_limits_by_less_than_a_thousandth_of_their_width(monkeypatch):
    rng = np.random.default_rng(4)
    x = np.concatenate(
        [rng.lognormal(0, 2, (4000, 4)), 1e9 + rng.normal(size=(4000, 4)), rng.random((4000, 4)) < 0.01], 1
    )
    single = np.array(percentile_limits(bootstrap_means(x)))
    monkeypatch.setattr(bootstrap, "DOUBLE_BELOW", 10**9)
    double = np.array(percentile_limits(bootstrap_means(x)))
    assert (single != double).any()
    assert (np.abs(single - double) < 1e-5 * (double[1] - double[0])).all()


def test_studentised_limits_against_a_loop():
    x = np.random.default_rng(8).lognormal(0, 1, 30)
    rng = np.random.default_rng(9)
    t = []
    for _ in range(500):
        drawn = x[rng.integers(0, 30, 30)]
        t.append((drawn.mean() - x.mean()) / stats.sem(drawn))
    low, high = np.quantile(t, [0.05, 0.95])
    expected = x.mean() - high * stats.sem(x), x.mean() - low * stats.sem(x)
    found = studentised_limits(x, replicates=500, seed=9, confidence=0.9)
    assert (found[0][0], found[1][0]) == pytest.approx(expected, rel=1e-10)


def test_studentised_limits_shift_and_scale():
    x = np.random.default_rng(8).lognormal(0, 1, 40)
    low, high = studentised_limits(np.stack([x, 1e6 + x, 1e-9 * x], axis=1))
    assert np.allclose(low[1] - 1e6, low[0], rtol=1e-6) and np.allclose(high[1] - 1e6, high[0], rtol=1e-6)
    assert np.allclose(low[2] * 1e9, low[0]) and np.allclose(high[2] * 1e9, high[0])


def test_limits_without_an_end_are_infinite():
    low, high = studentised_limits(np.array([[1.0, 4.0], [2.0, 4.0], [3.0, 5.0]]))
    assert np.isneginf(low[0]) and np.isposinf(high[0])


def test_studentised_limits_cover_where_percentiles_do_not():
    rng = np.random.default_rng(12)
    found = {"studentised": [], "percentile": []}
    for seed in range(20):
        x = rng.exponential(1.0, (25, 50))
        for name, (low, high) in {
            "studentised": studentised_limits(x, 1000, seed),
            "percentile": percentile_limits(bootstrap_means(x, 1000, seed)),
        }.items():
            found[name].append((low <= 1) & (high >= 1))
    assert 0.93 < np.mean(found["studentised"]) < 0.97
    assert np.mean(found["percentile"]) < 0.92
