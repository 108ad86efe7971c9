"""A linear layer with its GELU as one kernel: the numbers of the two."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from spikeattn.attention import linear_gelu


def test_the_fused_layer_gives_what_the_two_give():
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3).eval()
    images, fused = torch.randn(3, 3, 32, 32), copy.deepcopy(model)
    assert linear_gelu.fuse(fused) == 2
    with torch.inference_mode():
        torch.testing.assert_close(fused(images), model(images))
    assert linear_gelu.fuse(timm.create_model("vit_tiny_patch16_224", depth=1, act_layer="relu")) == 0
