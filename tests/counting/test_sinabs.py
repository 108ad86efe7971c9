"""sinabs as its tutorials write it: nothing to pass, exact against brute force; runs where it is installed."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from tests.counting.brute_force import pictures
from tests.counting.frameworks import Frames, sums_of


@pytest.mark.parametrize("name", ["LIF", "IAF", "ALIF"])
def test_sinabs_batch_first(name: str) -> None:
    layers = pytest.importorskip("sinabs.layers")
    options = {"LIF": {"tau_mem": 4.0}, "ALIF": {"tau_mem": 4.0, "tau_adapt": 4.0}, "IAF": {}}[name]
    make = getattr(layers, name)
    net = nn.Sequential(nn.Linear(6, 8), make(**options), nn.Linear(8, 5), make(**options), nn.Linear(5, 3))
    sums_of(Frames(net.append(layers.ExpLeak(tau_mem=4.0))), pictures(3, 7, 6) * 4, 7)


def test_sinabs_squeeze() -> None:
    layers = pytest.importorskip("sinabs.layers")
    conv = (nn.Conv2d(2, 3, 3), layers.IAFSqueeze(num_timesteps=5), nn.Conv2d(3, 4, 3))
    net = nn.Sequential(layers.FlattenTime(), *conv, layers.IAFSqueeze(num_timesteps=5), nn.Unflatten(0, (-1, 5)))
    sums_of(Frames(net), pictures(3, 5, 2, 8, 8), 5)


class Flattened(nn.Module):
    """[B, T, ...] as [B*T, ...], which is what sinabs's Squeeze layers take; the batch size is told at each call."""

    def __init__(self, net: nn.Module, told: bool) -> None:
        super().__init__()
        self.net, self.told = net, told

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net if self.told else ():
            if hasattr(layer, "batch_size"):
                layer.batch_size = len(x)
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("events", [False, True])
def test_sinabs_squeeze_with_sums_in_windows(told: bool, events: bool) -> None:
    layers = pytest.importorskip("sinabs.layers")
    options = {"batch_size": 2} if told else {"num_timesteps": 5}
    first = (nn.Conv2d(2, 4, 3), layers.IAFSqueeze(**options), layers.SumPool2d(2), nn.Conv2d(4, 4, 2))
    net = nn.Sequential(*first, layers.IAFSqueeze(**options), nn.Flatten(), nn.Linear(16, 5))
    images = pictures(3, 5, 2, 8, 8)
    images = images.clamp(0).round() if events else images
    sums_of(Flattened(net.append(layers.IAFSqueeze(**options)), told), images, 5)


def test_sinabs_many_spikes_in_a_step() -> None:
    """Its neurons emit as many spikes as the membrane holds thresholds: whole numbers, counted by value."""
    layers = pytest.importorskip("sinabs.layers")
    net = nn.Sequential(nn.Linear(6, 8), layers.IAF(), nn.Linear(8, 5), layers.IAF(), nn.Linear(5, 3))
    profile = sums_of(net, pictures(3, 7, 6) * 400, 7)
    assert profile.ledger.tensors[1].kind == "integer"


@pytest.mark.parametrize("deep", [False, True])
def test_sinabs_recurrent(deep: bool) -> None:
    layers = pytest.importorskip("sinabs.layers")

    def recurrent(width: int) -> nn.Module:
        connect = nn.Linear(width, width)
        return layers.IAFRecurrent(rec_connect=nn.Sequential(nn.Flatten(), connect) if deep else connect)

    net = nn.Sequential(nn.Linear(6, 8), recurrent(8), nn.Linear(8, 5), recurrent(5))
    profile = sums_of(Frames(net), pictures(3, 7, 6), 7)
    inner = "rec_connect.1" if deep else "rec_connect"
    assert {s.name for s in profile.ledger.synapses} == {"net.0", "net.2", f"net.1.{inner}", f"net.3.{inner}"}
