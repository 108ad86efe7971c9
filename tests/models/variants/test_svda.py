"""SVDA: the formula in closed form, against explicit loops, and as a drop-in for timm's attention."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import timm
import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.models.variants import svda
from spikeattn.models.variants.pruning import kept_directions, prune

SMALL = {"img_size": 8, "patch_size": 2, "in_chans": 1, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


def small_vit(seed: int = 0) -> VisionTransformer:
    torch.manual_seed(seed)
    return VisionTransformer(**SMALL).eval()


def lively(layer: svda.SvdaAttention) -> svda.SvdaAttention:
    """Another sigma for every direction, some negative."""
    with torch.no_grad():
        layer.sigma.copy_(torch.linspace(-3, 9, layer.sigma.numel()))
    return layer.eval()


@torch.no_grad()
def oracle(layer: svda.SvdaAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Map and output of one image [N, D], with loops over heads, queries and keys."""
    N, D, h = *x.shape, layer.num_heads
    d = D // h
    rows = x @ layer.qkv.weight.T + (0 if layer.qkv.bias is None else layer.qkv.bias)
    q, k, v = rows[:, :D], rows[:, D : 2 * D], rows[:, 2 * D :]
    maps, mixed = torch.zeros(h, N, N), torch.zeros(N, D)
    for head in range(h):
        mine = slice(head * d, (head + 1) * d)
        sigma = layer.sigma[mine] if layer.per_head else layer.sigma
        for i in range(N):
            scores = []
            for j in range(N):
                a, b = q[i, mine] / q[i, mine].norm(), k[j, mine] / k[j, mine].norm()
                scores.append(sum(a[c] * sigma[c] * b[c] for c in range(d)) / math.sqrt(d))
            weights = torch.tensor([math.exp(s) for s in scores])
            maps[head, i] = weights / weights.sum()
            mixed[i, mine] = maps[head, i] @ v[:, mine]
    return maps, mixed @ layer.proj.weight.T + layer.proj.bias


def test_two_orthogonal_tokens_in_closed_form():
    # q = k = the tokens e1, e2: scores are tau on the diagonal and 0 beside it.
    layer = svda.SvdaAttention(2, 1, tau=2.0)
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.eye(2).repeat(3, 1))
    high = math.exp(2) / (math.exp(2) + 1)
    expected = torch.tensor([[high, 1 - high], [1 - high, high]])
    for length in (1.0, 7.0):  # the length of a token does not matter
        torch.testing.assert_close(layer.attention(length * torch.eye(2)[None])[0, 0], expected)


def test_sigma_of_one_is_nearly_uniform_and_tau_is_what_is_exposed():
    torch.manual_seed(0)
    x, flat, sharp = torch.randn(1, 9, 64), svda.SvdaAttention(64, 1, tau=1 / 8), svda.SvdaAttention(64, 1, tau=20)
    sharp.load_state_dict(flat.state_dict() | {"sigma": sharp.sigma.detach()})
    assert torch.equal(flat.sigma, torch.ones(64))
    assert (flat.attention(x) * 9 - 1).abs().max() < math.exp(2 / 8) - 1  # |score| <= 1/sqrt(64)
    assert sharp.attention(x).max() > 0.5


@pytest.mark.parametrize("per_head", [False, True])
def test_against_loops(per_head):
    torch.manual_seed(1)
    layer = lively(svda.SvdaAttention(12, 3, qkv_bias=True, per_head=per_head))
    x = torch.randn(2, 5, 12)
    maps, out = layer.attention(x), layer(x)
    for b in range(2):
        expected_maps, expected_out = oracle(layer, x[b])
        torch.testing.assert_close(maps[b], expected_maps, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(out[b], expected_out, atol=1e-6, rtol=1e-5)


def test_a_silent_token_attends_uniformly_and_nothing_is_nan():
    layer = svda.SvdaAttention(4, 2)
    maps = layer.attention(torch.zeros(1, 3, 4))
    torch.testing.assert_close(maps, torch.full((1, 2, 3, 3), 1 / 3))
    assert layer(torch.zeros(1, 3, 4)).isfinite().all()


def test_masks_are_those_of_timm():
    torch.manual_seed(0)
    layer, x = svda.SvdaAttention(8, 2), torch.randn(1, 4, 8)
    changed = x.clone()
    changed[:, 3] += 1
    assert torch.equal(layer(x, is_causal=True)[:, :3], layer(changed, is_causal=True)[:, :3])
    keep = torch.tensor([True, True, True, False]).expand(4, 4)
    torch.testing.assert_close(layer(x, attn_mask=keep)[:, :3], layer(changed, attn_mask=keep)[:, :3])


def test_autocast_gives_the_map_of_single_precision():
    torch.manual_seed(0)
    layer, x = svda.SvdaAttention(32, 2, tau=3.0), torch.randn(2, 6, 32)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
        low.sum().backward()
    assert low.dtype == torch.bfloat16 and layer.sigma.grad.isfinite().all() and layer.sigma.grad.any()
    torch.testing.assert_close(low.float(), layer(x), atol=0.03, rtol=0.03)
    whole = layer.to(torch.bfloat16)
    torch.testing.assert_close(whole(x.bfloat16()).float(), low.float(), atol=0.03, rtol=0.03)


def test_every_head_has_a_spectrum_unless_one_is_asked_for_all():
    layers = svda.layers(svda.convert(small_vit())).values()
    assert [tuple(layer.sigma.shape) for layer in layers] == [(16,)] * 2  # 2 heads x 8 directions
    shared = svda.convert(small_vit(), per_head=False)
    assert [tuple(layer.sigma.shape) for layer in svda.layers(shared).values()] == [(8,)] * 2
    assert svda.SvdaAttention(16, 2).per_head and svda.layers(timm.create_model("svda_vit_tiny", depth=1))
    with torch.no_grad():
        x = torch.rand(1, 1, 8, 8)
        torch.testing.assert_close(shared.eval()(x), svda.convert(small_vit()).eval()(x))  # the same at the start


def test_convert_keeps_weights_and_leaves_the_original():
    vit = small_vit()
    before = {key: value.clone() for key, value in vit.state_dict().items()}
    model = sa.svda.convert(vit)
    state = model.state_dict()
    assert set(state) - set(before) == {f"blocks.{i}.attn.sigma" for i in range(2)}
    assert all(torch.equal(state[key], value) for key, value in before.items())
    assert all(torch.equal(vit.state_dict()[key], value) for key, value in before.items())
    assert all(isinstance(block.attn, Attention) for block in vit.blocks)
    model.blocks[0].attn.qkv.weight.data.zero_()
    assert vit.blocks[0].attn.qkv.weight.any()
    assert not model.training and list(svda.layers(model)) == ["blocks.0.attn", "blocks.1.attn"]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"class_token": False, "global_pool": "avg"},
        {"reg_tokens": 4, "no_embed_class": True},
        {"qkv_bias": False, "proj_bias": False},
        {"attn_drop_rate": 0.3, "proj_drop_rate": 0.2},
        {"dynamic_img_size": True},
    ],
)
def test_convert_takes_the_vits_of_timm(kwargs):
    torch.manual_seed(0)
    vit = VisionTransformer(**(SMALL | kwargs)).eval()
    model, images = svda.convert(vit), torch.randn(2, 1, 8, 8)
    state, before = model.state_dict(), vit.state_dict()
    assert {k for k in state if not k.endswith("sigma")} == set(before)
    assert all(torch.equal(state[key], value) for key, value in before.items())
    assert model(images).shape == (2, 3) and torch.equal(model(images), model(images))
    tokens = 16 + vit.num_prefix_tokens
    seen = []
    model.blocks[1].attn.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(images)
    torch.testing.assert_close(model.blocks[1].attn.attention(seen[0]).sum(-1), torch.ones(2, 2, tokens))
    assert sa.attention_map(model, images).values.shape == (2, 4, 4)
    drops = "attn_drop_rate" in kwargs
    assert (model.blocks[0].attn.attn_drop.p, model.blocks[0].attn.proj_drop.p) == ((0.3, 0.2) if drops else (0, 0))
    model.train()
    assert torch.equal(model(images), model(images)) is not drops
    if "dynamic_img_size" in kwargs:
        assert model.eval()(torch.randn(1, 1, 12, 8)).shape == (1, 3)


def test_dropout_falls_on_the_attention_weights():
    torch.manual_seed(0)
    layer, x = svda.SvdaAttention(8, 2, attn_drop=0.5).train(), torch.randn(1, 5, 8)
    many = torch.stack([layer(x) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(many, layer.eval()(x), atol=0.06, rtol=0)  # dropout keeps the mean


def test_parameters_added():
    with torch.device("meta"):
        for name, per_head, share in (
            ("vit_tiny_patch16_224", False, 0.00014),
            ("vit_tiny_patch16_224", True, 0.000403),
            ("vit_small_patch16_224", True, 0.00021),
            ("vit_base_patch16_224", True, 0.00011),
        ):
            vit = timm.create_model(name)
            model = svda.convert(vit, per_head=per_head)
            plain, ours = (sum(p.numel() for p in m.parameters()) for m in (vit, model))
            assert (ours - plain) / plain == pytest.approx(share, abs=6e-6), name
        model, vit = timm.create_model("svda_vit_tiny"), svda.vit_tiny()
    plain, ours = (sum(p.numel() for p in m.parameters()) for m in (vit, model))
    assert ours - plain == 12 * 192


def test_entry_point_by_timm():
    model = timm.create_model("svda_vit_tiny", num_classes=7, depth=1, tau=3.0).eval()
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert model.default_cfg["input_size"] == (3, 32, 32) and model.default_cfg["num_classes"] == 7
    torch.testing.assert_close(model.blocks[0].attn.sigma, torch.full((192,), 24.0))
    with pytest.raises(SpikeattnError, match="without weights"):
        svda.svda_vit_tiny(pretrained=True)


def test_sigma_learns_and_is_not_decayed():
    model = svda.convert(small_vit())
    model(torch.randn(4, 1, 8, 8)).sum().backward()
    sigma = model.blocks[0].attn.sigma
    assert sigma.grad.abs().sum() > 0
    from timm.optim import param_groups_weight_decay

    free, _ = param_groups_weight_decay(model)
    assert any(p is sigma for p in free["params"]) and free["weight_decay"] == 0


def test_errors_name_what_to_do():
    with pytest.raises(SpikeattnError, match="Linear has no module of timm's class Attention"):
        svda.convert(torch.nn.Linear(2, 2))
    with pytest.raises(SpikeattnError, match="q_norm=LayerNorm"):
        svda.convert(VisionTransformer(**SMALL, qk_norm=True))
    with pytest.raises(SpikeattnError, match="tau=0"):
        svda.convert(small_vit(), tau=0)
    with pytest.raises(SpikeattnError, match="svda.convert"):
        svda.layers(small_vit())
    with pytest.raises(SpikeattnError, match="divisor"):
        svda.SvdaAttention(10, 3)


# ---------------------------------------------------------------- pruning
def test_kept_directions_in_closed_form():
    sigma = torch.tensor([1.0, -3, 0, 2])  # squares 1, 9, 0, 4 of 14
    for rho, expected in ((9 / 14, [1]), (0.65, [1, 3]), (13 / 14, [1, 3]), (0.95, [0, 1, 3]), (1.0, [0, 1, 3])):
        assert kept_directions(sigma, rho).tolist() == expected, rho
    assert kept_directions(torch.zeros(3), 0.9).tolist() == [0]
    assert kept_directions(torch.ones(4), 0.5).tolist() == [0, 1]
    for rho in (0, 1.1, float("nan")):
        with pytest.raises(SpikeattnError, match="share of sigma"):
            kept_directions(sigma, rho)


def test_kept_directions_are_the_smallest_set():
    generator = torch.Generator().manual_seed(0)
    for rho in (0.3, 0.8, 0.99):
        energy = torch.randn(7, generator=generator, dtype=torch.float64).square()
        enough = [
            set(s) for n in range(8) for s in combinations(range(7), n) if energy[list(s)].sum() >= rho * energy.sum()
        ]
        kept = kept_directions(energy.sqrt(), rho).tolist()
        assert set(kept) in enough and len(kept) == min(map(len, enough))


@pytest.mark.parametrize("per_head", [False, True])
def test_removing_directions_without_rows_changes_nothing(per_head):
    # Rows of W_q and W_k that are zero carry nothing: without them the layer must give the same map.
    torch.manual_seed(0)
    layer = svda.SvdaAttention(12, 3, qkv_bias=True, per_head=per_head).eval()
    with torch.no_grad():
        rows = [0, 5, 6, 9] if per_head else [1, 5, 9]  # per head: heads keep 3, 2 and 3 of their 4 directions
        for row in rows:
            for part in (0, 12):
                layer.qkv.weight[part + row], layer.qkv.bias[part + row] = 0, 0
        layer.sigma[rows if per_head else [1]] = 0
    model, x = torch.nn.Sequential(layer), torch.randn(2, 5, 12)
    pruned = prune(model, 1.0, tokens=5)
    small = pruned.model[0]
    assert small.directions == ([3, 2, 3] if per_head else [3, 3, 3]) and layer.directions == [4, 4, 4]
    assert small.qkv.out_features == 2 * sum(small.directions) + 12
    torch.testing.assert_close(small.attention(x), layer.attention(x))
    torch.testing.assert_close(small(x), layer(x))
    assert pruned.table["retained"][0] == 1 and pruned.table["kept"][0] == sum(small.directions)
    again = prune(pruned.model, 1.0, tokens=5).model[0]
    torch.testing.assert_close(again(x), layer(x))
    small(x).sum().backward()
    assert small.sigma.grad.isfinite().all()


def test_pruned_layer_against_loops():
    torch.manual_seed(0)
    layer = lively(svda.SvdaAttention(12, 3, per_head=True))
    small = prune(torch.nn.Sequential(layer), 0.7, tokens=5).model[0]
    x = torch.randn(5, 12)
    q, k = (x @ layer.qkv.weight[part : part + 12].T for part in (0, 12))
    for head in range(3):
        sigma = layer.sigma[4 * head : 4 * head + 4]
        keep = kept_directions(sigma, 0.7)
        mine = 4 * head + keep
        a, b = (y[:, mine] / y[:, mine].norm(dim=1, keepdim=True) for y in (q, k))
        expected = ((a * sigma[keep]) @ b.T / 2).softmax(1)
        torch.testing.assert_close(small.attention(x[None])[0, head], expected)


@pytest.mark.parametrize("per_head", [False, True])
def test_macs_are_what_is_executed(per_head):
    torch.manual_seed(0)
    model = svda.convert(small_vit(), per_head=per_head)
    for layer in svda.layers(model).values():
        lively(layer)
    pruned = prune(model, 0.8, tokens=17)
    assert (pruned.table["macs_pruned"] < pruned.table["macs"]).all() and (pruned.table["retained"] >= 0.8).all()
    x = torch.randn(1, 17, 16)
    for module, column in ((model, "macs"), (pruned.model, "macs_pruned")):
        for (path, layer), macs in zip(svda.layers(module).items(), pruned.table[column], strict=True):
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                layer(x)
            assert counter.get_total_flops() // 2 + 17 * 2 * max(layer.directions) == macs, path
    assert pruned.model(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    with pytest.raises(SpikeattnError, match="tokens=0"):
        prune(model, 0.5, tokens=0)
