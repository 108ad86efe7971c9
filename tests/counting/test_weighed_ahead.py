"""Fan-outs are weighed while spikes are counted as they are made, and again where a layer receives other ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from spikeattn.counting import on_cpu
from spikeattn.counting.recorder import Recorder
from spikeattn.fast import count
from spikeattn.tracing.examine import plan
from spikeattn.tracing.taps import fans_ahead

pytestmark = pytest.mark.skipif(not count.usable(), reason="no C compiler")


class Levels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 4).round() / 4


class Net(nn.Module):
    def __init__(self, fire: nn.Module) -> None:
        super().__init__()
        self.fire = fire
        self.conv = layer.Conv2d(3, 5, 3, padding=1, stride=(2, 1), step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.fire(x.expand(2, *x.shape))).flatten(2)


NEURONS: dict[str, Callable[[], nn.Module]] = {
    "binary": lambda: neuron.LIFNode(v_threshold=0.3, step_mode="m"),
    "levels": Levels,
}
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda x: x,
    "in place": lambda x: x.mul_(x.new_tensor([1.0, 0.0, 1.0]).view(3, 1, 1)),
    "another view": lambda x: x.transpose(-2, -1),
    "a copy": lambda x: x.flip(-1),
}


def fan_sums(net: Net, x: Tensor) -> Tensor:
    """Additions by image and time step: a convolution of ones meets every spike as often as its weights do."""
    ones = torch.ones_like(net.conv.weight)
    made = nn.functional.conv2d(x.flatten(0, 1).double(), ones.double(), padding=1, stride=(2, 1))
    return made.flatten(1).sum(1).unflatten(0, x.shape[:2])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", NEURONS)
def test_a_layer_is_charged_for_what_it_receives(kind: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = Net(NEURONS[kind]()).eval()
    images = 2 * torch.rand(2, 3, 8, 8)
    made = plan(net, images, neurons=lambda module: module is net.fire)
    assert set(fans_ahead(made)) == {"fire"}
    received: list[Tensor] = []
    alive: list[Tensor] = []  # what a neuron gave, where the network keeps it
    taken: list[str] = []
    take = on_cpu._take_weighed
    monkeypatch.setattr(on_cpu, "_take_weighed", lambda *args: take(*args) and not taken.append(args[1].name))

    def changed(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        alive.append(output)
        return CHANGES[change](output)

    with torch.no_grad(), Recorder(net, made) as recorder:
        handles = [net.fire.register_forward_hook(changed)]
        handles.append(net.conv.register_forward_pre_hook(lambda module, args: received.append(args[0].clone())))
        for _ in range(2):
            with recorder.watching(2) as tally:
                counts = tally.collect(net(images)).counts
            if kind == "binary":
                net.fire.reset()
            expected = fan_sums(net, (received[-1] != 0).float())
            assert expected.min() > 0
            assert counts["fan_nnz", "conv"].sum(0).tolist() == expected.sum(0).tolist()
            if kind == "levels":
                assert counts["fan_abs", "conv"].sum(0).tolist() == fan_sums(net, received[-1] * 4).sum(0).tolist()
    for handle in handles:
        handle.remove()
    assert len(taken) == (2 if change == "nothing" else 0)
