"""Intervals over images and replicates: wider than over images alone with few replicates, the same with many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import spikeattn as sa
from spikeattn.attention.resampling import halved
from spikeattn.errors import SpikeattnError
from spikeattn.spurious import spurious_energy
from spikeattn.spurious.replicate_noise import widened
from spikeattn.stats.intervals import mean_intervals
from tests.attention.cases import images_of, sdt

N = 40  # images of the made-up energies


@pytest.fixture(scope="module")
def attention():
    model = sdt()
    return sa.attend(model, images_of(model), "pixel", 12, layer="all", tokens=True)


def test_halves_are_of_the_image_and_its_replicates(attention):
    half, again, other = (halved(attention, seed, np.array([2, 0])) for seed in (5, 5, 6))
    assert half.provenance["indices"] == [2, 0] and half.provenance["replicates"] == 6
    np.testing.assert_array_equal(half.null_maps, again.null_maps)
    assert not np.array_equal(half.null_maps, other.null_maps)
    for row, image in enumerate((2, 0)):
        whole = {replicate.tobytes() for replicate in attention.null_maps[image]}
        assert {replicate.tobytes() for replicate in half.null_maps[row]} <= whole
        same = sa.attend(sdt(), images_of(sdt()), "pixel", 12, layer="all")  # the p-values are those of assess
        np.testing.assert_array_equal(same.maps[image], half.maps[row])
    one = halved(attention, 5, np.array([0]))
    np.testing.assert_array_equal(one.null_maps[0], half.null_maps[1])  # whatever stands beside it
    np.testing.assert_array_equal(one.p[0], half.p[1])
    with pytest.raises(SpikeattnError, match="0 replicates have no half"):
        halved(replace(attention, null_maps=None), 0)


def drawn(rng: np.random.Generator, replicates: int) -> np.ndarray:
    """A share [image] that counts replicates: its noise has the variance of a share of so many, its shift is 2 / B."""
    true = rng.beta(8, 4, N)
    return rng.binomial(replicates, true) / replicates + 2 / replicates


def at_halves(rng: np.random.Generator, values: np.ndarray, replicates: int) -> np.ndarray:
    """Differences [half, image, 1] of the same shares from half of the replicates."""
    hits = np.rint((values - 2 / replicates) * replicates).astype(int)
    half = replicates // 2
    shares = rng.hypergeometric(hits, replicates - hits, half, (4, N)) / half + 2 / half
    return (shares - values)[..., None]


def test_coverage_with_few_replicates_and_convergence_with_many():
    rng = np.random.default_rng(0)
    covered, alone, ratio = {}, {}, {}
    for replicates in (20, 20_000):
        inside, of_images, width = 0, 0, []
        for _ in range(120):
            values = drawn(rng, replicates)
            images = mean_intervals(values[:, None], 400)
            both = widened(images, at_halves(rng, values, replicates))
            inside += both.low[0] <= 8 / 12 <= both.high[0]
            of_images += images.low[0] <= 8 / 12 <= images.high[0]
            width.append((both.high[0] - both.low[0]) / (images.high[0] - images.low[0]))
        covered[replicates], alone[replicates], ratio[replicates] = inside / 120, of_images / 120, np.mean(width)
    assert alone[20] < 0.6  # the shift of a coarse null is in every image
    assert covered[20] >= 0.93 and covered[20_000] >= 0.88
    assert ratio[20] > 1.5 and 1 <= ratio[20_000] < 1.01


def test_the_limit_moves_to_the_side_of_more_replicates():
    values = np.random.default_rng(1).random((30, 1))
    images = mean_intervals(values, 400)
    up = widened(images, np.full((4, 30, 1), 0.2))  # every half has .2 more, so that all replicates have too much
    assert up.low[0] == pytest.approx(images.low[0] - 0.2) and up.high[0] == pytest.approx(images.high[0])
    down = widened(images, np.full((4, 30, 1), -0.2))
    assert down.low[0] == pytest.approx(images.low[0]) and down.high[0] == pytest.approx(images.high[0] + 0.2)
    assert up.value[0] == down.value[0] == images.value[0] and up.method[0] == "studentised, replicates"
    noisy = np.tile(np.array([3.0, -3.0])[:, None, None], (2, 30, 1))  # no shift; the variance over halves is 12
    wide = widened(images, noisy)
    half = 1.959964 * np.sqrt(12 / 30)
    assert wide.low[0] == 0  # energies are not negative
    assert wide.high[0] - images.value[0] == pytest.approx(np.hypot(images.high[0] - images.value[0], half))
    still = widened(images, np.zeros((4, 30, 1)))
    assert (still.low[0], still.high[0]) == pytest.approx((images.low[0], images.high[0]))


def test_real_replicates_widen_the_interval_of_a_network(digits):
    _, _, profile, attention = digits
    both = spurious_energy(profile, attention, method="p").total
    alone = [replace(one, null_maps=None) for one in attention]
    images = spurious_energy(profile, alone, method="p")
    assert images.total.method == "studentised" and images.provenance["interval"] == "images alone"
    assert both.method == "studentised, replicates" and both.value == images.total.value
    assert both.low <= images.total.low and both.high >= images.total.high
    assert both.high - both.low > 1.01 * (images.total.high - images.total.low)
    again = spurious_energy(profile, attention, method="p").total
    assert (both.low, both.high) == (again.low, again.high)
