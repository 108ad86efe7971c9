"""What the ledger says of the weights of a layer: numbers of parameters, kernel, groups, and the class of neurons."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer, neuron
from torch import nn

from spikeattn.storage.ledger_rows import Synapse
from spikeattn.tracing.examine import plan


class OwnLIF(neuron.LIFNode):
    pass


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lif = neuron.LIFNode(step_mode="m")
        self.conv = layer.Conv2d(4, 6, (3, 1), stride=(2, 1), groups=2, step_mode="m")
        self.own = OwnLIF(step_mode="m")
        self.up = layer.ConvTranspose2d(6, 5, 2, stride=2, bias=False, step_mode="m")
        self.inf = neuron.IFNode(step_mode="m")
        self.fc = nn.Linear(5, 3)
        self.weight, self.bias = nn.Parameter(torch.rand(2, 3)), nn.Parameter(torch.rand(2))
        self.plif = neuron.ParametricLIFNode(step_mode="m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lif(x.transpose(0, 1).contiguous())  # [T, B, 4, 8, 8]
        x = self.inf(self.up(self.own(self.conv(x))))
        x = self.plif(self.fc(x.flatten(3).transpose(2, 3)).mean(2))
        spikes = self.plif(x)  # the same neurons once more, on the same shape: SpikingJelly 0.0.0.0.14 keeps it
        return F.linear(spikes.flatten(0, 1), self.weight, self.bias).view(*x.shape[:2], 2)


@pytest.fixture(scope="module")
def synapses() -> dict[str, Synapse]:
    ledger = plan(Everything(), torch.rand(2, 3, 4, 8, 8)).ledger
    assert {t.name: t.neuron for t in ledger.tensors if t.maker == "neuron"} == {
        "lif": "LIFNode", "own": "LIFNode", "inf": "IFNode", "plif": "ParametricLIFNode", "plif@2": "ParametricLIFNode",
    }  # fmt: skip
    assert all(t.neuron is None for t in ledger.tensors if t.maker != "neuron")
    return {s.name: s for s in ledger.synapses}


def test_modules(synapses):
    conv, up, fc = (synapses[name] for name in ("conv", "up", "fc"))
    assert (conv.weights, conv.biases, conv.out_channels, conv.groups) == (6 * 2 * 3, 6, 6, 2)
    assert (conv.kernel, conv.stride, conv.kernel_fan_out) == ((3, 1), (2, 1), 9)
    assert (up.weights, up.biases, up.kernel, up.stride) == (6 * 5 * 4, 0, (2, 2), (1, 1))
    assert (fc.weights, fc.biases, fc.out_channels, fc.kernel, fc.kernel_fan_out) == (15, 3, 3, (), 3)


def test_functional_layer(synapses):
    (last,) = [s for name, s in synapses.items() if name not in ("conv", "up", "fc")]
    assert (last.weights, last.biases, last.out_channels) == (6, 2, 2)
