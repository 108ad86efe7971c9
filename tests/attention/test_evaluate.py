"""The evaluation by noise squares: reference scores, squares that are where they say, and D on a map that knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spikeattn as sa
from spikeattn.attention.evaluate import noise_square, region_percentile, signed_rmsd, tokens_of
from spikeattn.errors import SpikeattnError

CASES = ("stat0_T196_B1", "stat4_T64_B200", "vit0_pixel_B8", "vit1_normal_global_B8")


@pytest.mark.parametrize("name", CASES)
def test_reference_scores(shared, name):
    file = shared / "refs" / "attnreg" / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"reference case {name} is not among the shared data")
    with np.load(file) as case:
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


def test_a_map_that_sees_brightness_keeps_the_object_and_drops_the_noise():
    images = torch.rand(4, 1, 64, 64) * 0.1
    images[..., 0:8, 0:16] = images[..., 56:64, 48:64] = 3
    network = nn.Sequential(nn.AvgPool2d(8), nn.ReLU())
    found = sa.evaluate_regularization(
        network, images, "pixel", 100, size=0.25, statistic=lambda model, x: model(x)[:, 0], seed=2
    )
    assert set(found.D) == {"p", "lfdr", "pi0", "soft"} and found.D["p"] < 0.3 and found.D["lfdr"] < 0.3
    assert len(found.frame) == 16 and found.region.shape == (4, 8, 8)
    kept = found.attention.regularized("p")
    outside = [image[row, column] > 0 for image in kept for row, column in ((0, 0), (0, 1), (7, 6), (7, 7))]
    assert np.mean(outside) > 0.7


def test_bad_sizes():
    model = sa.create_model("sdt_digits", pretrained=True)
    images = sa.open_dataset("digits", model).images[:1]
    with pytest.raises(SpikeattnError, match=r"in \(0, 1\)"):
        sa.evaluate_regularization(model, images, size=1.5)
    with pytest.raises(SpikeattnError, match="another size"):
        sa.evaluate_regularization(model, images, replicates=1, size=0.02)
