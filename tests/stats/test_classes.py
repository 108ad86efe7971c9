"""Clustering by class: class means by hand, wider where images of a class are alike, refused without classes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from spikeattn.errors import SpikeattnError
from spikeattn.stats.classes import class_means
from spikeattn.stats.intervals import mean_intervals, t_limits
from spikeattn.stats.ratios import ratio_intervals


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(12), 25))


@pytest.fixture
def table(labels) -> np.ndarray:
    """Column 0: images of a class alike; column 1: nothing but the image matters."""
    rng = np.random.default_rng(1)
    of_class = rng.gamma(9, 1, 12)[labels]
    return np.stack([of_class + rng.normal(0, 0.1, 300), rng.gamma(9, 1, 300)], axis=1)


def test_class_means_by_hand():
    table = np.array([[1.0, 0], [2, 0], [6, 4], [3, 0]])
    assert class_means(table, np.array([5, 0, 0, 5])).tolist() == [[4, 2], [2, 0]]


def test_classes_of_one_size_by_hand(table, labels):
    found, alone = mean_intervals(table, labels=labels), mean_intervals(class_means(table, labels))
    np.testing.assert_allclose([found.low, found.high], [alone.low, alone.high], rtol=1e-12)
    assert list(found.method) == ["studentised"] * 2 and found.n_images == 300


def test_two_classes_by_hand():
    """Means 2 and 4, Student's t of one degree of freedom; the mean over images is 2.5, the limits are relative."""
    found = mean_intervals(np.array([2.0, 1, 3, 4]), labels=np.array([0, 0, 0, 1]), ceiling=100.0)[0]
    half = stats.t.ppf(0.975, 1) * np.std([2, 4], ddof=1) / np.sqrt(2)
    assert (found.value, found.low) == (2.5, 0) and found.high == pytest.approx((3 + half) * 2.5 / 3)
    assert found.method == "t"


def test_wider_where_the_images_of_a_class_are_alike(table, labels):
    found, images = mean_intervals(table, labels=labels), mean_intervals(table)
    wider = (found.high - found.low) / (images.high - images.low)
    assert wider[0] > 3 and 0.5 < wider[1] < 2
    low, high = t_limits(class_means(table, labels))
    assert (np.abs(found.low - low) < 0.35 * (high - low)).all()
    assert (np.abs(found.high - high) < 0.35 * (high - low)).all()


def test_coverage_with_classes_that_differ():
    """Of 200 data sets of 20 classes with 10 images each, the classes drawn: clustered covers, images alone do not."""
    rng, labels = np.random.default_rng(3), np.repeat(np.arange(20), 10)
    table = rng.normal(10, 1, (20, 200))[labels] + rng.normal(0, 0.5, (200, 200))
    clustered, images = mean_intervals(table, 500, labels=labels), mean_intervals(table, 500)
    covers = [np.mean((each.low <= 10) & (each.high >= 10)) for each in (clustered, images)]
    assert covers[0] > 0.91 and covers[1] < 0.75


def test_rarely_firing_classes_and_floors(labels):
    spikes = np.where(labels < 3, 0.25, 0.0)
    found = mean_intervals(spikes + 1, ceiling=2.0, floor=1.0, labels=labels)[0]
    share = stats.binomtest(3, 12).proportion_ci(0.95, method="exact")
    assert found.method == "two-part"
    assert (found.low, found.high) == pytest.approx((1 + 0.25 * share.low, 1 + 0.25 * share.high))


def test_ratios(table, labels):
    found = ratio_intervals(table[:, 0], table[:, 1], labels=labels)[0]
    means = class_means(table, labels)
    alone = ratio_intervals(means[:, 0], means[:, 1])[0]
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 1, -1], "1 of 4 images have no label"),
        ([3, 3, 3, 3], "all of class 3"),
        ([0, 1, 2], "one whole number for each of the 4 images"),
    ],
)
def test_labels_that_are_missing_or_one(labels, message):
    with pytest.raises(SpikeattnError, match=message):
        mean_intervals(np.arange(4.0), labels=np.array(labels))
