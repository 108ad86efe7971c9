"""Intervals: agreement with independent formulas, seeds, chunks, and the cases where no interval exists."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from spikeattn.energy import energy
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import (
    STUDENTISED_BELOW,
    images_by_label,
    mean_intervals,
    studentised_limits,
    t_interval,
    wilson_interval,
)
from tests.energy.conftest import BruteCounts


@pytest.fixture
def table() -> np.ndarray:
    rng = np.random.default_rng(3)
    x = rng.gamma(4.0, 1.0, (400, 1))
    return np.concatenate([x, 3 * x + 1, np.full_like(x, 0.1)], axis=1)


@pytest.mark.parametrize(("n", "method"), [(60, "studentised"), (400, "studentised"), (1500, "percentile")])
def test_bootstrap_agrees_with_t(n, method):
    table = np.random.default_rng(3).gamma(16.0, 1.0, (n, 3))
    found = mean_intervals(table, replicates=4000)
    for c in range(3):
        check = t_interval(table[:, c])
        assert found[c].method == method and check.method == "t"
        assert found.value[c] == pytest.approx(check.value)
        width = check.high - check.low
        assert abs(found.low[c] - check.low) < 0.05 * width and abs(found.high[c] - check.high) < 0.05 * width
        low, high = stats.t.interval(0.95, n - 1, loc=table[:, c].mean(), scale=stats.sem(table[:, c]))
        assert (check.low, check.high) == pytest.approx((low, high))


def test_total_energy_agrees_with_t(ledger, counts):
    total, check = (found := energy(ledger, counts)).total, found.total_t
    assert total.method == "studentised" and check.method == "t"
    width = check.high - check.low
    assert abs(total.low - check.low) < 0.15 * width and abs(total.high - check.high) < 0.15 * width  # 12 images


def test_a_lower_confidence_is_narrower(table):
    wide, narrow = mean_intervals(table), mean_intervals(table, confidence=0.5)
    assert wide.low[0] < narrow.low[0] < narrow.value[0] < narrow.high[0] < wide.high[0]
    low, high = studentised_limits(table, confidence=0.5)
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


def test_silent_images_get_a_bound_and_never_zero_to_zero():
    table = np.zeros((100, 5))
    table[:1, 1] = 2.0
    table[:10, 2] = 2.0
    table[:9, 3] = 2.0
    found = mean_intervals(table, ceiling=[8.0, 8.0, 8.0, np.inf, 0.0])
    assert list(found.method) == ["upper bound", "upper bound", "two-part", "two-part", "constant"]
    none = 1 - 0.05 ** (1 / 100)  # exact: (1 - p)^100 = 0.05
    one = stats.binomtest(1, 100, alternative="less").proportion_ci(0.95).high
    assert found[0].high == pytest.approx(8 * none)
    assert found[1].high == pytest.approx(8 * one)
    assert (found.low[:2] == 0).all()
    for column, spiking in ((2, 10), (3, 9)):  # all alike: the share alone is uncertain
        share = stats.binomtest(spiking, 100).proportion_ci(0.95)
        assert (found.low[column], found.high[column]) == pytest.approx((2 * share.low, 2 * share.high))
    assert (found.low[4], found.high[4]) == (0, 0)  # nothing can happen here
    assert list(found.nonzero_images) == [0, 1, 10, 9, 0]
    for unbounded in (table[:, 0], table[:, 1]):
        silent = mean_intervals(unbounded)[0]
        assert silent.method == "none" and np.isnan(silent.low) and np.isnan(silent.high)


def test_limits_stay_in_the_possible_range():
    rng = np.random.default_rng(0)
    rare = np.where(np.arange(40) < 10, rng.gamma(0.2, 1, 40).clip(0, 1), 0)
    full = 1 - rare
    found = mean_intervals(np.stack([rare, full, rare - 1], axis=1), ceiling=[1.0, 1.0, np.inf])
    assert found.low[0] > 0 and found.high[1] <= 1
    assert list(found.method) == ["two-part", "studentised", "studentised"]
    pair = mean_intervals([[0.1], [0.8]], ceiling=1.0)[0]  # Student with one degree of freedom: 0.45 +- 4.4
    assert (pair.low, pair.high, pair.method) == (0, 1, "t")
    below = mean_intervals(rare - 1)  # a column with negative values is no count: no flag, no cut
    assert below.low[0] == pytest.approx(found.low[2]) and below.method[0] == "studentised"


@pytest.mark.parametrize(
    ("column", "method"),
    [
        ([2.0, 3.0], "t"),  # half of all replicates draw one image only
        ([1.0, 2.0, 3.0], "t"),
        ([1.0, 2.0, 3.0, 7.0], "studentised"),
        ([5.0] * 49 + [6.0], "t"),  # a third of the replicates miss the one image that differs
        ([5.0] * 30 + [6.0] * 20, "studentised"),
        ([0.1] * 50, "constant"),
        ([0.1 * (1 + 2e-16 * (i % 2)) for i in range(50)], "constant"),  # rounding is no variance
        ([0.0] * 50, "none"),
    ],
)
def test_degenerate_columns(column, method):
    found = mean_intervals(column)[0]
    assert found.method == method
    if method == "none":
        assert np.isnan([found.low, found.high]).all()
    elif method == "constant":
        assert found.low == found.high == found.value
    else:
        assert 0 <= found.low < found.value < found.high < np.inf
    if method == "t":
        check = t_interval(column)
        assert (found.low, found.high) == pytest.approx((max(check.low, 0), check.high))


def test_neighbours_do_not_change_a_column():
    rng = np.random.default_rng(1)
    x = rng.gamma(2, 1, (60, 3)) * [1, 1e-12, 1e12]
    alone = [mean_intervals(x[:, c])[0] for c in range(3)]
    joint = mean_intervals(np.concatenate([x, np.zeros((60, 1)), np.ones((60, 1))], axis=1))
    for c in range(3):
        assert joint[c].method == "studentised"
        assert (joint.low[c], joint.high[c]) == pytest.approx((alone[c].low, alone[c].high), rel=1e-9)


def test_method_changes_at_1000_images():
    x = np.random.default_rng(2).gamma(1, 1, 1000)
    assert mean_intervals(x)[0].method == "percentile"
    assert mean_intervals(x[:999])[0].method == "studentised"
    assert STUDENTISED_BELOW == 1000


def test_what_every_image_costs_is_no_spike():
    spikes = np.zeros((50, 3))
    spikes[:4, 1] = 0.25
    spikes[:, 2] = np.random.default_rng(0).gamma(2, 0.1, 50)
    fixed = np.array([0.1, 0.7, 3.0])
    alone = mean_intervals(spikes, ceiling=[2.0, 2.0, 2.0])
    found = mean_intervals(spikes + fixed, ceiling=fixed + 2, floor=fixed)
    assert list(found.method) == list(alone.method) == ["upper bound", "two-part", "studentised"]
    assert list(found.nonzero_images) == [0, 4, 50]
    for limit in ("value", "low", "high"):
        assert np.allclose(getattr(found, limit), getattr(alone, limit) + fixed)
    assert mean_intervals(spikes[:, 0] + 0.1, ceiling=0.1, floor=0.1)[0].method == "constant"


def test_energy_of_silent_neurons_behind_a_first_layer_is_a_bound(ledger, spikes):
    spikes["lif"][:] = 0  # what is left of SPS are the multiply-accumulates of its first layer
    table = energy(ledger, BruteCounts(ledger, spikes)).set_index("part")
    part = table.loc["SPS"]
    assert part["interval"] == "upper bound" and part["ci_low"] == part["energy_mj"] < part["ci_high"]


def test_by_label():
    labels = np.random.default_rng(5).permutation(np.repeat([7, -1, 3], [60, 1, 29]))
    found = images_by_label(labels, 90)
    assert list(found) == [-1, 3, 7]
    for label, rows in found.items():
        assert rows.tolist() == [i for i in range(90) if labels[i] == label]
    for wrong in (labels[1:], labels / 2):
        with pytest.raises(SpikeattnError, match="one whole number for each of the 90 images"):
            images_by_label(wrong, 90)


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
