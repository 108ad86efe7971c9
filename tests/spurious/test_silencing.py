"""Silencing: spikes of chosen tokens are gone, the rest is run and counted anew, and controls are alike in number."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from spikeattn.spurious import silencing, silencing_curve
from spikeattn.spurious.join import assess_tokens
from tests.spurious.cases import spikes_of


def residual_mj(profile) -> float:
    """mJ per image of the residual sums of all blocks: one addition per element and time step."""
    sums = [row.elements for row in profile.ledger.additions if row.block is not None]
    return 0.9e-9 * profile.time_steps * sum(sums)


def test_silencing_runs_the_network_again(digits):
    model, loader, profile, attention = digits
    curve = silencing_curve(model, loader, attention, thresholds=(1.0, 0.1, -1.0), draws=2)
    keep, none = curve[curve["threshold"] == 1], curve[curve["threshold"] < 0]
    assert len(curve) == 15 and (keep["silenced"] == 0).all() and (none["silenced"] == 1).all()
    np.testing.assert_allclose(keep["energy_mj"], profile.energy().total.value, rtol=1e-12)
    assert (keep["same_prediction"] == 1).all() and (keep["blocks_share"] == 1).all()
    np.testing.assert_allclose(none["blocks_mj"], residual_mj(profile), rtol=1e-12)  # numbers are added all the same
    assert none["energy_mj"].nunique() == 1
    some = curve[curve["threshold"] == 0.1]
    assert some["silenced"].nunique() == 1 and 0 < some["silenced"].iloc[0] < 1
    assert (some["energy_share"] < 1).all() and some["energy_mj"].nunique() > 2
    assert not any(m._forward_hooks for m in model.modules())


def test_silenced_spikes_are_gone_and_the_rest_is_run_anew(lif):
    model, images, profile, attention = lif
    curve = silencing_curve(
        model, [(images, torch.zeros(3))], attention, method="lfdr", thresholds=(0.15,), controls=()
    )
    kept = torch.from_numpy(attention.lfdr <= 0.15)  # [B, layer, h, w]
    handles = []
    for layer, module in itertools.product(
        range(2), ("attn.shortcut_lif", "attn.q_lif", "attn.k_lif", "attn.v_lif", "mlp.fc1_lif", "mlp.fc2_lif")
    ):
        path = f"block.{layer}.{module}"
        handles.append(
            model.get_submodule(path).register_forward_hook(lambda m, a, out, k=kept[:, layer]: out * k[:, None])
        )
    names = [s.input for s in profile.ledger.synapses if s.name.startswith("block.")]
    additions = sum(s.fan_out * x.sum() for s, x in zip(
        (s for s in profile.ledger.synapses if s.name.startswith("block.")),
        [spikes_of(model, images, name)[0] for name in names], strict=True,
    ))  # fmt: skip
    votes = sum(spikes_of(model, images, f"block.{layer}.attn.kv_mask")[0].sum() for layer in range(2))
    for handle in handles:
        handle.remove()
    np.testing.assert_allclose(curve["blocks_mj"], 0.9e-9 * (additions + votes) / 3 + residual_mj(profile), rtol=1e-12)


def test_controls_silence_as_many_tokens_and_the_right_ones(lif):
    _, _, _, attention = lif
    assessed = assess_tokens(attention, "lfdr", None, values=True)
    kept = silencing._kept((attention.lfdr.reshape(3, 2, 64), attention.z.reshape(3, 2, 64) >= 0), 0.1, "keep")
    np.testing.assert_array_equal(kept, attention.lfdr.reshape(3, 2, 64) <= 0.1)
    fewer = silencing._kept((attention.lfdr.reshape(3, 2, 64), attention.z.reshape(3, 2, 64) >= 0), 0.1, "silence")
    np.testing.assert_array_equal(fewer, kept & (attention.z.reshape(3, 2, 64) >= 0))
    for control in silencing.CONTROLS:
        mask = silencing._as_many(kept, silencing._ranking(control, assessed, 0))
        np.testing.assert_array_equal(mask.sum(-1), kept.sum(-1))
    scores = attention.maps.reshape(3, 2, 64)
    mask = silencing._as_many(kept, silencing._ranking("score", assessed, 0))
    assert all(scores[i, j][~mask[i, j]].max() <= scores[i, j][mask[i, j]].min() for i in range(3) for j in range(2))


def test_what_is_run_is_alike_in_number_for_every_image_and_block(lif, monkeypatch):
    model, images, _, attention = lif
    masks, run = [], silencing._Silenced.run

    def noted(self, kept):
        masks.append(kept)
        return run(self, kept)

    monkeypatch.setattr(silencing._Silenced, "run", noted)
    curve = silencing_curve(model, [(images, torch.zeros(3))], attention, method="p", thresholds=(0.4,), draws=2)
    ours, *controls = masks[1:]  # the first run is of the whole network
    assert masks[0] is None and len(controls) == 4
    assert list(curve["order"]) == ["significance", "random", "random", "score", "spikes"]
    np.testing.assert_array_equal(ours, attention.p.reshape(3, 2, 64) <= 0.4)
    for mask in controls:
        assert not np.array_equal(mask, ours)
        np.testing.assert_array_equal(mask.sum(-1), ours.sum(-1))
    assert curve["silenced"].nunique() == 1 and curve["energy_mj"].nunique() > 2


def test_where_can_be_silenced_too(digits):
    model, loader, _, attention = digits
    curves = [
        silencing_curve(model, loader, attention, method="p", question=question, thresholds=(0.3,), controls=())
        for question in ("how much", "where")
    ]
    for curve, p in zip(curves, ([one.p for one in attention], [one.where.p for one in attention]), strict=True):
        np.testing.assert_allclose(curve["silenced"].iloc[0], (np.concatenate(p) > 0.3).mean(), rtol=1e-12)
    assert curves[0]["silenced"].iloc[0] != curves[1]["silenced"].iloc[0]
    assert curves[1].attrs["question"] == "where"
