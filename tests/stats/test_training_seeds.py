"""Spread between training seeds: against scipy, coverage by simulation, and the cases where there is no interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from spikeattn.errors import SpikeattnError
from spikeattn.stats.accuracy import mean_accuracy
from spikeattn.stats.intervals import wilson_interval
from spikeattn.stats.training_seeds import ratio_of_means, spread_of

SETS = 1000  # of a true coverage of 95 % a simulated one lies within 2.1 %, three standard errors


def _trained(rng: np.random.Generator, mean: float, cv: float, seeds: int) -> np.ndarray:
    """Energies of networks trained alike, lognormal, [SETS, seeds]."""
    sigma = math.sqrt(math.log(1 + cv**2))
    return mean * np.exp(sigma * rng.standard_normal((SETS, seeds)) - sigma**2 / 2)


def _covered(intervals, truth: float) -> float:
    return float(np.mean([found.low <= truth <= found.high for found in intervals]))


def test_mean_sd_range_and_interval_are_those_of_scipy():
    values = [4.0, 4.4, 4.1, 4.7]
    found = spread_of(values, confidence=0.9)
    low, high = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.n, found.least, found.most) == (4, 4.0, 4.7)
    assert (found.sd, found.mean.value) == pytest.approx((np.std(values, ddof=1), np.mean(values)))
    assert (found.mean.low, found.mean.high, found.mean.method) == pytest.approx((low, high, "t"))


def test_one_seed_has_no_spread_and_two_have_a_wide_interval():
    one = spread_of([4.0])
    assert math.isnan(one.sd) and math.isnan(one.mean.low) and one.mean.method == "none" and one.mean.value == 4.0
    two = spread_of([4.0, 4.2])
    assert (two.mean.high - two.mean.value) / two.sd == pytest.approx(12.7062 / math.sqrt(2), rel=1e-4)


def test_equal_values_are_no_certainty():
    same = spread_of([0.95, 0.95, 0.95])
    assert same.sd == 0 and same.mean.method == "none" and math.isnan(same.mean.high)
    assert ratio_of_means([2.0, 2.0], [1.0, 1.0]).method == "none"


def test_limits_are_cut_where_no_value_can_be():
    assert spread_of([0.97, 0.99], floor=0.0, ceiling=1.0).mean.high == 1.0
    assert spread_of([0.01, 0.03], floor=0.0).mean.low == 0.0


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("cv", [0.03, 0.2])
def test_the_interval_of_the_mean_covers_it(seeds, cv):
    rng = np.random.default_rng(seeds)
    covered = _covered((spread_of(each).mean for each in _trained(rng, 4.0, cv, seeds)), 4.0)
    assert 0.925 < covered < 0.975


@pytest.mark.parametrize(
    ("over", "under", "least", "most"), [(3, 3, 0.93, 0.985), (5, 3, 0.93, 0.985), (10, 4, 0.925, 0.975)]
)
def test_the_unpaired_ratio_covers_it(over, under, least, most):
    rng = np.random.default_rng(over)
    sides = zip(_trained(rng, 6.0, 0.1, over), _trained(rng, 4.0, 0.05, under), strict=True)
    assert least < _covered((ratio_of_means(*each) for each in sides), 1.5) < most


@pytest.mark.parametrize("over", [2, 10])
def test_the_ratio_of_two_seeds_is_never_too_short(over):
    """Welch's degrees of freedom would cover 90 % of ten seeds over two."""
    rng = np.random.default_rng(over)
    sides = zip(_trained(rng, 6.0, 0.1, over), _trained(rng, 4.0, 0.1, 2), strict=True)
    assert _covered((ratio_of_means(*each) for each in sides), 1.5) > 0.97


def test_the_ratio_is_welch_of_logarithms():
    over, under = np.array([6.0, 6.3, 5.8]), np.array([4.0, 4.1, 4.2, 3.9])
    found = ratio_of_means(over, under)
    squares = [side.var(ddof=1) / len(side) / side.mean() ** 2 for side in (over, under)]
    freedom = sum(squares) ** 2 / (squares[0] ** 2 / 2 + squares[1] ** 2 / 3)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(squares))
    assert found.value == over.mean() / under.mean()
    assert (math.log(found.high / found.value), math.log(found.value / found.low)) == pytest.approx((half, half))
    turned = ratio_of_means(under, over)
    assert (1 / turned.high, 1 / turned.low) == pytest.approx((found.low, found.high))
    assert ratio_of_means(over, under[:1]).method == "none"


def test_beside_a_constant_the_interval_of_the_mean_is_turned_round():
    own = spread_of([4.0, 4.1, 4.3]).mean
    found = ratio_of_means(40.0, [4.0, 4.1, 4.3])
    assert (found.value, found.low, found.high) == pytest.approx((40 / own.value, 40 / own.high, 40 / own.low))
    assert ratio_of_means(40.0, [0.1, 4.3]).high == math.inf, "a mean that may be 0"


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0, 2.0]]])
def test_what_is_no_value_per_seed(values):
    with pytest.raises(SpikeattnError, match="one finite value per training seed"):
        spread_of(values)


def test_mean_accuracy_is_wilson_of_one_network_and_of_equal_ones():
    right = np.array([1.0] * 57 + [0.0] * 3)[:, None]
    plain = wilson_interval(57, 60)
    for networks in (1, 3):
        found = mean_accuracy(np.repeat(right, networks, axis=1))
        assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high))
    everything = mean_accuracy(np.ones((60, 2)))
    assert (everything.value, everything.high) == (1.0, 1.0)
    assert everything.low == wilson_interval(60, 60).low, "two networks without an error are no more images"


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("together", [0.0, 0.7])
def test_mean_accuracy_covers_the_mean_over_other_images(networks, together):
    """Networks that err alike on hard images (`together`), or each on its own."""
    rng, n, p = np.random.default_rng(networks), 120, 0.95
    covered = []
    for _ in range(SETS):
        common, own = rng.random((n, 1)) < p, rng.random((n, networks)) < p
        right = np.where(rng.random((n, 1)) < together, common, own)
        found = mean_accuracy(right)
        covered.append(found.low <= p <= found.high)
    assert 0.925 < np.mean(covered) < 0.985
