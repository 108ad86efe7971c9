"""The evaluation by planted noise: reference scores, noise that is where it says, and D on a map that knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spikeattn as sa
from spikeattn.attention.evaluate import object_scores, ratio, region_percentile, region_scores, signed_rmsd
from spikeattn.attention.planted import coverage, noise_clusters, noise_square, tokens_of
from spikeattn.errors import SpikeattnError

CASES = ("stat0_T196_B1", "stat4_T64_B200", "vit0_pixel_B8", "vit1_normal_global_B8")


@pytest.mark.parametrize("name", CASES)
def test_reference_scores(references, name):
    with np.load(references / "attention" / f"{name}.npz") as case:
        roi = case["roi"]
        expected = dict(zip(case["roi_score_names"].tolist(), case["roi_scores"].tolist(), strict=True))
        for key, array in (("orig", "obs"), ("p", "obs_p"), ("lfdr", "obs_lfdr"), ("pi0", "obs_pi0")):
            assert region_percentile(case[array], roi) == pytest.approx(expected[f"mean_perc_{key}"], abs=1e-9)
            assert 100 * (case[array][roi] > 0).mean() == pytest.approx(expected[f"nz_{key}"])
        assert signed_rmsd(case["p"]) == pytest.approx(float(case["srmsd_all"]), abs=1e-9)
        assert signed_rmsd(case["p"][~roi]) == pytest.approx(float(case["srmsd_rest"]), abs=1e-9)


def test_squares_are_noise_where_they_say():
    image = torch.rand(3, 32, 32) + torch.tensor([0.0, 2.0, 4.0])[:, None, None]
    changed, mask = noise_square(image, 0.5, seed=1)
    assert mask.sum() == 256 and torch.equal(changed[:, ~mask], image[:, ~mask])
    assert not torch.isclose(changed[:, mask], image[:, mask]).all()
    torch.testing.assert_close(changed[:, mask].mean(1), image.mean((1, 2)), atol=0.1, rtol=0)
    assert torch.equal(changed, noise_square(image, 0.5, seed=1)[0])
    assert tokens_of(mask, (8, 8)).sum() in range(9, 26)
    assert noise_square(torch.rand(4, 2, 16, 16), 0.25)[0].shape == (4, 2, 16, 16)


def test_clusters_have_as_many_pixels_as_the_square_and_hang_together():
    image = torch.rand(3, 224, 224) + torch.tensor([0.0, 2.0, 4.0])[:, None, None]
    changed, mask = noise_clusters(image, 0.375, seed=1)
    assert mask.sum() == 84**2 and torch.equal(changed[:, ~mask], image[:, ~mask])
    torch.testing.assert_close(changed[:, mask].mean(1), image.mean((1, 2)), atol=0.02, rtol=0)
    torch.testing.assert_close(changed[:, mask].std(1), image.std((1, 2)), atol=0.02, rtol=0)
    alike = (mask[1:] == mask[:-1]).mean()  # pixels at random would give .14^2 + .86^2 = .76
    assert alike > 0.95
    again = noise_clusters(image, 0.375, seed=1)
    assert torch.equal(changed, again[0]) and (mask == again[1]).all()
    assert (mask != noise_clusters(image, 0.375, seed=1, index=1)[1]).any()


def test_coverage_is_the_share_of_a_tokens_pixels():
    mask = np.zeros((4, 6), bool)
    mask[:2, :2], mask[2, 3] = True, True
    expected = np.array([[2 / 3, 0], [0, 1 / 6]])
    np.testing.assert_allclose(coverage(mask, (2, 2)), expected)
    assert tokens_of(mask, (2, 2)).tolist() == [[True, False], [False, False]]


def test_percentiles_of_tokens_are_those_of_the_maps_pixels():
    rng = np.random.default_rng(0)
    scores, mask = rng.integers(0, 4, (5, 7)).astype(float), rng.random((20, 28)) < 0.3
    pixels = np.kron(scores, np.ones((4, 4)))
    by_tokens = region_percentile(scores, coverage(mask, (5, 7)))
    assert by_tokens == pytest.approx(region_percentile(pixels, mask))
    inside, rest = pixels[mask], pixels[~mask]
    assert by_tokens == pytest.approx(100 * np.mean([(rest < score).mean() for score in inside]))


def test_scores_of_a_region_and_of_an_object():
    before, region = np.array([[4.0, 2], [1, 1]]), np.array([[0, 1.0], [0, 0.5]])
    after = np.array([[4.0, 0], [0, 1]])
    found = region_scores(before, after, region)
    assert found["share_before"] == pytest.approx(2.5 / 8) and found["share_after"] == pytest.approx(0.5 / 5)
    assert found["nonzero_after"] == pytest.approx(100 * 0.5 / 1.5)
    assert found["kept_outside"] == pytest.approx(100 * 1.5 / 2.5)
    assert found["mass_after"] == pytest.approx(100 * 0.5 / 2.5)
    assert region_scores(before, 0 * after, region)["share_after"] == 0
    thing = object_scores(before, after, np.array([[1.0, 0], [0.5, 0]]))
    assert thing["object_kept"] == pytest.approx(100 / 1.5) and thing["object_mass"] == pytest.approx(100 * 4 / 4.5)
    assert thing["object_share_before"] == pytest.approx(4.5 / 8) and thing["object_share_after"] == pytest.approx(0.8)
    assert all(np.isnan(value) for value in object_scores(before, after, np.zeros((2, 2))).values())


def test_the_error_of_a_ratio_is_that_of_repeated_samples():
    rng = np.random.default_rng(0)
    draws = [rng.gamma(4, 1, (2, 60)) for _ in range(400)]
    found = [ratio(before, before * 0.5 + 0.3 * after) for before, after in draws]
    values, errors = np.array(found).T
    assert values.mean() == pytest.approx(0.8, abs=0.01) and errors.mean() == pytest.approx(values.std(), rel=0.1)
    assert ratio(np.ones(1), np.zeros(1))[0] == 0 and np.isnan(ratio(np.ones(1), np.zeros(1))[1])
    assert np.isnan(ratio(np.zeros(3), np.zeros(3))).all()


def test_signed_rmsd_is_positive_where_p_is_too_small():
    even = (np.arange(20) + 0.5) / 20
    assert signed_rmsd(even) == pytest.approx(0)
    assert signed_rmsd(even**2) > 0.1 and signed_rmsd(1 - even**2) < -0.1


def test_a_map_that_sees_brightness_keeps_the_object_and_drops_the_noise():
    images = torch.rand(4, 1, 64, 64) * 0.1
    images[..., 0:8, 0:16] = images[..., 56:64, 48:64] = 3
    network = nn.Sequential(nn.AvgPool2d(8), nn.ReLU())
    found = sa.evaluate_regularization(
        network, images, "pixel", 100, size=0.25, statistic=lambda model, x: model(x)[:, 0], seed=2
    )
    assert set(found.D) == {"q", "p", "lfdr", "pi0", "soft"} and max(found.D[name] for name in ("q", "p", "lfdr")) < 0.3
    assert len(found.frame) == 20 and found.region.shape == (4, 8, 8)
    kept = found.attention.regularized("p")
    outside = [image[row, column] > 0 for image in kept for row, column in ((0, 0), (0, 1), (7, 6), (7, 7))]
    assert np.mean(outside) > 0.7


@pytest.mark.parametrize("region", ["square", "clusters"])
def test_what_the_object_keeps_is_scored_beside_the_noise(region):
    images = torch.rand(4, 1, 64, 64) * 0.1
    images[..., 0:16, 0:16] = 3
    things = (images > 1).squeeze(1)
    network = nn.Sequential(nn.AvgPool2d(8), nn.ReLU())
    found = sa.evaluate_regularization(
        network, images, "pixel", 100, region=region, size=0.25, objects=things, statistic=lambda m, x: m(x)[:, 0]
    )
    by_p = found.frame[found.frame["method"] == "p"]
    assert by_p["object_kept"].mean() > 80 and by_p["object_mass"].mean() > 80
    assert by_p["nonzero_after"].mean() < 30 and by_p["share_after"].mean() < by_p["share_before"].mean()
    assert by_p["object_share_after"].mean() > by_p["object_share_before"].mean()
    table = found.summary().set_index("method")
    assert table.loc["soft", "D"] == found.D["soft"] and table.loc["soft", "D_se"] == found.D_error["soft"] >= 0
    assert table.loc["p", "object_kept"] == pytest.approx(by_p["object_kept"].mean())
    assert table.loc["p", "object_kept_se"] == pytest.approx(by_p["object_kept"].sem())
    assert found.images.shape == images.shape and found.region.dtype == bool
    np.testing.assert_allclose(found.coverage.mean((1, 2)), 0.25**2)
    assert not torch.equal(found.images, images)


def test_bad_sizes():
    model = sa.create_model("sdt_digits", pretrained=True)
    images = sa.open_dataset("digits", model).images[:1]
    with pytest.raises(SpikeattnError, match=r"in \(0, 1\)"):
        sa.evaluate_regularization(model, images, size=1.5)
    with pytest.raises(SpikeattnError, match="smaller size"):
        sa.evaluate_regularization(model, images, replicates=1, size=0.99)
    with pytest.raises(SpikeattnError, match="clusters"):
        sa.evaluate_regularization(model, images, region="cluster")
    with pytest.raises(SpikeattnError, match=r"booleans \[1, 16, 16\]"):
        sa.evaluate_regularization(model, images, objects=torch.ones(1, 8, 8, dtype=bool))
    with pytest.raises(SpikeattnError, match="layer='all', heads='each'"):
        sa.evaluate_regularization(model, images, layer="all", heads="each")
    with pytest.raises(SpikeattnError, match="one"):
        sa.evaluate_regularization(
            model, images, replicates=1, statistic=lambda m, x: sa.attention_map(m, x, heads="each").values
        )
