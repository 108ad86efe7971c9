"""Energy on noise against plain loops: shares, heads, soft weights, maps, and Spikformer's products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.spurious import silencing_curve, spurious_energy
from spikeattn.stats.ratios import ratio_intervals
from tests.attention.cases import images_of, sdt, spikformer
from tests.spurious.cases import case, made_up, spikes_by_head, spikes_of


def test_shares_are_those_of_a_plain_loop(lif):
    model, images, profile, attention = lif
    found = spurious_energy(profile, attention, method="lfdr", threshold=0.2)
    spurious, z = attention.lfdr > 0.2, attention.z
    for layer in range(2):
        names = [f"block.{layer}.{n}" for n in ("attn.shortcut_lif", "attn.kv_mask", "attn.sdsa_out")]
        names += [f"block.{layer}.mlp.fc1_lif", f"block.{layer}.mlp.fc2_lif"]
        entered, votes, left, one, two = spikes_of(model, images, *names)
        amounts = {
            "q_conv": 16 * entered,
            "sum_0": votes,
            "proj_conv": 16 * left,
            "fc1_conv": 64 * one,
            "fc2_conv": 16 * two,
        }
        for name, each in amounts.items():
            rows = found.frame[(found.frame["layer"] == layer) & found.frame["synapse"].str.endswith(name)]
            for i in range(3):
                noise, below = spurious[i, layer].ravel(), ~spurious[i, layer].ravel() & (z[i, layer].ravel() < 0)
                row = rows[rows["image"] == i].iloc[0]
                expected = [each[i].sum(), each[i][noise].sum(), each[i][below].sum()]
                got = row[["energy_mj", "spurious_mj", "below_mj"]].to_numpy(float) / 0.9e-9
                np.testing.assert_allclose(got, expected, rtol=1e-12, err_msg=f"{layer} {name} {i}")
    masks = found.frame[found.frame["synapse"].str.endswith("kv_mask")]
    assert len(masks) == 6 and (masks["energy_mj"] == 0).all()  # exact prices an AND gate at 0
    totals = found.frame.groupby("image")[["energy_mj", "spurious_mj"]].sum().mean()
    np.testing.assert_allclose(found.total.value, totals["spurious_mj"] / totals["energy_mj"], rtol=1e-12)
    np.testing.assert_allclose(found.spurious_maps.sum(), found.frame["spurious_mj"].sum(), rtol=1e-12)
    assert (found.spurious_maps[~spurious.any(1)] == 0).all()
    last = found.parts.iloc[-1]
    assert (last["layer"], last["part"]) == ("all", "all") and last["share"] == found.total.value
    np.testing.assert_allclose(
        found.of_everything.value, totals["spurious_mj"] / profile.energy().total.value, rtol=1e-12
    )
    assert found.provenance["method"] == "lfdr" and found.provenance["threshold"] == 0.2
    assert found.provenance["interval"] == "images alone"  # the significance is made up, and has no replicates
    assert found.provenance["energy"]["convention"] == "exact"


def test_soft_weights_p_and_q(lif):
    _, _, profile, attention = lif
    soft = spurious_energy(profile, attention, method="soft")
    np.testing.assert_allclose(soft.spurious_layer_maps, soft.layer_maps * attention.lfdr, rtol=1e-12)
    for method in ("p", "q"):
        hard = spurious_energy(profile, attention, method=method, threshold=0.4)
        noise = getattr(attention, method) > 0.4
        np.testing.assert_allclose(hard.spurious_layer_maps, hard.layer_maps * noise, rtol=1e-12)
    everything = [spurious_energy(profile, attention, threshold=t).total.value for t in (0.0, 0.1, 0.3, 1.0)]
    assert everything == sorted(everything, reverse=True) and everything[-1] == 0


def test_heads_split_the_attention_and_not_the_mlp():
    model = sdt()
    images = images_of(model)
    profile, each = case(model, images, heads="each")
    mean = spurious_energy(profile, made_up(sa.attend(model, images, "pixel", 3, layer="all", tokens=True)))
    found = spurious_energy(profile, each)
    keys = ["image", "layer", "synapse"]
    split, whole = (x.frame.groupby(keys)["energy_mj"].sum() for x in (found, mean))
    np.testing.assert_allclose(split, whole, rtol=1e-12)
    mlp = found.frame["part"].isin(["MLP1", "MLP2"])
    assert found.frame.loc[mlp, "head"].isna().all() and set(found.frame.loc[~mlp, "head"]) == {0, 1, 2, 3}
    out = spikes_by_head(model, images, "block.1.attn.sdsa_out")  # [B, heads, N]
    noise = (each.q[:, 1] > 0.1).reshape(3, 4, -1)
    rows = found.frame[found.frame["synapse"] == "block.1.attn.proj_conv"].sort_values(["image", "head"])
    np.testing.assert_allclose(rows["spurious_mj"] / 0.9e-9, 16 * (out * noise).sum(2).ravel(), rtol=1e-12)
    heads = found.heads
    assert list(zip(heads["layer"], heads["head"], strict=True)) == [
        (layer, head) for layer in (0, 1) for head in range(4)
    ]
    sums = found.frame.dropna(subset="head").groupby(["layer", "head"])[["energy_mj", "spurious_mj"]].sum()
    np.testing.assert_allclose(heads["share"], sums["spurious_mj"] / sums["energy_mj"], rtol=1e-12)
    assert len(mean.heads) == 0
    hidden = spikes_of(model, images, "block.1.mlp.fc2_lif")[0]
    rows = found.frame[found.frame["synapse"] == "block.1.mlp.fc2_conv"].sort_values("image")
    np.testing.assert_allclose(rows["spurious_mj"] / 0.9e-9, 16 * (hidden * noise.all(1)).sum(1), rtol=1e-12)


def test_one_attention_per_batch_or_per_layer_is_the_same(digits):
    model, loader, profile, batches = digits
    whole = spurious_energy(profile, batches)
    assert whole.images == tuple(range(24)) and whole.total.low < whole.total.value < whole.total.high
    assert (whole.parts["ci_low"] <= whole.parts["share"]).all() and (whole.parts["ci_high"] <= 1).all()
    np.testing.assert_array_equal(whole.per_image, profile.energy().per_image)
    one = [b for b in loader][1]
    layers = [
        sa.attend(model, one.images, "pixel", 40, layer=layer, tokens=True, indices=one.index.tolist())
        for layer in (0, -1)
    ]
    second, both = spurious_energy(profile, batches[1]), spurious_energy(profile, layers)
    np.testing.assert_allclose(both.spurious_layer_maps, second.spurious_layer_maps, rtol=1e-12)
    np.testing.assert_array_equal(second.frame["id"].unique(), profile.counts.rows["id"][12:])
    last = spurious_energy(profile, layers[1])
    reasons = last.outside.groupby("reason")["energy_mj"].sum()
    assert last.layers == (1,) and set(reasons.index) == {"outside the blocks", "block 0 was not attended"}
    np.testing.assert_allclose(last.maps.sum() / 12 + reasons.sum(), last.per_image.mean(), rtol=1e-12)
    assert any(note.startswith("not-attended: blocks 0") for note in last.notes)


def test_spikformer_attributes_its_products_and_drops_nothing():
    model, images = spikformer()
    profile, attention = case(model, images)
    found = spurious_energy(profile, attention)
    both = found.frame.groupby("image")["energy_mj"].sum().mean() + found.outside["energy_mj"].sum()
    np.testing.assert_allclose(both, profile.energy().total.value, rtol=1e-13)
    names = {name.split(".", 2)[2] for name in found.frame["synapse"]}
    layers = {"attn.qkv_conv_bn.0", "attn.proj_conv_bn.0", "attn.bmm_0", "attn.bmm_1", "mlp.fc1.0", "mlp.fc2.0"}
    assert names == layers | {"add_0", "add_1"}  # the residual sums of a block, at every token alike
    assert set(found.frame["part"]) == {"QKV", "attention", "projection", "MLP1", "MLP2"}
    each = spurious_energy(profile, case(model, images, heads="each")[1])
    split, whole = (x.frame.groupby(["layer", "synapse"])["energy_mj"].sum() for x in (each, found))
    np.testing.assert_allclose(split, whole, rtol=1e-12)
    with pytest.raises(SpikeattnError, match="Spikformer: silencing is defined"):
        silencing_curve(model, [images], attention)


def test_no_limit_of_a_share_is_above_one(lif):
    _, _, profile, attention = lif
    almost = [np.full_like(found.lfdr, float(k % 3 > 0)) for k, found in enumerate(attention.significance)]
    for lfdr in almost:
        lfdr.flat[0] = 1  # no map is called whole
    almost = tuple(replace(f, lfdr=lfdr) for f, lfdr in zip(attention.significance, almost, strict=True))
    found = spurious_energy(profile, replace(attention, significance=almost), method="lfdr")
    uncapped = ratio_intervals(found.spurious_maps.sum((1, 2)), found.maps.sum((1, 2)))[0]
    assert uncapped.high > 1 and 0 < uncapped.low < uncapped.value < 1
    assert found.total.high == 1 and found.total.low == pytest.approx(uncapped.low)
    assert found.parts["ci_high"].max() == 1 and (found.parts["ci_low"] < found.parts["share"]).any()


def test_nothing_called_is_said(lif):
    _, _, profile, attention = lif
    ones = tuple(replace(found, q=np.ones_like(found.q)) for found in attention.significance)
    found = spurious_energy(profile, replace(attention, significance=ones))
    assert found.total.value == 1 and any(note.startswith("nothing-called: in 6 of 6 maps") for note in found.notes)
