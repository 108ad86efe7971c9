"""Components beyond arithmetic against SpikingJelly's own profilers, image by image, on a network both can count."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.op_counter import estimate_lemaire_energy, estimate_simple_energy
from torch import nn

import spikeattn as sa
from spikeattn.energy import ComponentTable

T, N = 4, 5


class Net(nn.Module):
    """Biases, stride, groups, a LIF and an IF; single-step, so that SpikingJelly's buffers are those of one step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layer.Conv2d(2, 8, 3, padding=1)
        self.lif = neuron.LIFNode()
        self.conv1 = layer.Conv2d(8, 12, 3, stride=2, padding=1, groups=2, bias=False)
        self.inf = neuron.IFNode()
        self.conv2 = layer.Conv2d(12, 6, 1)
        self.lif1 = neuron.LIFNode()
        self.fc = layer.Linear(6 * 5 * 5, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x.new_zeros(len(x), 10)
        for _ in range(T):
            y = self.inf(self.conv1(self.lif(self.conv(x))))
            out = out + self.fc(self.lif1(self.conv2(y)).flatten(1))
        return out


@pytest.fixture(scope="module")
def case() -> tuple[Net, torch.Tensor, sa.Profile]:
    torch.manual_seed(0)
    net = Net().eval()
    for conv in (net.conv, net.conv1, net.conv2):
        nn.init.normal_(conv.weight, 0.15, 0.3)
    x = torch.rand(N, 2, 10, 10)
    profile = sa.profile(net, [(x, torch.zeros(N, dtype=torch.long))])
    assert all(0 < rate < 1 for rate in profile.rates().query("t == 'mean' and kind == 'binary'").nonzero_rate)
    return net, x, profile


def theirs(estimate, net: Net, x: torch.Tensor) -> list:
    reports = []
    for image in x:
        functional.reset_net(net)
        reports.append(estimate(net, image[None]))
    functional.reset_net(net)
    return reports


def amounts(table: ComponentTable, component: str, *what: str) -> float:
    """Operations or words of all N images."""
    lines = table.lines[(table.lines.component == component) & table.lines.what.isin(what)]
    assert len(lines)
    return round(lines.amount.sum() * N, 6)


def test_lemaire_equals_spikingjelly(case):
    net, x, profile = case
    reports = theirs(estimate_lemaire_energy, net, x)
    table = profile.components("horowitz-45nm-int32", "lemaire-2022", first_conv="every-step")

    def total(key: str) -> int:
        return sum(report.counts[key] for report in reports)

    sops, biases = amounts(table, "compute", "sops"), amounts(table, "biases", "additions")
    resets, leak = amounts(table, "neuron_updates", "resets"), amounts(table, "leak", "multiply-accumulates")
    assert sops == total("synop") and sops + biases + resets == total("ac")
    assert amounts(table, "compute", "macs") + leak == total("mac")
    assert amounts(table, "addressing", "additions") == total("acc_addr")
    assert amounts(table, "addressing", "multiplications") == total("mac_addr")
    assert amounts(table, "addressing", "additions of products") == total("mac_addr")
    words = {
        "read_params_bytes": ("memory_weights", "weight reads", "bias reads"),
        "read_in_bytes": ("memory_activations", "spike reads", "input reads"),
        "write_out_bytes": ("memory_activations", "spike writes"),
        "read_potential_bytes": ("memory_potentials", "potential reads"),
        "write_potential_bytes": ("memory_potentials", "potential writes"),
    }
    for key, (component, *what) in words.items():
        assert amounts(table, component, *what) * 4 == total(key), key

    per_image = table.per_image * 1e9  # pJ
    parts = {
        "ops_pj": ["compute", "biases", "neuron_updates", "leak"],
        "addressing_pj": ["addressing"],
        "params_pj": ["memory_weights"],
        "inout_pj": ["memory_activations"],
        "potential_pj": ["memory_potentials"],
    }
    for n, report in enumerate(reports):
        for key, columns in parts.items():
            assert per_image.loc[n, columns].sum() == pytest.approx(report.breakdown_pj[key], rel=1e-12)
        assert per_image.loc[n].sum() == pytest.approx(report.total_pj, rel=1e-12)


def test_exact_reads_equal_the_other_counter_of_spikingjelly(case):
    """SimpleEnergyProfiler counts the weights that spikes really meet, border and stride included."""
    net, x, profile = case
    reports = theirs(estimate_simple_energy, net, x)
    table = profile.components("horowitz-45nm-fp32", "compute+memory", first_conv="every-step")

    def total(key: str) -> int:
        return sum(report.counts[key] for report in reports)

    assert amounts(table, "memory_weights", "weight reads") * 4 == total("weight_read_bytes")
    assert amounts(table, "memory_weights", "bias reads") * 4 == total("bias_read_bytes")
    assert amounts(table, "compute", "sops") == total("synop")
    states = table.lines[table.lines.name.isin(["lif", "inf", "lif1"])]
    for what, key in (("potential reads", "neuron_state_read_bytes"), ("potential writes", "neuron_state_write_bytes")):
        assert round(states[states.what == what].amount.sum() * N) * 4 == total(key)


def test_what_the_nominal_fan_out_overcounts(case):
    """A padded 3x3 convolution of stride 2: nominal reads are 9 weights per spike and output channel of its group."""
    _, _, profile = case
    exact, nominal = (
        profile.components("horowitz-45nm-int32", model).lines.set_index(["name", "what"]).amount
        for model in ("compute+memory", "lemaire-2022")
    )
    assert nominal["conv1", "weight reads"] / exact["conv1", "weight reads"] == pytest.approx(4.44, abs=0.25)
    assert nominal["conv1", "sops"] / exact["conv1", "sops"] == pytest.approx(1.98, abs=0.1)
    for name in ("conv2", "fc"):  # no border, no stride
        assert (nominal[name] == exact[name]).all()
