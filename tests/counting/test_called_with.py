"""Networks that are called with a dict, a tuple, a list of images or an object of their own, by a `forward=`."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from tests.any_spikingjelly import layer, neuron
from tests.counting.brute_force import amounts, assert_exact, exact, pictures

T = 3
IMAGES = pictures(5, 3, 8, 8)
FIRST = 4 * 8 * 8 * 27  # MACs of the first layer, which the oracle counts once a time step


@dataclass
class Padded:
    """As DETR's NestedTensor: images and which of their pixels are none."""

    tensors: Tensor
    mask: Tensor


class Called(nn.Module):
    """[B, 3, 8, 8], which `take` finds in what the network is called with."""

    def __init__(self, take: Callable[..., Tensor]) -> None:
        super().__init__()
        self.take = take
        self.c1, self.c2 = (layer.Conv2d(n, 4, 3, padding=1, step_mode="m") for n in (3, 4))
        self.l1, self.l2 = (neuron.LIFNode(step_mode="m", v_threshold=0.5) for _ in range(2))
        self.head = nn.Linear(4 * 8 * 8, 5)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        x = self.take(*args, **kwargs)
        return self.head(self.l2(self.c2(self.l1(self.c1(x.expand(T, *x.shape))))).flatten(2)).mean(0)


def ones(x: Tensor) -> Tensor:
    return torch.ones(len(x), 8, 8)


CALLS: dict[str, tuple[Callable[..., Tensor], Callable[[nn.Module, Tensor], Any]]] = {
    "dict": (lambda batch: batch["image"], lambda net, x: net({"image": x})),
    "dict with a mask before": (lambda batch: batch["image"], lambda net, x: net({"mask": ones(x), "image": x})),
    "mapping": (lambda batch: batch["image"], lambda net, x: net(UserDict(image=x))),
    "tuple": (lambda pair: pair[0], lambda net, x: net((x, [(8, 8)] * len(x)))),
    "second argument": (lambda mask, x: x, lambda net, x: net(ones(x), x)),
    "keywords": (lambda pixel_mask, pixel_values: pixel_values, lambda net, x: net(pixel_mask=ones(x), pixel_values=x)),
    "list of images": (lambda images: torch.stack(images), lambda net, x: net(list(x))),
    "list of dicts": (
        lambda batch: torch.stack([each["image"] for each in batch]),
        lambda net, x: net([{"image": image, "height": 8} for image in x]),
    ),
    "object": (lambda padded: padded.tensors, lambda net, x: net(Padded(x, ones(x)))),
}


@pytest.mark.parametrize("name", CALLS)
def test_counts_are_those_of_a_plain_call(name: str) -> None:
    take, call = CALLS[name]
    plain = exact(Called(lambda x: x))
    usual = sa.profile(plain, [IMAGES])
    profile = assert_exact(exact(Called(take)), IMAGES, call, macs_once=(T - 1) * FIRST)
    assert amounts(profile) == amounts(usual) and profile.time_steps == T
    assert (profile.counts.column("nnz", "input") == usual.counts.column("nnz", "input")).all()
    assert profile.ledger.tensor("input").static and not profile.ledger.uncounted
    assert [entry.name for entry in profile.structure.entries["synapses"]] == ["c1", "c2", "head"]
    one = sa.profile(exact(Called(take)), [IMAGES[:1], IMAGES[1:2]], forward=call)
    assert amounts(one)["sop"] == amounts(usual)["sop"][:2]
