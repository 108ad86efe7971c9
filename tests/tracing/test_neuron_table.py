"""The table of neurons: what it says of SpikingJelly's classes, and that an entry is all that a framework needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from spikingjelly.activation_based import layer, neuron, rnn, surrogate
from torch import Tensor, nn

from spikeattn.tracing import neuron_table
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.neuron_kind import ONE, OWN_SPIKES, InnerSynapse, NeuronKind
from spikeattn.tracing.neuron_table import kind_of
from tests.counting.brute_force import amounts, exact, pictures
from tests.counting.test_recurrent import WIDTH, Net, all_but_the_first, by_hand, profiled


@pytest.mark.parametrize(
    ("module", "spiking", "binary", "over_time", "synapses"),
    [
        (neuron.LIFNode(), True, True, False, []),
        (neuron.IFNode(step_mode="m"), True, True, True, []),
        (neuron.LIFNode(surrogate_function=surrogate.Sigmoid(spiking=False)), True, False, False, []),
        (neuron.TernaryLIFNode(), True, False, False, []),
        (neuron.PSN(T=4), True, True, True, ["weight"]),
        (neuron.MaskedPSN(k=2, T=4), True, True, False, ["weight"]),
        (neuron.GatedLIFNode(T=4), True, False, True, []),
        (neuron.ILCLIFNode(2, 4), True, True, True, ["conn.weight"]),
        (neuron.NoisyILCCUBALIFNode(2, 4), True, False, True, ["conn.weight"]),
        (neuron.NoisyCUBALIFNode(8), True, False, True, []),
        (rnn.SpikingGRUCell(4, 4), True, False, False, ["linear_ih.weight", "linear_hh.weight"]),
        (neuron.NonSpikingLIFNode(), False, False, True, []),
        (neuron.NoisyNonSpikingIFNode(4, T=2), False, False, True, []),
        (layer.SynapseFilter(), False, False, False, []),
        (nn.Linear(2, 2), False, False, False, []),
    ],
)
def test_what_the_table_says(
    module: nn.Module, spiking: bool, binary: bool, over_time: bool, synapses: list[str]
) -> None:
    assert nodes.is_spiking_neuron(module) == spiking and nodes.emits_binary(module) == binary
    assert [s.weight for s in nodes.inner_synapses(module)] == synapses
    assert not spiking or (nodes.runs_over_time(module) == over_time and nodes.is_known(module))
    assert nodes.is_opaque(module) == (spiking and not synapses)


class Toy(nn.Module):
    """A recurrent neuron of another framework: step by step, the potential before the spikes, a reset of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.state = nn.Linear(WIDTH, WIDTH), None

    def clear(self) -> None:
        self.state = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        v, spikes = self.state or (torch.zeros_like(x), torch.zeros_like(x))
        v = 0.5 * v + x + self.recurrent(spikes)
        spikes = (v >= 1).to(v)
        self.state = v - spikes, spikes
        return v, spikes


class Second(nn.Module):
    """The second of what a module returns."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[1]


@pytest.fixture
def toys() -> Iterator[None]:
    Toy.__module__ = "toyframework.neurons"
    synapses = (InnerSynapse("recurrent.weight", OWN_SPIKES),)
    kind = NeuronKind(("toyframework",), "Toy", steps=ONE, spikes=1, reset="clear", synapses=synapses)
    neuron_table.register(kind)
    yield
    neuron_table.TABLE.remove(kind)
    neuron_table.kind_of_class.cache_clear()


def test_another_framework_is_one_entry(toys: None) -> None:
    net, images = Net(Second(Toy()), "s", 4), pictures(3, 6)
    assert kind_of(net.node.inner) is neuron_table.TABLE[0]
    profile = profiled(net, images, 2)
    sops, macs = by_hand(exact(net), images, all_but_the_first)
    assert profile.time_steps == 4 and profile.ledger.tensor("node.inner").kind == "binary"
    assert amounts(profile)["sop"] == sops and amounts(profile)["mac"] == macs
    assert "node.inner.recurrent" in {s.name for s in profile.ledger.synapses} and not profile.ledger.uncounted
