"""N x N attention of networks that nothing is known of beforehand, against what their layers are seen to apply."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from tests.attention.cases import outputs_of


def unfused(model):
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


def model_of(name, **options):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=2, **options).eval()


CLASS_ROWS = {
    "class attention of CaiT": ("cait_xxs24_224", {"img_size": 32, "depth": 2}, "blocks_token_only.1.attn", 1),
    "gated positions of ConViT": ("convit_tiny", {"img_size": 32, "depth": 12}, "blocks.11.attn", 1),
    "two class tokens": ("deit_tiny_distilled_patch16_224", {"img_size": 32, "depth": 2}, "blocks.1.attn", 2),
    "relative positions": ("beit_base_patch16_224", {"img_size": 32, "depth": 2}, "blocks.1.attn", 1),
    "rotary positions": ("eva02_tiny_patch14_224", {"img_size": 28, "depth": 2}, "blocks.1.attn", 1),
    "class attention of XCiT": ("xcit_nano_12_p16_224", {"depth": 1}, "cls_attn_blocks.1.attn", 1),
}


@pytest.mark.parametrize("name", CLASS_ROWS)
def test_class_rows_are_what_the_layer_applies(name):
    architecture, options, path, classes = CLASS_ROWS[name]
    model = model_of(architecture, **options)
    size = options.get("img_size", 32)
    images = torch.randn(2, 3, size, size)
    found = sa.attention_map(model, images, "cls", heads="each")
    (maps,) = outputs_of(unfused(model), images, f"{path}.attn_drop")
    torch.testing.assert_close(found.values.flatten(2), maps[:, :, 0, classes:], atol=1e-6, rtol=1e-4)
    mean = sa.attention_map(model, images)
    assert mean.kind == "cls"
    torch.testing.assert_close(mean.values, found.values.mean(1))


def test_the_difference_of_two_softmaxes_is_what_is_applied():
    model = model_of("vit_dlittle_patch16_reg1_gap_256", img_size=32, depth=2)
    images = torch.randn(1, 3, 32, 32)
    found = sa.attention_map(model, images)
    (maps,) = outputs_of(unfused(model), images, "blocks.1.attn.attn_drop")
    one, two = maps.unflatten(1, (-1, 2)).unbind(2)
    maps = (one - model.blocks[1].attn._compute_lambda() * two).detach()
    assert found.kind == "received"
    torch.testing.assert_close(found.values.flatten(1), maps[:, :, 1:, 1:].mean((1, 2)), atol=1e-6, rtol=1e-4)
    with pytest.raises(SpikeattnError, match="gradient"):  # its dropout hands out both, before they are subtracted
        sa.attention_map(model, images, weight="gradient")
    with pytest.raises(SpikeattnError, match="which of its tokens is the class token"):
        sa.attention_map(model, images, "cls")


def test_matrices_that_meet_v_one_by_one_are_no_map():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.parts, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 40), nn.Linear(8, 2)

        def forward(self, x):
            q1, k1, q2, k2, v = self.parts(self.stem(x).flatten(2).mT).chunk(5, -1)
            x = (q1 @ k1.mT).softmax(-1) @ v - (q2 @ k2.mT).softmax(-1) @ v
            return self.head(x.mean(1))

    with pytest.raises(SpikeattnError, match="2 matrices to one v"):
        sa.attention_map(Twice(), torch.randn(1, 3, 16, 16), "received")


def test_an_adapter_is_in_the_map():
    class Adapter(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.more = base, nn.Linear(base.in_features, base.out_features)
            self.weight, self.bias = base.weight, base.bias

        def forward(self, x):
            return self.base(x) + self.more(x)

    model = model_of("vit_tiny_patch16_224", img_size=32, depth=2)
    images = torch.randn(2, 3, 32, 32)
    before = sa.attention_map(model, images).values
    for block in model.blocks:
        block.attn.qkv = Adapter(block.attn.qkv)
    for layer in (-1, 0):
        found = sa.attention_map(model, images, layer=layer)
        (maps,) = outputs_of(unfused(model), images, f"blocks.{layer % 2}.attn.attn_drop")
        torch.testing.assert_close(found.values.flatten(1), maps[:, :, 0, 1:].mean(1), atol=1e-6, rtol=1e-4)
    assert not torch.allclose(before, found.values)
    assert sa.attention_map(model, images, "cls", weight="gradient").values.any()


def test_shifted_windows_are_put_back():
    """What a key receives, summed over a window, is 1: after the shift is undone, windows lie where they were cut."""
    model = model_of("swin_tiny_patch4_window7_224", img_size=56, window_size=7)
    images = torch.randn(1, 3, 56, 56)
    found = sa.attention_map(model, images, layer=0)
    assert found.values.shape == (1, 14, 14) and found.kind == "received"
    sums = found.values.unfold(1, 7, 7).unfold(2, 7, 7).sum((3, 4))
    torch.testing.assert_close(sums, torch.ones(1, 2, 2))
    seen = []
    handle = unfused(model).layers[0].blocks[1].attn.softmax.register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.no_grad():
        model(images)
    handle.remove()
    maps = seen[0]
    received = maps.mean((1, 2)).reshape(2, 2, 7, 7).permute(0, 2, 1, 3).reshape(14, 14)
    shifted = sa.attention_map(model, images, layer=1).values[0]
    torch.testing.assert_close(shifted, received.roll((3, 3), (0, 1)), atol=1e-6, rtol=1e-4)
    with pytest.raises(SpikeattnError, match="rollout"):
        sa.attention_map(model, images, "rollout")
    with pytest.raises(SpikeattnError, match="different token grids"):
        sa.attention_map(model, images, layer="all")


def test_torch_s_own_attention_and_rollout():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.cls = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 16))
            self.layers = nn.ModuleList([nn.MultiheadAttention(16, 2, batch_first=first) for first in (True, False)])
            self.head = nn.Linear(16, 2)

        def forward(self, x):
            x = self.stem(x).flatten(2).mT
            x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
            x = x + self.layers[0](x, x, x, need_weights=False)[0]
            y = x.transpose(0, 1)
            return self.head((y + self.layers[1](y, y, y, need_weights=False)[0])[0])

    torch.manual_seed(0)
    model, images = Net().eval(), torch.randn(3, 3, 16, 24)
    x = model.stem(images).flatten(2).mT
    x = torch.cat([model.cls.expand(3, -1, -1), x], 1)
    y, first = model.layers[0](x, x, x)
    z = (x + y).transpose(0, 1)
    second = model.layers[1](z, z, z)[1]
    found = sa.attention_map(model, images, layer="all")
    assert found.kind == "cls" and found.values.shape == (3, 2, 2, 3)
    torch.testing.assert_close(found.values.flatten(2), torch.stack([first, second], 1)[:, :, 0, 1:].detach())
    eye = torch.eye(7)
    rolled = ((second + eye) / 2) @ ((first + eye) / 2)
    torch.testing.assert_close(sa.attention_map(model, images, "rollout").values.flatten(1), rolled[:, 0, 1:].detach())
    assert sa.attend(model, images[:1], "pixel", 3).maps.shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("cait_xxs24_224", {"img_size": 32, "depth": 2}, "rollout", "not over all tokens"),
        ("xcit_nano_12_p16_224", {"depth": 1}, "received", "channels with channels|class tokens alone"),
    ],
)
def test_maps_that_a_network_does_not_have_say_why(name, options, kind, message):
    with pytest.raises(SpikeattnError, match=message):
        sa.attention_map(model_of(name, **options), torch.randn(2, 3, 32, 32), kind)


def test_reduced_keys_and_their_pixels():
    model = model_of("pvt_v2_b0")
    found = sa.attention_map(model, torch.randn(1, 3, 64, 64), layer=0)
    assert found.values.shape == (1, 2, 2)  # keys at an eighth of the tokens of stride 4
    assert found.placement.rows.tolist() == [[-1.5, 30.5], [30.5, 62.5]]
    torch.testing.assert_close(found.values.sum(), torch.tensor(1.0))
