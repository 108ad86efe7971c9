"""Paired ratios: formed on the same images, one-sided where one side hardly spikes, exact where proportional."""

from __future__ import annotations

import numpy as np
import pytest

from spikeattn.errors import SpikeattnError
from spikeattn.stats import bootstrap
from spikeattn.stats.intervals import mean_intervals
from spikeattn.stats.ratios import ratio_intervals


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(6)


@pytest.mark.parametrize("n", [30, 1100])
def test_over_a_constant_the_ratio_is_the_mean(rng, n):
    x = rng.gamma(2, 1, n)
    mean, ratio, inverse = mean_intervals(x)[0], ratio_intervals(x, 4.0)[0], ratio_intervals(4.0, x)[0]
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((mean.value / 4, mean.low / 4, mean.high / 4))
    assert (inverse.value, inverse.low, inverse.high) == pytest.approx((4 / mean.value, 4 / mean.high, 4 / mean.low))
    assert mean.method == ratio.method == inverse.method == ("studentised" if n < 1000 else "percentile")


@pytest.mark.parametrize("n", [30, 1100])
def test_replicates_are_paired(rng, n):
    image = rng.gamma(2, 1, (n, 1))
    over = image * (1 + 0.01 * rng.normal(size=(n, 2)))
    found = ratio_intervals(over, image)
    assert (found.low < found.value).all() and (found.value < found.high).all()
    shuffled = ratio_intervals(over[::-1], image)
    assert ((found.high - found.low) < 0.05 * (shuffled.high - shuffled.low)).all()
    delta = 1.96 * (over - found.value * image).std(axis=0) / np.sqrt(n) / image.mean()
    assert np.allclose((found.high - found.low) / 2, delta, rtol=0.15)


@pytest.mark.parametrize("n", [30, 1100])
def test_the_inverse_ratio_has_the_inverse_interval(rng, n):
    x, y = rng.gamma(2, 1, n), rng.gamma(2, 1, n)
    ratio, inverse = ratio_intervals(x, y)[0], ratio_intervals(y, x)[0]
    assert (1 / ratio.high, 1 / ratio.low) == pytest.approx((inverse.low, inverse.high), rel=1e-3)


def test_percentile_against_a_loop(rng, monkeypatch):
    monkeypatch.setattr(bootstrap, "DOUBLE_BELOW", 10**9)  # in single precision the limits agree to some six digits
    x, y = rng.gamma(2, 1, (1050, 1)), rng.gamma(2, 1, (1050, 1))
    draws = np.random.default_rng(3)
    ratios = []
    for _ in range(400):
        rows = draws.integers(0, 1050, 1050)
        ratios.append(x[rows].mean() / y[rows].mean())
    found = ratio_intervals(x, y, replicates=400, seed=3)[0]
    assert (found.low, found.high) == pytest.approx(np.quantile(ratios, [0.025, 0.975]), rel=1e-9)


def test_studentised_against_a_loop(rng):
    x, y = rng.gamma(2, 1, 40), rng.gamma(2, 1, 40)

    def log_ratio(x, y):
        ratio = x.mean() / y.mean()
        return np.log(ratio), (x - ratio * y).std() / x.mean()

    draws = np.random.default_rng(3)
    centre, error = log_ratio(x, y)
    t = []
    for _ in range(400):
        rows = draws.integers(0, 40, 40)
        value, own = log_ratio(x[rows], y[rows])
        t.append((value - centre) / own)
    low, high = np.quantile(t, [0.025, 0.975])
    found = ratio_intervals(x, y, replicates=400, seed=3)[0]
    assert (found.low, found.high) == pytest.approx(np.exp([centre - high * error, centre - low * error]), rel=1e-9)


@pytest.mark.parametrize("n", [30, 1100])
def test_proportional_columns_have_an_exact_ratio(rng, n):
    x = rng.gamma(2, 1, n)
    found = ratio_intervals(3 * x, x)[0]
    assert found.method == "constant" and found.low == found.high == found.value == pytest.approx(3)


def test_few_spiking_images(rng):
    silent, few, many = np.zeros(50), np.where(np.arange(50) < 5, 1.0, 0), rng.gamma(2, 1, 50)
    table = np.stack([silent, few], axis=1)
    bounds, over_constant = mean_intervals(table, ceiling=1.0), ratio_intervals(table, 2.0, numerator_ceiling=1.0)
    assert list(over_constant.method) == ["upper bound", "two-part"]
    assert np.allclose(over_constant.high, bounds.high / 2) and np.allclose(over_constant.low, bounds.low / 2)
    inverse = ratio_intervals(2.0, few, denominator_ceiling=1.0)[0]
    assert inverse.method == "two-part"
    assert (inverse.low, inverse.high) == pytest.approx((2 / bounds.high[1], 2 / bounds.low[1]))
    for over, under in ((many, silent), (silent, silent), (silent, many)):
        found = ratio_intervals(over, under)[0]
        assert found.method == "none" and np.isnan(found.low) and np.isnan(found.high)
    assert ratio_intervals([2.0], [4.0])[0].value == 0.5
    assert ratio_intervals([2.0], [4.0])[0].method == "none"


def test_one_spiking_image_bounds_a_ratio_from_one_side(rng):
    one, many = np.where(np.arange(50) < 1, 1.0, 0), rng.gamma(2, 1, 50)
    above, mean = mean_intervals(one, ceiling=1.0)[0], mean_intervals(many)[0]
    found = ratio_intervals(one, many, numerator_ceiling=1.0)[0]
    up = np.hypot(np.log(above.high / above.value), np.log(mean.value / mean.low))
    assert (found.method, found.low, found.high) == ("upper bound", 0, pytest.approx(found.value * np.exp(up)))
    turned = ratio_intervals(many, one, denominator_ceiling=1.0)[0]
    assert (turned.method, turned.high, turned.low) == ("lower bound", np.inf, pytest.approx(1 / found.high))


def test_few_spiking_images_on_both_sides_count_as_independent(rng):
    few, many = np.where(np.arange(50) < 8, rng.gamma(16, 1, 50), 0), rng.gamma(2, 1, 50)
    over, under, found = mean_intervals(few)[0], mean_intervals(many)[0], ratio_intervals(few, many)[0]
    up = np.hypot(np.log(over.high / over.value), np.log(under.value / under.low))
    down = np.hypot(np.log(over.value / over.low), np.log(under.high / under.value))
    assert found.method == "two-part"
    assert (found.low, found.high) == pytest.approx((found.value * np.exp(-down), found.value * np.exp(up)))


def test_a_replicate_without_a_spike_does_not_break_the_limits(rng):
    rare = np.where(np.arange(199) < 10, rng.gamma(2, 1, 199), 0)
    many = rng.gamma(2, 1, 199)
    for over, under in ((rare, many), (many, rare)):
        for seed in range(20):
            found = ratio_intervals(over, under, seed=seed)[0]
            assert found.method == "studentised" and 0 < found.low < found.value < found.high < np.inf


def test_two_images():
    found = ratio_intervals([1.0, 2.0], [3.0, 3.5])[0]
    assert found.method == "t" and 0 < found.low < found.value < found.high


def test_students_limits_where_the_bootstrap_has_no_end():
    """Of log r, whose standard error is that of over / its mean - under / its mean; 4.3027 is t(0.975) of 2 degrees."""
    over, under = np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0, 3.0])
    found = ratio_intervals(over, under)[0]
    half = 4.302652730 * (over / over.mean() - under / under.mean()).std(ddof=1) / np.sqrt(3)
    assert found.method == "t"
    np.testing.assert_allclose([found.low, found.high], found.value * np.exp([-half, half]), rtol=1e-8)


def test_bad_input():
    with pytest.raises(SpikeattnError, match="same images"):
        ratio_intervals(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(SpikeattnError, match="same images and columns"):
        ratio_intervals(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(SpikeattnError, match="without negative numbers"):
        ratio_intervals([1.0, -1.0], 2.0)
    with pytest.raises(SpikeattnError, match="without negative numbers"):
        ratio_intervals(2.0, [1.0, -1.0])
    with pytest.raises(SpikeattnError, match="NaN"):
        ratio_intervals([1.0, np.nan], 2.0)
    with pytest.raises(SpikeattnError, match="no images"):
        ratio_intervals(1.0, 2.0)
