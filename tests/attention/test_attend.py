"""attend: replicates folded into batches of any size give the same bits; nulls, statistics, estimators and errors."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from torch import nn

import spikeattn as sa
from spikeattn.attention.nulls import draw_inputs, draw_tokens
from spikeattn.attention.significance import AttentionWarning, assess
from spikeattn.errors import SpikeattnError
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from tests.attention import cases

SMALL = 1e-6  # GiB: one replicate at a time


@pytest.fixture(scope="module")
def digits():
    return cases.digits(2)


@pytest.fixture(scope="module")
def vit():
    return cases.vit(depth=2)


@pytest.mark.parametrize("null", ["normal", "pixel", "uniform", "patch"])
def test_spikes_are_the_same_in_any_batch(digits, null):
    model, images = digits
    whole = sa.attend(model, images, null, replicates=9, seed=5)
    parts = sa.attend(model, images, null, replicates=9, seed=5, memory=SMALL)
    alone = sa.attend(model, images[1:], null, replicates=9, seed=5, indices=[1])
    assert whole.maps.shape == (2, 8, 8) and whole.null_maps.shape == (2, 9, 8, 8)
    # one flipped rounding flips spikes: other batch sizes may sum in another order, so the counts may differ by a few
    for other, mine in ((parts, slice(None)), (alone, slice(1, None))):
        assert (whole.null_maps[mine] == other.null_maps).mean() > 0.98
        np.testing.assert_allclose(whole.null_maps[mine], other.null_maps, atol=5 / 256)
    assert not np.array_equal(whole.null_maps, sa.attend(model, images, null, replicates=9, seed=6).null_maps)


def test_the_null_is_the_map_of_the_drawn_inputs(digits, vit):
    model, images = digits
    found = sa.attend(model, images, "pixel", replicates=3, seed=1)
    by_hand = sa.attention_map(model, draw_inputs("pixel", images[1], range(3), seed=1, index=1)).values
    np.testing.assert_allclose(found.null_maps[1], by_hand, atol=1e-6)
    np.testing.assert_allclose(found.maps, sa.attention_map(model, images).values, atol=1e-6)
    expected = assess(found.maps[1], found.null_maps[1], "standardised", unit=1 / 256)
    np.testing.assert_array_equal(found.p[1], expected.p)
    np.testing.assert_array_equal(found.q[1], expected.q)
    model, images = vit
    found = sa.attend(model, images, "normal", replicates=2, statistic="rollout", layer=0, memory=SMALL)
    drawn = draw_inputs("normal", images[0], range(2))
    np.testing.assert_allclose(found.null_maps[0], sa.attention_map(model, drawn, "rollout", layer=0).values, atol=1e-5)


def test_token_null_resamples_the_embedding(vit):
    model, images = vit
    found = sa.attend(model, images, "token", replicates=2, seed=3)
    positions = draw_tokens(12, [1], seed=3, index=0)[0]
    original = model.patch_embed.forward
    with torch.no_grad():
        embedded = original(images[:1])[:, positions]
    model.patch_embed.forward = lambda x: embedded
    expected = sa.attention_map(model, images[:1]).values[0]
    del model.patch_embed.forward
    np.testing.assert_allclose(found.null_maps[0, 1], expected, atol=1e-6)
    assert "forward" not in vars(model.patch_embed)


def test_the_token_null_is_refused_where_the_blocks_do_not_know_where_a_token_lies(vit, digits):
    with pytest.raises(SpikeattnError, match='does not know where a token lies.*null="patch"'):
        sa.attend(*digits, "token", replicates=2)
    with pytest.raises(SpikeattnError, match="the map of permuted tokens is the permuted map"):
        twin = sa.twin_of(digits[0]).eval()
        calibrate_batch_norm(twin, digits[1])
        sa.attend(twin, digits[1], "token", replicates=2)
    model, images = vit
    blind = copy.deepcopy(model)
    blind.pos_embed.data.zero_()
    with pytest.raises(SpikeattnError, match="one permutation"):
        sa.attend(blind, images, "token", replicates=2)


def assert_same(mine, other):
    """Maps, nulls and significance of `other`, one map per image, are those that `mine` gives by its index."""
    maps, nulls, index = mine  # fused kernels round in another order: a rank may move by one
    np.testing.assert_allclose(maps.maps[index], other.maps, rtol=1e-5)
    np.testing.assert_allclose(maps.null_maps[nulls], other.null_maps, rtol=1e-5)
    for name, atol in (("z", 1e-4), ("p", 0.03), ("lfdr", 1e-3), ("pi0", 0)):
        np.testing.assert_allclose(getattr(maps, name)[index], getattr(other, name), atol=atol)
    np.testing.assert_allclose(maps.regularized("soft")[index], other.regularized("soft"), atol=1e-3)


@pytest.mark.parametrize("statistic", ["cls", "received", "rollout"])
def test_all_layers_at_once_are_the_layers_one_by_one(vit, statistic):
    model, images = vit
    whole = sa.attend(model, images, replicates=7, statistic=statistic, layer="all", seed=2)
    assert whole.axes == ("image", "layer", "row", "column") and whole.maps.shape == (2, 2, 4, 3)
    assert whole.pi0.shape == (2, 2) and whole.provenance["layer"] == "all"
    for layer in (0, 1):
        alone = sa.attend(model, images, replicates=7, statistic=statistic, layer=layer, seed=2)
        assert_same((whole, np.s_[:, :, layer], np.s_[:, layer]), alone)
        rows = whole.frame().query("layer == @layer").drop(columns="layer").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, alone.frame(), atol=0.1)


def test_heads_of_a_vit_have_nulls_of_their_own(vit):
    model, images = vit
    whole = sa.attend(model, images, replicates=6, heads="each", layer="all")
    assert whole.maps.shape == (2, 2, 3, 4, 3) and whole.null_maps.shape == (2, 6, 2, 3, 4, 3)
    one = assess(whole.maps[1, 0, 2], whole.null_maps[1, :, 0, 2], "standardised")
    np.testing.assert_array_equal(whole.p[1, 0, 2], one.p)
    np.testing.assert_allclose(whole.maps.mean(2), sa.attend(model, images, replicates=1, layer="all").maps, atol=1e-7)


@pytest.mark.parametrize("null", ["pixel", "exact"])
def test_layers_steps_and_heads_of_spikes(digits, null):
    model, images = digits
    options = {"replicates": 5, "seed": 4}
    whole = sa.attend(model, images, null, layer="all", heads="each", steps="each", **options)
    assert whole.axes == ("image", "layer", "step", "head", "row", "column")
    assert whole.maps.shape == whole.z.shape == (2, 2, 4, 8, 8, 8) and whole.pi0.shape == (2, 2, 4, 8)
    frame = whole.frame()
    assert list(frame)[:6] == list(whole.axes) and len(frame) == whole.maps.size
    part = sa.attend(model, images, null, layer=0, steps="each", **options)
    np.testing.assert_allclose(whole.maps[:, 0].mean(2), part.maps, atol=1e-6)
    if null == "exact":
        np.testing.assert_array_equal(whole.z[:, 1, 2, 5].shape, (2, 8, 8))
        alone = sa.attend(model, images, null, layer=1, **options)
        both = sa.attend(model, images, null, layer="all", **options)
        np.testing.assert_array_equal(both.p[:, 1], alone.p)
    else:
        alone = sa.attend(model, images, null, layer=0, heads="each", steps="each", **options)
        assert_same((whole, np.s_[:, :, 0], np.s_[:, 0]), alone)


def test_several_maps_of_ones_own():
    def both(model, images):
        return torch.stack([model(images).sum(1), model(images).amax(1)], 1)

    image = torch.rand(2, 3, 16, 16)
    found = sa.attend(nn.AvgPool2d(4), image, "pixel", replicates=9, statistic=both)
    assert found.maps.shape == (2, 2, 4, 4) and found.axes == ("image", "map1", "row", "column")
    with pytest.raises(SpikeattnError, match="leave them out"):
        sa.attend(nn.AvgPool2d(4), image, "pixel", replicates=9, statistic=both, heads="each")


def test_frames_and_events():
    torch.manual_seed(2)
    options = {"embed_dim": 32, "depth": 1, "num_heads": 4, "time_steps": 3, "num_classes": 3}
    model = SpikeDrivenTransformer(img_size=64, in_chans=2, **options).eval()
    frames = torch.poisson(torch.rand(2, 3, 2, 64, 64))
    calibrate_batch_norm(model, frames)
    for null in ("events", "pixel"):
        found = sa.attend(model, frames, null, 5, "V_S")
        assert found.null_maps.shape == (2, 5, 4, 4) and np.isfinite(found.z).all()


def test_exact_null_runs_no_replicates(digits):
    model, images = digits
    calls = []
    handle = model.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    found = sa.attend(model, images, "exact")
    handle.remove()
    assert sum(calls) <= 2 * len(images) and found.null_maps is None and found.provenance["replicates"] == 0
    np.testing.assert_allclose(found.maps, sa.attention_map(model, images).values, atol=1e-6)
    assert ((found.p > 0) & (found.p <= 1)).all() and (found.q >= found.p - 1e-12).all()
    with pytest.raises(SpikeattnError, match="counts the spikes"):
        sa.attend(model, images, "exact", statistic="gate")


def test_a_statistic_of_ones_own():
    network = nn.Sequential(nn.AvgPool2d(4), nn.ReLU())

    def brightness(model, images):
        return model(images).sum(1)

    image = torch.rand(1, 1, 32, 32) * 0.1
    image[..., 4:8, 4:12] = 3
    found = sa.attend(network, image, "pixel", replicates=100, statistic=brightness)
    assert found.maps.shape == (1, 8, 8) and found.provenance["statistic"] == "brightness"
    kept = found.regularized("q", 0.1)[0] > 0
    assert kept[1, 1] and kept[1, 2] and kept.sum() == 2
    for wrong, message in (
        (lambda model, images: model(images)[0, 0], "a map is"),
        (lambda model, images: brightness(model, images) * torch.nan, "NaN"),
        (lambda model, images: brightness(model, images)[:1].expand(7, -1, -1), "one per image"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            sa.attend(network, image, "pixel", replicates=2, statistic=wrong)


def test_results_are_tidy_and_carry_their_provenance(digits, vit):
    model, images = digits
    found = sa.attend(model, images, "pixel", replicates=19)
    frame = found.frame()
    answers = ["z", "p", "q", "lfdr", "where_z", "where_p", "where_q", "where_lfdr"]
    assert list(frame) == ["image", "row", "column", "score", *answers] and len(frame) == 128
    np.testing.assert_array_equal(frame["where_q"], found.where.q.ravel())
    assert json.loads(json.dumps(found.provenance))["model"]["name"] == "sdt_digits"
    assert found.pi0.tolist() == [1, 1] and found.regularized("soft").shape == (2, 8, 8)
    per_token = sa.attend(model, images, "pixel", replicates=19, estimator="per-token", ties="random")
    assert {"q", "where_q"}.isdisjoint(per_token.frame()) and per_token.p.min() > 0
    with pytest.raises(SpikeattnError, match="at least 640 replicates"):
        _ = per_token.q
    with pytest.warns(AttentionWarning, match="published pi0 of 12 tokens"):
        sa.attend(*vit, "token", replicates=5, estimator="published")


def test_lower_precision_leaves_the_model_alone(vit):
    model, images = vit
    plain = sa.attend(model, images, replicates=4)
    low = sa.attend(model, images, replicates=4, dtype=torch.bfloat16)
    assert low.maps.dtype == np.float64 and low.provenance["dtype"] == "bfloat16"
    np.testing.assert_allclose(low.maps, plain.maps, rtol=0.05)
    assert next(model.parameters()).dtype == torch.float32


def test_silent_and_one_token_models_call_nothing(digits):
    silent = sa.create_model("sdt_digits")
    with pytest.warns(AttentionWarning, match="the map is constant"):
        found = sa.attend(silent, digits[1], replicates=3)
    assert (found.q == 1).all() and (found.lfdr == 1).all() and not found.regularized("pi0").any()
    single = timm.create_model("vit_tiny_patch16_224", img_size=16, num_classes=2, depth=1)
    with pytest.warns(AttentionWarning, match="one token"):
        assert (sa.attend(single, torch.rand(1, 3, 16, 16), replicates=3).p == 1).all()


def test_bad_input(digits):
    model, images = digits
    for options, message in (
        ({"null": "pixels"}, "did you mean 'pixel'"),
        ({"replicates": 0}, "at least 1"),
        ({"replicates": 2.5}, "at least 1"),
        ({"statistic": "Vhat"}, "did you mean 'Vhat_S'"),
        ({"statistic": 3}, "statistic is a int"),
        ({"memory": 0}, "GiB"),
        ({"indices": [1]}, "1 entries for 2 images"),
        ({"seed": -1, "replicates": 1}, "from 0 on"),
        ({"null": "events", "replicates": 1}, "event counts"),
        ({"null": "patch", "patch": (3, 3), "replicates": 1}, "divide them"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            sa.attend(model, images, **options)
    with pytest.raises(SpikeattnError, match="NaN"):
        sa.attend(model, images * torch.nan)
    with pytest.raises(SpikeattnError, match="lacks"):
        sa.attend(nn.ReLU(), images, "token", replicates=1, statistic=lambda model, x: model(x)[:, 0])
