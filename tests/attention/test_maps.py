"""Attention maps against tensors read off by hand, for every family of models; the models stay as they were."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from tests.attention import cases
from tests.attention.cases import outputs_of


@pytest.fixture(scope="module")
def digits():
    return cases.digits(3)


@pytest.fixture(scope="module")
def vit():
    return cases.vit(depth=3)


@pytest.fixture(scope="module")
def spikformer():
    return cases.spikformer()


def test_spike_driven_maps_are_the_rates_of_their_tensors(digits):
    model, images = digits
    q, out, kv = outputs_of(model, images, *(f"block.1.attn.{name}" for name in ("q_lif", "sdsa_out", "kv_mask")))
    for kind, spikes in (("V_S", q), ("Vhat_S", out), ("drive", kv)):
        found = sa.attention_map(model, images, kind)
        torch.testing.assert_close(found.values, spikes.mean((0, 2)))
        assert found.unit == 1 / (4 * 64) and found.axes == ("image", "row", "column") and found.layer == 1
        counts = found.values / found.unit
        torch.testing.assert_close(counts, counts.round())
    gate = sa.attention_map(model, images, "gate").values
    entered = q.sum((0, 2))
    torch.testing.assert_close(gate, torch.where(entered > 0, out.sum((0, 2)) / entered.clamp(min=1), 0.0))
    assert sa.attention_map(model, images).kind == "Vhat_S"


def test_heads_steps_and_layers_are_axes_that_average_to_the_map(digits):
    model, images = digits
    whole = sa.attention_map(model, images, layer="all", heads="each", steps="each")
    assert whole.axes == ("image", "layer", "step", "head", "row", "column")
    assert whole.values.shape == (3, 2, 4, 8, 8, 8)
    torch.testing.assert_close(whole.values.mean((2, 3))[:, 0], sa.attention_map(model, images, layer=0).values)
    assert whole.to_image().shape == (3, 2, 4, 8, 16, 16)
    assert sa.attention_map(model, images).to_image((32, 24), "bilinear").shape == (3, 32, 24)


def test_gradient_weights_follow_the_class(digits):
    model, images = digits
    own = sa.attention_map(model, images, weight="gradient")
    assert own.values.shape == (3, 8, 8) and (own.values >= 0).all() and own.values.any() and own.unit is None
    other = sa.attention_map(model, images, weight="gradient", target=torch.tensor([0, 1, 2]))
    assert not torch.equal(own.values, other.values)
    one = sa.attention_map(model, images[:1], weight="gradient").values
    torch.testing.assert_close(one, own.values[:1], atol=1e-5, rtol=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_event_frames_and_erode():
    torch.manual_seed(2)
    model = SpikeDrivenTransformer(
        img_size=32, in_chans=2, num_classes=3, embed_dim=32, depth=1, num_heads=4, time_steps=3, dvs=True
    ).eval()
    frames = torch.poisson(torch.rand(2, 3, 2, 32, 32))
    calibrate_batch_norm(model, frames)
    (pooled,) = outputs_of(model, frames, "block.0.attn.kv_pool")
    torch.testing.assert_close(sa.attention_map(model, frames, "drive").values, pooled.mean((0, 2)))


def test_class_token_row_of_a_vit(vit):
    model, images = vit
    (qkv,) = outputs_of(model, images, "blocks.1.attn.qkv")
    q, k, _ = qkv.unflatten(-1, (3, 3, 64)).permute(2, 0, 3, 1, 4)
    maps = (q @ k.mT / 8).softmax(-1)  # [B, heads, 13, 13]
    expected = maps[:, :, 0, 1:].reshape(2, 3, 4, 3)
    torch.testing.assert_close(sa.attention_map(model, images, layer=1, heads="each").values, expected)
    received = sa.attention_map(model, images, "received", layer=-2).values
    torch.testing.assert_close(received, maps.mean(1)[:, 1:, 1:].mean(1).reshape(2, 4, 3))
    assert sa.attention_map(model, images, weight="gradient").values.any()


def test_rollout_multiplies_layers(vit):
    model, images = vit
    flow = torch.eye(13)
    for layer in range(3):
        (qkv,) = outputs_of(model, images, f"blocks.{layer}.attn.qkv")
        q, k, _ = qkv.unflatten(-1, (3, 3, 64)).permute(2, 0, 3, 1, 4)
        flow = ((q @ k.mT / 8).softmax(-1).mean(1) + torch.eye(13)) / 2 @ flow
    torch.testing.assert_close(sa.attention_map(model, images, "rollout").values, flow[:, 0, 1:].reshape(2, 4, 3))


def test_registers_without_class_token_and_dynamic_size():
    torch.manual_seed(3)
    options = {"img_size": 64, "num_classes": 5, "depth": 2, "embed_dim": 64, "num_heads": 2}
    model = timm.create_model("vit_medium_patch16_reg4_gap_256", dynamic_img_size=True, **options).eval()
    images = torch.rand(1, 3, 96, 64)
    found = sa.attention_map(model, images)
    assert found.kind == "received" and found.values.shape == (1, 6, 4)
    assert sa.attention_map(model, images, "rollout").values.shape == (1, 6, 4)
    with pytest.raises(SpikeattnError, match="attention map of VisionTransformer 'cls'"):
        sa.attention_map(model, images, "cls")


FAMILIES = {
    "class token": ("vit_tiny_patch16_224", {"img_size": (64, 32)}, (4, 2), "cls"),
    "register tokens": ("vit_small_patch14_reg4_dinov2", {"img_size": 56}, (4, 4), "cls"),
    "average pooling": ("vit_tiny_patch16_224", {"img_size": (32, 48), "class_token": False, "global_pool": "avg"},
                        (2, 3), "received"),
    "attention pooling": ("vit_base_patch16_siglip_224", {"img_size": 32}, (2, 2), "received"),
    "distilled": ("deit_tiny_distilled_patch16_224", {"img_size": 32}, (2, 2), "cls"),
    "normalised queries": ("vit_tiny_patch16_224", {"img_size": 32, "qk_norm": True}, (2, 2), "cls"),
    "any size": ("vit_tiny_patch16_224", {"dynamic_img_size": True}, (3, 2), "cls"),
    "relative positions": ("beit_base_patch16_224", {"img_size": 48}, (3, 3), "cls"),
    "rotary positions": ("eva02_tiny_patch14_224", {"img_size": 56}, (4, 4), "cls"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layer", [-1, 0])
def test_maps_of_timm_models_are_the_softmax_of_their_unfused_attention(name, layer):
    architecture, options, grid, kind = FAMILIES[name]
    torch.manual_seed(5)
    model = timm.create_model(architecture, num_classes=2, depth=2, **options).eval()
    patch, prefix = model.patch_embed.patch_size[0], model.num_prefix_tokens
    images = torch.randn(2, 3, grid[0] * patch, grid[1] * patch)
    found = sa.attention_map(model, images, layer=layer)
    attention = model.blocks[layer].attn
    attention.fused_attn = False
    maps = outputs_of(model, images, f"blocks.{layer % 2}.attn.attn_drop")[0]
    attention.fused_attn = True
    expected = maps[:, :, 0, prefix:] if kind == "cls" else maps[:, :, prefix:, prefix:].mean(2)
    assert found.kind == kind
    torch.testing.assert_close(found.values, expected.mean(1).reshape(2, *grid))
    whole = sa.attention_map(model, images, layer="all", heads="each").values
    torch.testing.assert_close(whole[:, layer].flatten(2), expected)


class Dino(nn.Module):
    """A vision transformer in the manner of DINO's code: no `num_prefix_tokens`, no fused attention."""

    def __init__(self):
        super().__init__()
        self.patch_embed = DinoEmbedding()
        self.cls_token = nn.Parameter(torch.randn(1, 1, 16))
        self.blocks = nn.ModuleList([DinoBlock()])

    def forward(self, x):
        x = self.patch_embed(x)
        return self.blocks[0](torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1))[:, 0]


class DinoEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_size, self.proj = 8, nn.Conv2d(3, 16, 8, 8)

    def forward(self, x):
        return self.proj(x).flatten(2).mT


class DinoBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = DinoAttention()

    def forward(self, x):
        return x + self.attn(x)


class DinoAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads, self.qkv, self.attn_drop = 2, nn.Linear(16, 48), nn.Dropout(0.0)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        return (self.attn_drop((q @ k.mT * 8**-0.5).softmax(-1)) @ v).transpose(1, 2).flatten(2)


def test_a_model_in_the_manner_of_dino():
    torch.manual_seed(6)
    model, images = Dino().eval(), torch.randn(2, 3, 24, 40)
    found = sa.attention_map(model, images, heads="each")
    (maps,) = outputs_of(model, images, "blocks.0.attn.attn_drop")
    assert found.kind == "cls" and found.values.shape == (2, 2, 3, 5)
    torch.testing.assert_close(found.values.flatten(2), maps[:, :, 0, 1:])


def test_a_network_without_attention_is_told():
    with pytest.raises(SpikeattnError, match="ResNet has no attention") as error:
        sa.attention_map(timm.create_model("resnet18", num_classes=2).eval(), torch.randn(1, 3, 32, 32))
    assert "statistic=" in str(error.value)
    with pytest.raises(SpikeattnError, match="no N x N map"):
        sa.attention_map(timm.create_model("resnet18", num_classes=2).eval(), torch.randn(1, 3, 32, 32), "received")


def test_spikformer_coincidences(spikformer):
    model, images = spikformer
    qkv, out = outputs_of(model, images, "blocks.1.attn.qkv_lif", "blocks.1.attn.attn_lif")
    q, k, _ = qkv.unflatten(2, (3, 4, 8)).unbind(2)  # [T, B, heads, d, N]
    maps = q.mT @ k  # [T, B, heads, N queries, N keys]
    expected = maps.mean((0, 2, 3)).reshape(3, 8, 4) / 8
    found = sa.attention_map(model, images)
    torch.testing.assert_close(found.values, expected)
    assert found.kind == "ssa" and expected.any()
    torch.testing.assert_close(sa.attention_map(model, images, "rate").values, out.mean((0, 2, 3)).reshape(3, 8, 4))
    frames = images[:, None].expand(-1, 2, -1, -1, -1)
    torch.testing.assert_close(sa.attention_map(model, frames).values, expected)


def test_twin_and_svda():
    from spikeattn.models.variants import svda

    model = sa.twin_of(sa.create_model("sdt_digits"))
    found = sa.attention_map(model, torch.rand(2, 1, 16, 16)).values
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(2))
    vit = svda.convert(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1))
    row = sa.attention_map(vit, torch.rand(2, 3, 32, 32)).values
    assert row.shape == (2, 2, 2) and (row > 0).all() and (row.sum((1, 2)) < 1).all()


@pytest.mark.parametrize("name", ["digits", "vit", "spikformer"])
def test_the_model_stays_as_it_was(name, request):
    model, images = request.getfixturevalue(name)
    model.train()
    fused = [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    sa.attention_map(model, images)
    with pytest.raises((SpikeattnError, RuntimeError, AssertionError, ValueError)):
        sa.attention_map(model, torch.rand(1, 7, *images.shape[-2:]))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert fused == [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    model.eval()
    assert torch.equal(sa.attention_map(model, images).values, sa.attention_map(model, images).values)


def test_bad_input(digits, vit):
    model, images = digits
    for options, message in (
        ({"kind": "V_s"}, "did you mean 'V_S'"),
        ({"layer": 2}, "blocks 0 to 1"),
        ({"layer": "last"}, "blocks 0 to 1"),
        ({"heads": "all"}, "unknown heads"),
        ({"kind": "gate", "weight": "gradient"}, "not defined"),
        ({"weight": "gradient", "target": torch.tensor([1])}, "one class from 0 to 9"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            sa.attention_map(model, images, **options)
    with pytest.raises(SpikeattnError, match=r"images\[None\]"):
        sa.attention_map(model, images[0])
    with pytest.raises(SpikeattnError, match="NaN"):
        sa.attention_map(model, torch.full_like(images, torch.nan))
    with pytest.raises(SpikeattnError, match="no time steps"):
        sa.attention_map(*vit, steps="each")
    with pytest.raises(SpikeattnError, match="mean over heads"):
        sa.attention_map(*vit, "rollout", heads="each")
    with pytest.raises(SpikeattnError, match="64x48"):
        sa.attention_map(vit[0], torch.rand(1, 3, 8, 8))
    dynamic = timm.create_model("vit_tiny_patch16_224", depth=1, dynamic_img_size=True)
    with pytest.raises(SpikeattnError, match="smaller than a patch"):
        sa.attention_map(dynamic, torch.rand(1, 3, 8, 8))
    with pytest.raises(SpikeattnError, match="no model whose attention is known"):
        sa.attention_map(torch.nn.Linear(2, 2), torch.rand(1, 3, 8, 8))
    broken = sa.create_model("sdt_digits", pretrained=True)
    twin = sa.twin_of(broken)
    torch.nn.init.constant_(twin.block[1].attn.q_bn.weight, torch.nan)
    with pytest.raises(SpikeattnError, match="NaN"):
        sa.attention_map(twin, images)
