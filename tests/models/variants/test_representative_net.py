"""BR-NPA in timm's networks: what stands between pooling and classifier stays, and what cannot be kept is refused."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.models.variants import br_npa
from spikeattn.models.variants.feature_layout import FeatureLayout, layout_of

SWIN = {"img_size": 64, "window_size": 2, "embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {  # name, arguments, features of a 64x64 image
    "nothing behind the pool": ("resnet10t", {}, (512, 2, 2)),
    "average and maximum": ("resnet10t", {"global_pool": "catavgmax"}, (512, 2, 2)),
    "norm behind the pool": ("test_convnext", {}, (64, 2, 2)),
    "convolution behind the pool": ("mobilenetv3_small_050", {}, (288, 2, 2)),
    "byobnet": ("test_byobnet", {}, (256, 2, 2)),
    "convolution before the pool": ("test_efficientnet", {}, (256, 2, 2)),
    "regnet": ("regnetx_002", {}, (368, 2, 2)),
    "channels last": ("swin_tiny_patch4_window7_224", SWIN, (2, 2, 128)),
    "tokens in a row": ("test_vit", {"global_pool": "avg", "img_size": 64}, (17, 64)),
}


def network(kind: str) -> tuple[nn.Module, Tensor]:
    """A network with random norms, in eval mode, and images."""
    name, kwargs, _ = NETWORKS[kind]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **kwargs).eval()
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)) and module.bias is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model, torch.rand(2, 3, 64, 64)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("maps", [1, 3])
def test_of_tokens_that_are_all_alike_the_answer_is_the_networks_own(kind, maps, monkeypatch):
    model, images = network(kind)
    attached = br_npa.attach(model, maps=maps, input_size=(3, 64, 64))
    features = torch.rand(2, *NETWORKS[kind][2])
    assert model.forward_features(images).shape == features.shape
    if features.ndim == 3:
        features[:, 1:] = features[:, 1:2]  # behind the class token
    elif kind == "channels last":
        features[:] = features[:, :1, :1]
    else:
        features[:] = features[:, :, :1, :1]
    monkeypatch.setattr(attached.body, "forward_features", lambda x: features)
    with torch.no_grad():
        expected = model.forward_head(features)
        torch.testing.assert_close(attached(images), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(br_npa.explain(attached, images).logits, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)


@pytest.mark.parametrize("kind", ["nothing behind the pool", "norm behind the pool", "convolution behind the pool"])
def test_an_image_of_one_token_is_answered_as_before(kind):
    model, _ = network(kind)
    images = torch.rand(2, 3, 32, 32)
    assert model.forward_features(images).shape[-2:] == (1, 1)
    with torch.no_grad():
        torch.testing.assert_close(br_npa.attach(model)(images), model(images), atol=1e-5, rtol=1e-4)


def test_the_network_stays_as_it_was_and_the_copy_trains():
    model, images = network("norm behind the pool")
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    attached = br_npa.attach(model, dropout=0.1)
    assert attached.training and all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(key.startswith("body.head.fc") for key in attached.state_dict())
    attached(images).sum().backward()
    assert attached.body.head.norm.weight.grad.abs().sum() > 0  # what stands between learns too
    assert br_npa.attach(timm.create_model("resnet10t", num_classes=2, in_chans=1)).body.conv1[0].in_channels == 1


def test_networks_without_a_pooling_over_tokens_are_refused():
    with pytest.raises(SpikeattnError, match="class token alone.*global_pool"):
        br_npa.attach(timm.create_model("test_vit", num_classes=7))
    with pytest.raises(SpikeattnError, match="several layers: Linear, Linear"):
        br_npa.attach(timm.create_model("deit_tiny_distilled_patch16_224", depth=1))
    with pytest.raises(SpikeattnError, match="num_classes=0"):
        br_npa.attach(timm.create_model("resnet10t", num_classes=0))
    with pytest.raises(SpikeattnError, match=r"does not take images \(3, 50, 50\).*input_size"):
        br_npa.attach(timm.create_model("test_vit", global_pool="avg"), input_size=(3, 50, 50))
    with pytest.raises(SpikeattnError, match="20 tokens, and the network had 1 \\+ 4 x 4"):
        FeatureLayout("NLC", (4, 4), 1).as_map(torch.rand(1, 20, 8))


def test_a_head_that_does_more_than_pool_is_refused(monkeypatch):
    model, _ = network("nothing behind the pool")
    size = (3, 64, 64)
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda x: forward(x) * 2)
    with pytest.raises(SpikeattnError, match="does more than forward_head"):
        br_npa.attach(model, input_size=size)
    monkeypatch.setattr(model, "forward", forward)
    # The sum over tokens in place of their mean: one token is not as good as four.
    monkeypatch.setattr(type(model), "forward_head", lambda self, x: self.fc(x.sum((2, 3))))
    with pytest.raises(SpikeattnError, match="tokens are all alike ResNet makes"):
        br_npa.attach(model, input_size=size)
    monkeypatch.setattr(type(model), "forward_head", lambda self, x: self.fc(x[:, :, 1, 1]))
    with pytest.raises(SpikeattnError, match="does not take a single token"):
        br_npa.attach(model, input_size=size)


def test_layouts_come_from_shapes_and_doubt_is_an_error():
    body = nn.Module()
    body.num_features = 8
    assert layout_of(body, torch.rand(1, 8, 3, 4)) == FeatureLayout("NCHW")
    assert layout_of(body, torch.rand(1, 3, 4, 8)) == FeatureLayout("NHWC")
    for shape, message in (
        ((1, 8, 3, 8), "beyond doubt"),
        ((1, 9, 3, 4), "beyond doubt"),
        ((1, 16, 8), "how they lie"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            layout_of(body, torch.rand(shape))
    maps = torch.rand(2, 8, 3, 4)
    for layout in (FeatureLayout("NCHW"), FeatureLayout("NHWC"), FeatureLayout("NLC", (3, 4), 2)):
        assert torch.equal(layout.as_map(layout.as_features(maps)), maps)
