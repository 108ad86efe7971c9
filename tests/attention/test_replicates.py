"""Replicates in batches: even parts, one probe a shape, copies in another type that follow their model, exact sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
from torch import nn

import spikeattn as sa
from spikeattn.attention import replicates as engine

CPU = torch.device("cpu")


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5, depth=2, embed_dim=96).eval()


def passes_of(model: nn.Module, work: Callable[[], object]) -> list[int]:
    """Sizes of the batches that a model sees while `work` runs, in it and in its copies."""
    sizes: list[int] = []
    handle = model.patch_embed.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    work()
    handle.remove()
    return sizes


@pytest.mark.parametrize(("length", "most"), [(101, 32), (101, 101), (7, 1), (9, 4), (1, 8)])
def test_parts_are_few_and_even(length: int, most: int) -> None:
    pairs = [(0, number) for number in range(length)]
    parts = list(engine.evenly(pairs, most))
    sizes = [len(part) for part in parts]
    assert sum(parts, []) == pairs
    assert len(parts) == -(-length // most) and max(sizes) <= most and max(sizes) - min(sizes) <= 1


def test_two_bytes_a_value_let_four_times_the_images_into_a_batch() -> None:
    widest = 197 * (384 + 1536)  # values between the two linear layers of a ViT-S/16
    assert engine.batch_size(4 * widest, 1.0, CPU, 4) == 8
    assert engine.batch_size(2 * widest, 1.0, CPU, 2) == 32
    assert engine.batch_size(2 * widest, 1e-6, CPU, 2) == 1


def test_the_image_goes_along_with_its_replicates_and_is_probed_once(vit) -> None:
    images = torch.rand(1, 3, 32, 32)
    assert passes_of(vit, lambda: sa.attend(vit, images, replicates=6)) == [1, 7]
    assert passes_of(vit, lambda: sa.attend(vit, images, replicates=6, seed=1)) == [7]
    assert passes_of(vit, lambda: sa.attend(vit, images, "patch", replicates=6, dtype=torch.bfloat16)) == [1, 7]
    assert passes_of(vit, lambda: sa.attend(vit, images, "patch", replicates=6, dtype=torch.bfloat16)) == [7]
    assert passes_of(vit, lambda: sa.attend(vit, images, replicates=6, statistic="rollout")) == [1, 7]


def test_a_result_does_not_depend_on_what_was_asked_before(vit) -> None:
    images = torch.rand(2, 3, 32, 32)
    first, second = (sa.attend(vit, images, replicates=9) for _ in range(2))
    np.testing.assert_array_equal(first.maps, second.maps)
    np.testing.assert_array_equal(first.null_maps, second.null_maps)


def test_a_lowered_model_follows_the_weights_even_those_changed_behind_autograd(vit) -> None:
    images = torch.rand(1, 3, 32, 32)
    before = sa.attend(vit, images, replicates=2, dtype=torch.bfloat16).maps
    vit.blocks[-1].attn.qkv.weight.data.zero_()  # leaves no trace in the version of the parameter
    vit.blocks[-1].attn.qkv.bias.data.zero_()
    after = sa.attend(vit, images, replicates=2, dtype=torch.bfloat16).maps
    assert before.std() > 0
    np.testing.assert_allclose(after, 1 / 5, rtol=1e-2)  # a class token and 4 patches, one weight for all


def test_a_lowered_model_is_a_copy_with_its_gradients_and_shared_weights(vit) -> None:
    vit.head.weight.requires_grad_(False)
    vit.blocks[1].norm1.weight = vit.blocks[0].norm1.weight
    low = engine.lower(vit, torch.float16, CPU)
    own = {p.data_ptr() for p in vit.parameters()}
    for name, p in low.named_parameters():
        assert p.dtype == torch.float16 and p.data_ptr() not in own, name
        assert torch.equal(p, vit.get_parameter(name).half()), name
        assert p.requires_grad == vit.get_parameter(name).requires_grad, name
    assert low.blocks[1].norm1.weight is low.blocks[0].norm1.weight
    same = engine.lower(vit, torch.float32, CPU)
    assert own.isdisjoint(p.data_ptr() for p in same.parameters())


@pytest.mark.parametrize("null", ["normal", "pixel", "uniform", "patch"])
def test_exact_sums_are_the_same_bits_in_any_batch(null: str) -> None:
    def rounded(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        return model((images * 64).round()).abs().sum(1)

    images = torch.rand(3, 2, 16, 16)
    pool = nn.AvgPool2d(4, divisor_override=1)
    options = {"statistic": rounded, "replicates": 11, "patch": (4, 4)}
    whole = sa.attend(pool, images, null, **options)
    for memory in (1e-9, 4e-6, 2e-5):
        parts = sa.attend(pool, images, null, **options, memory=memory)
        np.testing.assert_array_equal(whole.maps, parts.maps)
        np.testing.assert_array_equal(whole.null_maps, parts.null_maps)
        np.testing.assert_array_equal(whole.p, parts.p)
    np.testing.assert_array_equal(whole.maps, rounded(pool, images))


def test_scores_fetched_in_several_pieces_are_the_same(vit, monkeypatch) -> None:
    images = torch.rand(2, 3, 32, 32)
    whole = sa.attend(vit, images, replicates=7, memory=1e-3)
    monkeypatch.setattr(engine, "WAITING", 40)
    parts = sa.attend(vit, images, replicates=7, memory=1e-3)
    np.testing.assert_array_equal(whole.null_maps, parts.null_maps)
    np.testing.assert_array_equal(whole.maps, parts.maps)
