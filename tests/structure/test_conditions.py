"""Structure in odd conditions: modes, values, batches, types, wrappers; the layers of torch's own attention."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from tests.structure import odd_networks as odd
from tests.structure.odd_networks import Truth


def entries(found: sa.structure.Structure) -> Truth:
    return {e.name: (e.part, e.block, e.role) for e in found.entries["synapses"]}


class Around(nn.Module):
    def __init__(self, how: Callable[[nn.Module, Tensor], object]) -> None:
        super().__init__()
        self.net, self.how = odd.Net(), how

    def forward(self, x: Tensor) -> object:
        return self.how(self.net, x)


WAYS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "dict": lambda net, x: {"logits": net(x), "more": None},
    "nested": lambda net, x: (None, {"a": [net(x)]}),
    "again": lambda net, x: sum(net(x) for _ in range(3)),
    "unread": lambda net, x: (net(x), net(x))[1],
    "no grad": torch.no_grad()(lambda net, x: net(x)),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_stands_around_a_network(way: str) -> None:
    model = Around(WAYS[way])
    assert entries(sa.structure(model, odd.images(""))) == entries_of("net.")


def entries_of(prefix: str = "") -> Truth:
    return {prefix + name: what for name, what in entries(sa.structure(odd.Net(), odd.images(""))).items()}


def test_modes_types_and_batches() -> None:
    want, x = entries_of(), odd.images("")
    assert entries(sa.structure(odd.Net().train(), x)) == want
    assert entries(sa.structure(odd.Net().double(), x.double())) == want
    assert entries(sa.structure(odd.Net(), torch.cat([x] * 3))) == want
    assert entries(sa.structure(odd.Net(), [(x, torch.zeros(1))])) == want
    assert entries(sa.structure(odd.Net(), x, forward=lambda m, b: [m(b) for _ in range(2)])) == want
    with torch.inference_mode():
        assert entries(sa.structure(odd.Net(), x)) == want


def test_one_time_step() -> None:
    model = odd.Net()
    model.stem = odd.Stem(1)
    assert entries(sa.structure(model, odd.images(""))) == entries_of()


@pytest.mark.parametrize("weights", [False, True])
def test_profile_counts_the_layers_of_multihead_attention(weights: bool) -> None:
    """Its fast path in eval mode is one operation; its two layers share a path."""

    class Own(odd.TorchAttention):
        def forward(self, x: Tensor) -> Tensor:
            s = self.inp(x).flatten(0, 1)
            return self.mha(s, s, s, need_weights=weights)[0].unflatten(0, (2, -1))

    before = torch.backends.mha.get_fastpath_enabled()
    profile = sa.profile(odd.of(Own), [torch.rand(2, 3, 16, 16)])
    assert torch.backends.mha.get_fastpath_enabled() is before
    by_name = {e.name: e for e in profile.structure.entries["synapses"]}
    fused = by_name["mixers.1.mha.mm_0"]
    assert (fused.part, fused.block, fused.role) == ("QKV", 1, "qkv")
    assert fused.channels == {"q": ((0, 16),), "k": ((16, 32),), "v": ((32, 48),)}
    assert by_name["mixers.1.mha.addmm_0"].part == "projection"
    counted = profile.operations().set_index("synapse")
    assert counted.loc["mixers.1.mha.mm_0", "dense_macs"] == 16 * 16 * 48 and counted.loc[fused.name, "counted"]
