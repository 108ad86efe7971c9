"""Networks as tutorials of other frameworks write them, profiled with nothing to pass and compared with brute force."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.tracing import neurons as nodes
from tests.counting import brute_force
from tests.counting.brute_force import amounts

T = 4
STILL = 6 * 8 * (T - 1)  # MACs of the first layer on a still image, after the first step


class Loop(nn.Module):
    """Two layers, the second fed by spikes, in a loop over time as in snnTorch's tutorials."""

    def __init__(self, make: Callable[[int], nn.Module], back: int | None = 1) -> None:
        """`back`: from which of its results on a neuron receives them again; None where it keeps them itself."""
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(6, 8), make(8), nn.Linear(8, 5), make(5)
        self.back = back

    def forward(self, x: Tensor) -> Tensor:
        first: tuple[Tensor, ...] = ()
        second: tuple[Tensor, ...] = ()
        spikes = []
        for _ in range(T):
            if self.back is None:
                spikes.append(self.lif2(self.fc2(self.lif1(self.fc1(x)))))
                continue
            first = self.lif1(self.fc1(x), *first[self.back :])
            second = self.lif2(self.fc2(first[0]), *second[self.back :])
            spikes.append(second[0])
        return torch.stack(spikes)


class Frames(nn.Module):
    """[B, T, ...] through `net`; `norse`: [T, B, ...], and its result is a pair."""

    def __init__(self, net: nn.Module, time_first: bool = False) -> None:
        super().__init__()
        self.net, self.time_first = net, time_first

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.transpose(0, 1))[0] if self.time_first else self.net(x)


def rounded(model: nn.Module) -> nn.Module:
    """Weights k/16, whose sums are exact in any order; thresholds and time constants stay what they are."""
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        for name, p in layer.named_parameters(recurse=False):
            if p.dim() > 1:
                p.data = torch.randint(-16, 17, p.shape, generator=generator) / 16
            elif name.startswith("bias"):
                p.data = torch.randint(-4, 5, p.shape, generator=generator) / 16
    return model.eval()


def sums_of(model: nn.Module, images: Tensor, time_steps: int, repeated: int = 0) -> sa.Profile:
    """Profile with nothing but the loader, twice; exact, and the network afterwards as before.

    Args:
        repeated: MACs of a layer on a still image beyond the first step, which are charged once.
    """
    model = rounded(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profile = sa.profile(model, [images[:2], images[2:]])
    found = amounts(profile)
    assert profile.time_steps == time_steps and not profile.ledger.uncounted
    assert {name: value.shape for name, value in model.state_dict().items()} == {k: v.shape for k, v in before.items()}
    assert all(bool((model.state_dict()[name] == value).all()) for name, value in before.items())
    # Batches of one image, the network emptied in between; synapses inside neurons are not passed over.
    with mock.patch.object(brute_force, "reset_net", nodes.reset):  # as the table says; `test_foreign_neurons` tests it
        expected = brute_force.by_brute_force(model, images, None, lambda module: False, lambda weight: 1.0)
    assert found["sop"] == [sops for sops, _ in expected] and sum(found["sop"]) > 0
    assert found["mac"] == [macs - repeated for _, macs in expected]
    twice = amounts(sa.profile(model, [images, images]))
    assert twice["sop"] == found["sop"] * 2 and twice["mac"] == found["mac"] * 2
    return profile
