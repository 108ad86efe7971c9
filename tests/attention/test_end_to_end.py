"""Trained networks, noise planted in held-out pictures: the noise loses its attention while the object keeps it."""

from __future__ import annotations

import warnings

import pytest

import spikeattn as sa
from spikeattn.attention.significance import AttentionWarning

IMAGES, REPLICATES = 24, 60
# Chosen on training digits, among maps, layers, nulls and thresholds.
SETTING = {"null": "patch", "statistic": "V_S", "layer": 0, "threshold": 0.1, "estimator": "plus-one"}


def evaluated(name: str, data: str, **options):
    """Per image: what the object and the noise keep, and their parts of the map; and the whole evaluation."""
    model = sa.create_model(name, pretrained=True)
    images = sa.open_dataset(data, model).images[:IMAGES]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttentionWarning)
        found = sa.evaluate_regularization(
            model, images, replicates=REPLICATES, objects=images[:, 0].numpy() >= 0.5, seed=11, **options
        )
    return found.frame[found.frame["method"] == "p"], found


@pytest.mark.parametrize("region", ["square", "clusters"])
def test_noise_loses_its_attention_and_the_digit_keeps_it(region):
    rows, found = evaluated("sdt_digits_scenes", "digits-scenes", region=region, **SETTING)
    assert found.D["p"] < 0.8 and found.D["p"] < 1 - 2 * found.D_error["p"]
    more = rows["object_mass"] - rows["mass_after"]  # of its attention the digit keeps a larger part
    assert more.mean() > 10 and more.mean() > 2 * more.sem()
    gained = rows["object_share_after"] - rows["object_share_before"]
    assert gained.mean() > 2 * gained.sem()
    gap = rows["object_kept"] - rows["nonzero_after"]  # of the same image, in percentage points
    assert gap.mean() > 30 and gap.mean() > 3 * gap.sem() and rows["object_kept"].mean() > 50
    called = (found.attention.regularized("p", SETTING["threshold"]) > 0).mean((1, 2)) * 100  # what chance would keep
    luck = rows["object_kept"] - called
    assert luck.mean() > 3 * luck.sem()


def test_the_default_map_keeps_the_digit_and_little_noise():
    rows, _ = evaluated("sdt_digits_scenes", "digits-scenes")
    gap = rows["object_kept"] - rows["nonzero_after"]
    assert gap.mean() > 20 and gap.mean() > 3 * gap.sem()


def test_a_network_that_never_had_to_ignore_noise_does_not_tell_them_apart():
    rows, _ = evaluated("sdt_digits", "digits")
    assert (rows["object_kept"] - rows["nonzero_after"]).mean() < 15
