"""Counting and pricing on whichever SpikingJelly is installed, or on none: against brute force and known totals."""

from __future__ import annotations

import hashlib

import pytest
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.storage.counts import Counts
from tests.any_spikingjelly import layer, neuron
from tests.counting.brute_force import amounts, assert_exact, exact, pictures

# Of sdt_digits on its 360 test images under SpikingJelly 2.0.0, torch 2.11, numpy 2.4 (spikeattn 0.1.0). Its weights
# and sums are what they are in every version: neither SOPs nor a single count may move.
SOPS, COUNTS = 1_643_622_252, "972881d36f63"


class Small(nn.Module):
    """Images [B, 1, 6, 6] over three steps: a convolution of the image, one of spikes, a classifier."""

    def __init__(self, node: str) -> None:
        super().__init__()
        make = getattr(neuron, node)
        self.stem = nn.Sequential(layer.Conv2d(1, 4, 3, padding=1, step_mode="m"), make(step_mode="m"))
        self.middle = nn.Sequential(layer.Conv2d(4, 4, 3, padding=1, stride=2, step_mode="m"), make(step_mode="m"))
        self.head = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.stem(x.expand(3, *x.shape))).flatten(2)).mean(0)


class Attending(nn.Module):
    """Tokens [B, 5, 8] over two steps: k^T v of spikes, q times it, as spiking transformers without softmax have it."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.q_if, self.k_if, self.v_if, self.out_if = (neuron.IFNode(step_mode="m") for _ in range(4))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(2, *x.shape)
        q, k, v = self.q_if(self.q(x)), self.k_if(self.k(x)), self.v_if(self.v(x))
        return self.head(self.out_if(q @ (k.transpose(-2, -1) @ v) * 0.25).mean(2)).mean(0)


@pytest.mark.parametrize("node", ["IFNode", "LIFNode"])
def test_a_small_network_equals_brute_force(node):
    assert_exact(exact(Small(node)), pictures(3, 1, 6, 6), macs_once=2 * 36 * 4 * 9)


def test_attention_equals_brute_force():
    assert_exact(exact(Attending()), pictures(3, 5, 8), macs_once=3 * 5 * 8 * 8)


def test_a_profile_leaves_the_network_as_it_was():
    model, images = exact(Small("LIFNode")), pictures(2, 1, 6, 6)
    first, again = (numbers(sa.profile(model, [images]).counts) for _ in range(2))
    assert first == again


def test_the_demo_counts_what_it_counts_everywhere():
    model = sa.create_model("sdt_digits", pretrained=True)
    profile = sa.profile(model, sa.make_loader(sa.open_dataset("digits", model), batch_size=120))
    assert sum(amounts(profile)["sop"]) == SOPS
    assert hashlib.sha256(numbers(profile.counts)).hexdigest().startswith(COUNTS)


def numbers(counts: Counts) -> bytes:
    """Every whole number of the table: the bytes of a parquet file depend on who wrote it."""
    whole = sorted((measure, name) for measure, name in counts.keys if not measure.endswith("abs"))
    return b"".join(counts.column(*key).astype("<f8").tobytes() for key in whole)
