"""The mode that watches operations stands aside while a neuron is at work, and is back behind it."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import spikeattn as sa
from tests.counting.brute_force import assert_exact, exact, pictures


class Products(nn.Module):
    """A product of spikes behind each of two neurons, and a neuron that may fail."""

    def __init__(self, failing: bool = False) -> None:
        super().__init__()
        self.fc, self.head, self.failing = nn.Linear(6, 6), nn.Linear(6, 3), failing
        self.lif, self.lif2 = neuron.LIFNode(), Failing() if failing else neuron.LIFNode()

    def forward(self, x: Tensor) -> Tensor:
        total = x.new_zeros(())
        for _ in range(3):
            spikes = self.lif(self.fc(x) * 2)
            product = spikes.unsqueeze(2) @ spikes.unsqueeze(1)
            try:
                spikes = self.lif2(product.sum(2))
            except ValueError:
                spikes = spikes + 0
            total = total + self.head(spikes)
        return total / 3


class Failing(neuron.IFNode):
    """Fails as the code around it expects."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError


class Limited(neuron.LIFNode):
    """Fails at large currents, after some operations of its own."""

    def forward(self, x: Tensor) -> Tensor:
        if x.abs().max() > 1e6:
            raise ValueError("too much")
        return super().forward(x)


class Watching(TorchDispatchMode):
    """A mode of the user's around a profile."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen += 1
        return func(*args, **(kwargs or {}))


def test_products_between_neurons_are_counted() -> None:
    assert_exact(exact(Products()), pictures(4, 6), macs_once=2 * 36)


def test_the_mode_of_the_user_stays_where_it_was() -> None:
    net, images = exact(Products()), pictures(4, 6)
    expected = sa.profile(net, [images]).operations()
    with Watching() as mode:
        found = sa.profile(net, [images]).operations()
        before = mode.seen
        net(images)
        assert mode.seen > before
    assert found.equals(expected)


def test_a_neuron_whose_failure_the_network_catches() -> None:
    """What runs behind it passes for its own, which is said; no mode is lost or left behind."""
    profile = sa.profile(exact(Products(failing=True)), [pictures(4, 6)])
    assert {each.name for each in profile.ledger.uncounted} == {"fc", "lif2", "head"}
    assert torch._C._len_torch_dispatch_stack() == 0


def test_a_neuron_that_fails_in_the_midst_of_a_run_leaves_the_modes_around_it() -> None:
    net, images = exact(Products()), pictures(4, 6)
    failing = images.clone()
    failing[2] = 1e9

    net.lif = Limited()
    with Watching() as mode:
        with pytest.raises(sa.SpikeattnError, match="too much"):
            sa.profile(net, [images[:2], failing[2:]], plain=True)
        before = mode.seen
        _ = images + 1
        assert mode.seen == before + 1 and torch._C._len_torch_dispatch_stack() == 1


def test_neurons_that_loop_over_time_inside() -> None:
    net = nn.Sequential(layer.Linear(6, 8), neuron.LIFNode(step_mode="m"), layer.Linear(8, 3))
    net[0].step_mode = net[2].step_mode = "m"

    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.expand(4, *x.shape)).mean(0)

    assert_exact(exact(Repeated()), pictures(4, 6), macs_once=3 * 48)
