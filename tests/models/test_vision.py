"""The shipped ViT: its entry point, its card, and that its weights classify as the card says."""

from __future__ import annotations

import json

import pytest
import timm
import torch

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.models.checkpoints import load_checkpoint, shipped_weights
from spikeattn.models.vision import vit_digits


def test_the_weights_do_what_their_card_says():
    model = timm.create_model("vit_digits", pretrained=True)
    card = model.provenance["card"]
    test = sa.open_dataset("digits", model)
    with torch.no_grad():
        right = (model(test.images).argmax(1) == test.labels).sum().item()
    assert not model.training and model.provenance["trained"]
    assert right == int(card["test_correct"]) and len(test) == int(card["test_images"]) and right / len(test) >= 0.96
    assert json.loads(card["architecture"]) == model.provenance["config"]
    assert shipped_weights("vit_digits").stat().st_size < 1_000_000
    assert load_checkpoint(shipped_weights("vit_digits")).sha256 == model.provenance["sha256"]


def test_it_has_the_tokens_of_the_spiking_demo_model_and_a_class_token():
    model = vit_digits()
    images = torch.rand(2, 1, 16, 16)
    assert sa.attention_map(model, images).values.shape == (2, 8, 8)
    assert sa.attention_map(sa.create_model("sdt_digits"), images).values.shape == (2, 8, 8)
    assert sa.attention_map(model, images).kind == "cls" and not model.provenance["trained"]


def test_arguments_are_those_of_timm_and_other_shapes_refuse_the_weights():
    assert vit_digits(depth=1, num_classes=3)(torch.rand(1, 1, 16, 16)).shape == (1, 3)
    assert "vit_digits" in timm.list_models(pretrained=False)
    with pytest.raises(SpikeattnError, match="missing|unexpected|outputs|classes"):
        vit_digits(pretrained=True, depth=1)
