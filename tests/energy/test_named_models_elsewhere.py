"""Named energy models against packages that have them: SpikingJelly 2's SimpleEnergyProfiler, and SANA-FE."""

from __future__ import annotations

import itertools
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.op_counter import estimate_lemaire_energy, estimate_simple_energy
from spikingjelly.activation_based.op_counter.simple_energy import SimpleEnergyProfiler
from torch import nn

import spikeattn as sa
from spikeattn.energy import by_model, sana_fe_loihi

T, N = 4, 5


class Net(nn.Module):
    """As in test_memory_spikingjelly, but nothing is added outside of layers and neurons: both count all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layer.Conv2d(2, 8, 3, padding=1)
        self.lif = neuron.LIFNode()
        self.conv1 = layer.Conv2d(8, 12, 3, stride=2, padding=1, groups=2, bias=False)
        self.inf = neuron.IFNode()
        self.fc = layer.Linear(12 * 5 * 5, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.fc(self.inf(self.conv1(self.lif(self.conv(x)))).flatten(1)) for _ in range(T)])


@pytest.fixture(scope="module")
def case() -> tuple[Net, torch.Tensor, sa.Profile]:
    torch.manual_seed(0)
    net = Net().eval()
    for conv in (net.conv, net.conv1):
        nn.init.normal_(conv.weight, 0.15, 0.3)
    x = torch.rand(N, 2, 10, 10)
    profile = sa.profile(net, [(x, torch.zeros(N, dtype=torch.long))])
    assert all(0 < rate < 1 for rate in profile.rates().query("t == 'mean' and kind == 'binary'").nonzero_rate)
    return net, x, profile


def test_the_simple_model_is_that_of_spikingjelly(case):
    """But for 196 additions that are its own: its counter of memory adds up where a strided kernel lies, in torch, and
    its counter of additions sees that (`aten.sum`, which the network has not).
    """
    net, x, profile = case
    theirs, parameters = [], []
    for image in x:
        functional.reset_net(net)
        profiler = SimpleEnergyProfiler()
        profiler.bind_model(net)
        with profiler, torch.no_grad():
            net(image[None])
        own = profiler.ac_counter.get_counts()["Global"][torch.ops.aten.sum.default]
        assert own == 196
        report = profiler.get_report()
        theirs.append((report.energy_total_pj - 0.9 * own) * 1e-9)
        parameters.append(report.breakdown_pj["parameter_memory_pj"] * 1e-9)
    functional.reset_net(net)
    table = by_model(profile, "spikingjelly-simple", first_conv="every-step")
    assert table.per_image["spikingjelly-simple", "SNN"].tolist() == pytest.approx(theirs, rel=1e-12)
    ours = table.parts.query("side == 'SNN' and component == 'parameters'")["value"].sum()
    assert ours == pytest.approx(sum(parameters) / N, rel=1e-12)


def test_the_simple_model_of_an_ann_is_that_of_spikingjelly():
    """ReLUs in place of the neurons: MACs, a weight per MAC, a bias per output element."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), neuron.IFNode(), nn.Flatten(), nn.Linear(3 * 16, 5))
    x = torch.rand(2, 2, 4, 4)
    profile = sa.profile(net, [(x, torch.zeros(2, dtype=torch.long))], forward=lambda net, x: net(x)[None])
    table = by_model(profile, "spikingjelly-simple")
    ann = nn.Sequential(net[0], nn.ReLU(), net[2], net[3])
    theirs = estimate_simple_energy(ann, x[:1]).energy_total_pj
    assert table.loc[table["side"] == "ANN", "value"].tolist() == pytest.approx([theirs * 1e-9], rel=1e-12)


def test_lemaires_model_is_that_of_spikingjelly(case):
    net, x, profile = case
    theirs = []
    for image in x:
        functional.reset_net(net)
        theirs.append(estimate_lemaire_energy(net, image[None]).total_pj * 1e-9)
    functional.reset_net(net)
    table = by_model(profile, "lemaire-2022", "horowitz-45nm-int32", first_conv="every-step")
    assert table.per_image["lemaire-2022", "SNN"].tolist() == pytest.approx(theirs, rel=1e-12)


INPUTS = [[1, 0, 1, 1, 0, 0], [0, 1, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0]]  # the last two steps are silent: see below
HIDDEN = [[0.7, 0.2, 0.5], [0.4, 0.9, 0.1], [0.3, 0.3, 1.2], [0.6, 0.0, 0.8]]  # [4, 3]
OUTPUT = [[0.8, 0.3, 0.6, 0.2], [0.1, 0.9, 0.4, 0.7]]  # [2, 4]


def simulated(folder: Path, core_of_second_output: int = 0) -> dict:
    """Two layers of integrate-and-fire neurons in SANA-FE, on one core, or the second output on another.

    A layer sees the spikes of the step before, so that the last spikes need two more steps to arrive. A bias of 1e-9
    has SANA-FE update neurons whose potential is 0 as well, and moves no spike. Of the 1024 inputs that a core of its
    Loihi has, three are made, which is faster; no price is touched.
    """
    sanafe = pytest.importorskip("sanafe", reason="SANA-FE is not installed: pip install sanafe")
    text = (files("sanafe.examples") / "loihi.yaml").read_text()
    assert "loihi_inputs[0..1023]" in text
    (folder / "loihi.yaml").write_text(text.replace("loihi_inputs[0..1023]", "loihi_inputs[0..2]"))
    architecture, net = sanafe.load_arch(folder / "loihi.yaml"), sanafe.Network()
    cores = list(itertools.chain.from_iterable(tile.cores for tile in architecture.tiles))
    soma = {"threshold": 1.0, "leak_decay": 1.0, "bias": 1e-9}
    groups = [net.create_neuron_group("in", 3)]
    groups += [net.create_neuron_group(name, size, model_attributes=soma) for name, size in (("hidden", 4), ("out", 2))]
    for i, spikes in enumerate(INPUTS):
        groups[0][i].set_attributes(model_attributes={"spikes": spikes}, soma_hw_name=f"loihi_inputs[{i}]")
    for source, group, weights in zip(groups, groups[1:], (HIDDEN, OUTPUT), strict=False):
        for target, row in enumerate(weights):
            group[target].set_attributes(soma_hw_name="loihi_lif", default_synapse_hw_name="loihi_dense_synapse")
            for place, weight in enumerate(row):
                source[place].connect_to_neuron(group[target], {"weight": weight})
    for group, size in zip(groups, (3, 4, 2), strict=True):
        for place in range(size):
            second = group is groups[2] and place == 1
            group[place].map_to_core(cores[core_of_second_output if second else 0])
    chip = sanafe.SpikingChip(architecture)
    chip.load(net)
    return chip.sim(len(INPUTS[0]))


@pytest.fixture(scope="module")
def two_layers() -> sa.Profile:
    """The same network here; its frames are events."""

    def integrate() -> nn.Module:
        return neuron.IFNode(step_mode="m")

    net = nn.Sequential(nn.Linear(3, 4, bias=False), integrate(), nn.Linear(4, 2, bias=False), integrate())
    net[0].weight.data, net[2].weight.data = torch.tensor(HIDDEN), torch.tensor(OUTPUT)
    frames = torch.tensor(INPUTS, dtype=torch.float32).T[None]  # [1, T, 3]
    return sa.profile(net, [(frames, torch.zeros(1, dtype=torch.long))], forward=lambda net, x: net(x.transpose(0, 1)))


def test_loihi_event_by_event_is_that_of_sana_fe(two_layers, tmp_path):
    theirs = simulated(tmp_path)
    table = by_model(two_layers, "sana-fe-loihi")
    assert theirs["neurons_fired"] > 12 and table.unpriced.empty
    assert table["value"][0] == pytest.approx(theirs["energy"]["total"] * 1e3, rel=1e-9)
    ours = table.parts.groupby("component")["value"].sum()
    for component, key in (("synapses", "synapse"), ("somas", "soma"), ("network", "network")):
        assert ours[component] == pytest.approx(theirs["energy"][key] * 1e3, rel=1e-9), component


def test_loihi_with_a_mapping_is_that_of_sana_fe(two_layers, tmp_path):
    """The second output on the next tile to the north: a spike of a hidden neuron is two messages, one makes a hop."""
    theirs = simulated(tmp_path, core_of_second_output=5)
    counts = two_layers.counts
    events, hidden = counts.column("abs", "input").sum(), counts.column("abs", "1").sum()
    messages = events + 2 * hidden
    assert theirs["packets_sent"] == messages
    model = sana_fe_loihi(messages / (events + hidden), north_south_hops=hidden / messages, east_west_hops=0)
    table = by_model(two_layers, model)
    assert table["value"][0] == pytest.approx(theirs["energy"]["total"] * 1e3, rel=1e-9)
