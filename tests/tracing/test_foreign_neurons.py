"""What the table says of other frameworks' neurons: by the names of their classes, with no framework installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.tracing import neurons as nodes
from tests.counting.brute_force import amounts


def like(module: str, *names: str, **members: object) -> type[nn.Module]:
    """A class with these names in its MRO, the last one outermost, as a framework defines it."""
    base: type[nn.Module] = nn.Module
    for name in names:
        base = type(name, (base,), {"__module__": module, **(members if name == names[-1] else {})})
    return base


@pytest.mark.parametrize(
    ("module", "names", "spiking", "synapses"),
    [
        ("snntorch._neurons.leaky", ("SpikingNeuron", "LIF", "Leaky"), True, []),
        ("snntorch._neurons.rleaky", ("SpikingNeuron", "LIF", "RLeaky"), True, ["recurrent.weight"]),
        ("snntorch._neurons.slstm", ("SpikingNeuron", "SLSTM"), True, ["lstm_cell.weight_ih", "lstm_cell.weight_hh"]),
        ("norse.torch.module.lif", ("SNN", "LIF"), True, []),
        ("norse.torch.module.lif", ("SNNRecurrentCell", "LIFCell"), True, ["input_weights", "recurrent_weights"]),
        ("norse.torch.module.leaky_integrator", ("SNNCell", "LICell"), False, []),
        ("sinabs.layers.iaf", ("StatefulLayer", "LIF", "IAF"), True, []),
        ("sinabs.layers.exp_leak", ("StatefulLayer", "LIF", "ExpLeak"), False, []),
        ("braincog.base.node.node", ("BaseNode", "LIFNode"), True, []),
        ("elsewhere.neurons", ("SpikingNeuron", "Leaky"), False, []),
        ("norse.torch.module.lift", ("Lift",), False, []),
    ],
)
def test_what_the_table_says(module: str, names: tuple[str, ...], spiking: bool, synapses: list[str]) -> None:
    neuron = like(module, *names, forward=leaky)()
    assert nodes.is_spiking_neuron(neuron) == spiking
    # Of norse's the table says how many steps a call covers; of the others it is found.
    assert nodes.is_known(neuron) == (spiking and module.startswith("norse"))
    assert [s.weight for s in nodes.inner_synapses(neuron)] == synapses


def leaky(self: nn.Module, x: Tensor) -> Tensor:
    """As snnTorch's with `init_hidden`: the state is a buffer, empty in a new neuron."""
    mem = self.mem if self.mem.shape == x.shape else torch.zeros_like(x)
    spikes = (mem + x > 1).to(x)
    self.mem = mem + x - spikes
    return spikes


def random_state(self: nn.Module, x: Tensor) -> Tensor:
    """As sinabs's, [B, T, ...]: where the batch size alone has changed, states of the earlier batch are drawn."""
    if self.v_mem.numel() == 0:
        self.v_mem = x.new_zeros(len(x), *x.shape[2:])
    elif len(self.v_mem) != len(x):
        self.v_mem = self.v_mem[torch.randint(len(self.v_mem), (len(x),))]
    v, spikes = self.v_mem, []
    for step in range(x.shape[1]):
        v = v + x[:, step]
        spikes.append((v > 1).to(x))
        v = v - spikes[-1]
    self.v_mem = v
    return torch.stack(spikes, 1)


class Net(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module, state: str, steps: int) -> None:
        super().__init__()
        for neuron in (first, second):
            neuron.register_buffer(state, torch.zeros(0), False)
        self.net, self.steps = nn.Sequential(nn.Linear(4, 5), first, nn.Linear(5, 3), second), steps

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(x) for _ in range(self.steps)]) if self.steps else self.net(x)


@pytest.mark.parametrize("framework", ["snntorch", "sinabs"])
def test_nothing_to_pass(framework: str) -> None:
    torch.manual_seed(0)
    if framework == "snntorch":
        cls, state, steps = like("snntorch._neurons.leaky", "SpikingNeuron", "Leaky", forward=leaky), "mem", 6
        images = torch.rand(3, 4) * 4
    else:
        cls, state, steps = like("sinabs.layers.iaf", "StatefulLayer", "IAF", forward=random_state), "v_mem", 0
        images = torch.rand(3, 6, 4) * 4
    model = Net(cls(), cls(), state, steps)
    profile = sa.profile(model, [images[:2], images[2:]])
    expected = []
    for image in images.split(1):
        v, spikes = torch.zeros(1, 5), 0
        for step in range(6):
            v = v + model.net[0](image if steps else image[:, step])
            fired = (v > 1).float()
            v, spikes = v - fired, spikes + int(fired.sum())
        expected.append(3 * spikes)
    assert profile.time_steps == 6 and sum(expected) > 0
    assert amounts(profile)["sop"] == expected
    assert amounts(sa.profile(model, [images, images]))["sop"] == expected * 2
    assert all(getattr(m, state).numel() == 0 for m in (model.net[1], model.net[3]))


def test_unknown_classes_stay_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 5), like("elsewhere.neurons", "Leaky", forward=leaky)())
    with pytest.raises(SpikeattnError, match=r"no spiking neurons.*snnTorch, norse, sinabs and BrainCog.*neurons="):
        sa.profile(net, [torch.rand(2, 4)])
