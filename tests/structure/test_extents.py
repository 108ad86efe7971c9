"""How large an attention is, and the twin that follows from it, by hand."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.energy.dense_twin import dense_twin
from spikeattn.structure import Extent
from tests.structure import odd_networks as odd

N, D = odd.GRID**2, odd.D
SIZES = {  # queries, keys, windows, channels of q and of v
    "qk first": (N, N, 1, D, D),
    "kv first": (N, N, 1, D, D),
    "masks": (N, N, 1, D, D),
    "only q and k": (N, N, 1, D, D),  # q is summed over the channels of a head before the product
    "fused": (N, N, 1, D, D),
    "sdpa": (N, N, 1, D, D),
    "nn.MultiheadAttention": (N, N, 1, D, D),
    "windows": (4, 4, 4, D, D),
    "reduced": (N, 4, 1, D, D),
    "class token": (N + 1, N + 1, 1, D, D),
    "time loop": (N, N, 1, D, D),
}


@pytest.mark.parametrize("name", SIZES)
def test_extents(name: str) -> None:
    found = sa.structure(odd.NETWORKS[name](), odd.images(name))
    assert found.attention == {0: (Extent(*SIZES[name]),), 1: (Extent(*SIZES[name]),)}


@pytest.mark.parametrize("name", ["qk first", "kv first", "masks", "windows", "reduced", "class token", "time loop"])
def test_the_twin_by_hand(name: str) -> None:
    """Layers once, and W x Nq x Nk x 2 D for each attention, in place of its products of spikes."""
    profile = sa.profile(odd.NETWORKS[name](), [torch.rand(2, 3, 16, 16)])
    tokens = N + (name == "class token")
    stem = 8 * 8 * D * 3 * 9 + N * D * D * 4
    blocks = 2 * tokens * (4 * D * D + 2 * 2 * D * D)
    queries, keys, windows, *_ = SIZES[name]
    attention = 2 * windows * queries * keys * 2 * D
    if name == "reduced":
        blocks = sum(s.dense_macs for s in profile.ledger.synapses if s.block is not None)  # k and v of fewer tokens
    twin = dense_twin(profile.ledger)
    assert twin.macs == stem + blocks + attention + D * 5
    assert twin.layers.groupby("part")["macs"].sum()["attention"] == attention
    assert profile.summary()["ann_macs"] == twin.macs
    again = sa.Profile(profile.ledger.from_json(profile.ledger.to_json()), profile.counts)
    assert dense_twin(again.ledger).macs == twin.macs and again.structure.attention == profile.structure.attention


class RepConv(nn.Module):
    """A stem, then a 1 x 1 convolution before a depthwise one and another beside them, without a neuron between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lif = nn.Conv2d(3, 4, 3, padding=1), neuron.LIFNode(step_mode="m")
        self.a, self.b = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.c, self.out, self.head = nn.Conv2d(4, 8, 1), neuron.LIFNode(step_mode="m"), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.lif(self.stem(x).expand(2, -1, -1, -1, -1) * 4).flatten(0, 1)
        sums = self.b(self.a(spikes)) + self.c(spikes)
        return self.head(self.out(sums.unflatten(0, (2, -1))).mean((3, 4))).mean(0)


def test_layers_without_a_neuron_between_are_said_to_be_unmerged() -> None:
    profile = sa.profile(RepConv(), [torch.rand(2, 3, 8, 8)])
    assert profile.structure.composites == (("a", "b", "c"),)
    inner, all_ = 64 * (4 * 8 + 8 * 9 + 4 * 8), profile.ledger.dense_macs()
    note = next(note for note in profile.energy().notes if note.startswith("unmerged: "))
    assert note.startswith("unmerged: 3 layers in 1 group have") and f"{inner / all_:.0%} of the dense MACs" in note
