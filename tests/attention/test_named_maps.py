"""Roles and paths in networks of others, against hooks written by hand: every layout of time, heads, resets, nulls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError

T, D, H = 3, 16, 4


def lif(mode="m"):
    return neuron.LIFNode(v_threshold=0.1, step_mode=mode)


class Block(nn.Module):
    """Spiking self-attention of tokens [T, B, N, D]; with `mask` the products go element by element."""

    def __init__(self, mask=False, mode="m"):
        super().__init__()
        self.mask = mask
        for name in "qkv":
            setattr(self, f"{name}_proj", nn.Linear(D, D))
            setattr(self, f"{name}_lif", lif(mode))
        self.gate_lif, self.attn_lif, self.out = lif(mode), lif(mode), nn.Linear(D, D)
        self.fc1, self.mlp_lif, self.fc2 = nn.Linear(D, 2 * D), lif(mode), nn.Linear(2 * D, D)

    def forward(self, x):
        q, k, v = (getattr(self, f"{n}_lif")(getattr(self, f"{n}_proj")(x)) for n in "qkv")
        if self.mask:
            y = q * self.gate_lif((k * v).sum(-2, keepdim=True))
        else:
            q, k, v = (z.unflatten(-1, (H, D // H)).transpose(-2, -3) for z in (q, k, v))
            y = self.attn_lif(((q @ k.mT) @ v * 0.25).transpose(-2, -3).flatten(-2))
        x = x + self.out(y)
        return x + self.fc2(self.mlp_lif(self.fc1(x)))


class Net(nn.Module):
    """`time`: "TB" keeps [T, B, ...]; "loop" runs one step after the other; "frames" takes [B, T, C, H, W]."""

    def __init__(self, time="TB", mask=False, depth=2, classes=0):
        super().__init__()
        self.time, mode = time, "s" if time == "loop" else "m"
        self.stem, self.stem_lif = nn.Conv2d(3, D, 4, 4, 1), lif(mode)
        self.blocks = nn.ModuleList(Block(mask, mode) for _ in range(depth))
        self.cls = nn.Parameter(torch.rand(classes, D))
        self.head = nn.Linear(D, 5)

    def step(self, x):
        x = self.stem_lif(x)
        tokens = x.flatten(-2).mT
        x = torch.cat([self.cls.expand(*tokens.shape[:-2], -1, -1), tokens], -2) if len(self.cls) else tokens
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(-2))

    def forward(self, x):
        if self.time == "loop":
            return torch.stack([self.step(self.stem(x)) for _ in range(T)]).mean(0)
        if self.time == "frames":
            x = x.transpose(0, 1)
            return self.step(self.stem(x.flatten(0, 1)).unflatten(0, x.shape[:2])).mean(0)
        return self.step(self.stem(x).expand(T, -1, -1, -1, -1)).mean(0)


def net(**options):
    torch.manual_seed(0)
    model = Net(**options).eval()
    shape = (2, T, 3, 15, 11) if options.get("time") == "frames" else (2, 3, 15, 11)
    return model, torch.rand(shape) * 2


def by_hand(model, images, path):
    """What a module gives, [T, B, ...]."""
    calls = []
    handle = model.get_submodule(path).register_forward_hook(lambda m, a, out: calls.append(out))
    with torch.no_grad():
        functional.reset_net(model)
        model(images)
        functional.reset_net(model)
    handle.remove()
    return calls[0] if len(calls) == 1 else torch.stack(calls)


@pytest.mark.parametrize("time", ["TB", "loop", "frames"])
def test_roles_are_the_rates_of_their_tensors(time):
    model, images = net(time=time)
    for role, path in (("q", "q_lif"), ("k", "k_lif"), ("v", "v_lif"), ("attention", "attn_lif")):
        spikes = by_hand(model, images, f"blocks.1.{path}")  # [T, B, N, D]
        assert spikes.any()
        found = sa.attention_map(model, images, role, heads="each", steps="each")
        assert found.axes == ("image", "step", "head", "row", "column") and found.layer == 1
        wanted = spikes.unflatten(-1, (H, D // H)).mean(-1).permute(1, 0, 3, 2).reshape(2, T, H, 4, 3)
        torch.testing.assert_close(found.values, wanted)
        mean = sa.attention_map(model, images, role)
        torch.testing.assert_close(mean.values, wanted.mean((1, 2)))
        assert mean.unit == pytest.approx(1 / (T * D))
        named = sa.attention_map(model, images, f"blocks.1.{path}")
        assert torch.equal(named.values, mean.values) and named.layer == 1
    assert sa.attention_map(model, images).kind == "attention"
    whole = sa.attention_map(model, images, "q", layer="all")
    assert whole.values.shape == (2, 2, 4, 3)
    assert torch.equal(whole.values[:, 1], sa.attention_map(model, images, "q").values)
    assert mean.placement.rows.tolist() == [[-1.0, 3.0], [3.0, 7.0], [7.0, 11.0], [11.0, 15.0]]
    model(images)  # a potential is left behind: it is no part of the map
    assert torch.equal(sa.attention_map(model, images, "q").values, whole.values[:, 1])
    functional.reset_net(model)


@pytest.mark.parametrize("time", ["TB", "frames"])
def test_products_are_the_matrix_that_meets_v(time):
    model, images = net(time=time)
    q, k = (by_hand(model, images, f"blocks.1.{n}_lif").unflatten(-1, (H, D // H)).transpose(-2, -3) for n in "qk")
    matrix = (q @ k.mT).mean(-2)  # [T, B, H, N], over queries
    found = sa.attention_map(model, images, "products")
    torch.testing.assert_close(found.values, matrix.mean((0, 2)).reshape(2, 4, 3))
    each = sa.attention_map(model, images, "products", heads="each")
    torch.testing.assert_close(each.values, matrix.mean(0).reshape(2, H, 4, 3))
    steps = sa.attention_map(model, images, "products", steps="each", heads="each")
    torch.testing.assert_close(steps.values, matrix.transpose(0, 1).reshape(2, T, H, 4, 3))


def test_masks_have_no_matrix_and_a_gate_without_tokens_says_so():
    model, images = net(mask=True)
    q, gate = (by_hand(model, images, f"blocks.1.{name}") for name in ("q_lif", "gate_lif"))
    found = sa.attention_map(model, images)
    torch.testing.assert_close(found.values, (q * gate).mean((0, 3)).reshape(2, 4, 3))
    with pytest.raises(SpikeattnError, match="element by element"):
        sa.attention_map(model, images, "products")
    with pytest.raises(SpikeattnError, match="one value for all"):
        sa.attention_map(model, images, "gate")


def test_token_attention_has_a_gate_with_tokens():
    """QKFormer's: a neuron on the sum of q over the channels of a head scales k."""

    class TokenBlock(Block):
        def forward(self, x):
            q, k = (getattr(self, f"{n}_lif")(getattr(self, f"{n}_proj")(x)) for n in "qk")
            q, k = (z.unflatten(-1, (H, D // H)) for z in (q, k))
            y = self.gate_lif(q.sum(-1, keepdim=True)) * k
            x = x + self.out(y.flatten(-2))
            return x + self.fc2(self.mlp_lif(self.fc1(x)))

    model, images = net(depth=1)
    model.blocks[0] = TokenBlock()
    for role, path in (("q", "q_lif"), ("k", "k_lif"), ("gate", "gate_lif")):
        spikes = by_hand(model, images, f"blocks.0.{path}")  # [T, B, N, D], of the gate [T, B, N, H, 1]
        assert spikes.any()
        found = sa.attention_map(model, images, role)
        torch.testing.assert_close(found.values, spikes.flatten(3).mean((0, 3)).reshape(2, 4, 3))
    with pytest.raises(SpikeattnError, match="has no v"):
        sa.attention_map(model, images, "v")


def test_class_tokens_are_taken_away():
    model, images = net(classes=2)
    spikes = by_hand(model, images, "blocks.1.q_lif")
    found = sa.attention_map(model, images, "q")
    torch.testing.assert_close(found.values, spikes[:, :, 2:].mean((0, 3)).reshape(2, 4, 3))


def test_attend_tests_any_role_against_every_null_that_runs_the_network():
    model, images = net()
    for null in ("normal", "uniform", "pixel"):
        found = sa.attend(model, images, null, 4, "q")
        torch.testing.assert_close(torch.from_numpy(found.maps).float(), sa.attention_map(model, images, "q").values)
        assert found.null_maps.shape == (2, 4, 4, 3) and found.provenance["statistic"] == "q"
    assert sa.attend(model, images[..., :12, :], "patch", 2, "k", patch=(4, 11)).maps.shape == (2, 3, 3)
    assert sa.attend(model, images, replicates=2).provenance["statistic"] == "attention"
    assert sa.attend(model, images, "normal", 2, "blocks.0.q_lif").provenance["layer"] == 0
    for null in ("token", "exact"):
        with pytest.raises(SpikeattnError, match='"pixel"|patch_embed'):
            sa.attend(model, images, null, 2)
    frames, events = net(time="frames")
    assert sa.attend(frames, events.round(), "events", 2, "q").maps.shape == (2, 4, 3)


def test_energy_of_tokens_adds_up_to_the_blocks():
    model, images = net()
    found = sa.attend(model, images, "normal", 4, layer="all", tokens=True)
    spikes = by_hand(model, images, "blocks.0.q_lif")  # [T, B, N, D]
    np.testing.assert_array_equal(found.tokens.of("blocks.0.q_lif"), spikes.sum(-1).transpose(0, 1).numpy())
    profile = sa.profile(model, [images])
    energy = sa.spurious_energy(profile, found)
    total = energy.frame.groupby("image")["energy_mj"].sum().mean() + energy.outside["energy_mj"].sum()
    np.testing.assert_allclose(total, profile.energy().total.value, rtol=1e-12)
    assert {"QKV", "attention", "MLP1"} <= set(energy.frame["part"]) and set(energy.frame["layer"]) == {0, 1}


def test_what_fits_nothing_names_the_closest_and_the_roles():
    model, images = net()
    with pytest.raises(SpikeattnError, match=r"did you mean 'blocks.1.q_lif'.*attention, q, k, v, gate, products"):
        sa.attention_map(model, images, "blocks.1.q_lf")
    with pytest.raises(SpikeattnError, match="2 blocks with attention"):
        sa.attention_map(model, images, "q", layer=2)
    with pytest.raises(SpikeattnError, match="spiking network"):
        sa.attention_map(model, images, "cls")
    with pytest.raises(SpikeattnError, match="no tokens lie on a grid"):
        sa.attention_map(model, images, "head")
    with pytest.raises(SpikeattnError, match="has no gate"):
        sa.attention_map(model, images, "gate")


def test_a_loop_over_time_outside_the_model():
    torch.manual_seed(0)
    model = Net("loop").eval()
    images = torch.rand(2, 3, 15, 11) * 2

    def forward(network, x):
        return torch.stack([network.step(network.stem(x)) for _ in range(T)]).mean(0)

    found = sa.attention_map(model, images, "q", forward=forward)
    torch.testing.assert_close(found.values, sa.attention_map(model, images, "q").values)


def test_fused_layers_are_taken_apart():
    """SpikingJelly's Spikformer has one neuron for q, k and v: a third of its channels each."""
    from tests.attention import cases

    model, images = cases.spikformer()
    spikes = by_hand(model, images, "blocks.0.attn.qkv_lif")  # [T, B, 3 D, N]
    for role, part in zip("qkv", spikes.chunk(3, 2), strict=True):
        found = sa.attention_map(model, images, role, layer=0)
        torch.testing.assert_close(found.values.flatten(1), part.mean((0, 2)))


def test_multi_step_layers_of_spikingjelly():
    """Layers that fold [T, B] themselves: the same tokens, found through them."""
    torch.manual_seed(0)
    model = Net().eval()
    model.stem = layer.Conv2d(3, D, 4, 4, 1)
    assert sa.attention_map(model, torch.rand(1, 3, 15, 11), "q").values.shape == (1, 4, 3)
