"""Every spiking class of SpikingJelly's neuron package, in the step modes it has: counts equal brute force."""

from __future__ import annotations

import inspect

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.tracing.neurons import emits_binary, find_neurons, is_spiking_neuron
from tests.counting.brute_force import amounts, by_brute_force, exact, pictures


def table(*levels: float) -> neuron.FewSpikeTable:
    return neuron.FewSpikeTable(*[list(levels)] * 3)


HALVES = table(4.0, 2.0, 1.0, 0.5)
POPULATION, QUIET = {"act_dim": 2, "dec_pop_dim": 4}, {"is_training": False, "T": 4}


def flexible(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    v = v + x
    spikes = (v >= 1).to(x)
    return spikes, v - spikes


# Class -> (step modes it works in, what its spikes are here, arguments).
SPIKING = {
    "ActivationAwareIFNode": ("ms", "binary", {}),
    "CUBALIFNode": ("ms", "binary", {}),
    "ComplementaryLIFNode": ("ms", "binary", {}),
    "DSRIFNode": ("m", "binary", {"T": 4, "v_threshold": 1.5}),
    "DSRLIFNode": ("m", "binary", {"T": 4}),
    "EIFNode": ("ms", "binary", {}),
    "FewSpikeNode": ("ms", "integer", {"table": HALVES}),
    "FlexSN": ("ms", "binary", {"core": flexible, "num_states": 1}),
    "GatedLIFNode": ("m", "binary", {"T": 4}),
    "HGNode": ("ms", "integer", {"tables": [HALVES, HALVES], "gate_thresholds": [1.0]}),
    "HalfThresholdIFNode": ("ms", "binary", {}),
    "IFNode": ("ms", "binary", {}),
    "ILCCUBALIFNode": ("m", "binary", POPULATION),
    "ILCIFNode": ("m", "binary", POPULATION),
    "ILCLIFNode": ("m", "binary", POPULATION),
    "ILIFNode": ("ms", "integer", {}),
    "IzhikevichNode": ("ms", "binary", {}),
    "KLIFNode": ("ms", "binary", {}),
    "LIAFNode": ("s", "real", {"act": torch.relu, "threshold_related": False}),
    "LIFNode": ("ms", "binary", {}),
    "MPBNLIFNode": ("ms", "binary", {"out_features": 8}),
    "MaskedPSN": ("m", "binary", {"k": 2, "T": 4}),
    "NoisyCUBALIFNode": ("m", "binary", {"num_node": 8} | QUIET),
    "NoisyILCCUBALIFNode": ("m", "binary", POPULATION | QUIET),
    "OTTTLIFNode": ("s", "binary", {}),
    "OutlierAwareThresholdNode": (
        "ms", "integer", {"table": HALVES, "outlier_table": table(16.0, 8.0, 4.0, 2.0), "split_threshold": 4.0},
    ),
    "PSN": ("m", "binary", {"T": 4}),
    "ParametricLIFNode": ("ms", "binary", {}),
    "QIFNode": ("ms", "binary", {}),
    "RAFNode": ("ms", "binary", {}),
    "SLTTLIFNode": ("ms", "binary", {}),
    "STBIFNode": ("ms", "ternary", {"q_threshold": 0.5, "level": 8, "sym": True}),
    "SimpleIFNode": ("ms", "binary", {}),
    "SimpleLIFNode": ("ms", "binary", {"tau": 2.0, "decay_input": True}),
    "SlidingPSN": ("ms", "binary", {"k": 2}),
    "TernaryIFNode": ("ms", "ternary", {}),
    "TernaryLIFNode": ("ms", "ternary", {}),
}  # fmt: skip
NOT_SPIKING = {"NonSpikingIFNode", "NonSpikingLIFNode", "NoisyNonSpikingIFNode"}  # they emit membrane potentials
# Have synapses inside.
SYNAPSES = {"PSN", "MaskedPSN", "SlidingPSN", "ILCIFNode", "ILCLIFNode", "ILCCUBALIFNode", "NoisyILCCUBALIFNode"}


class Net(nn.Module):
    def __init__(self, node: nn.Module, mode: str) -> None:
        super().__init__()
        self.fc, self.node, self.head, self.mode = nn.Linear(6, 8), node, nn.Linear(8, 3), mode

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x) * 4
        if self.mode == "m":
            return self.head(self.node(x.repeat(4, 1, 1))).mean(0)
        return sum(self.head(self.node(x)) for _ in range(4))


def classes() -> dict[str, type]:
    found = {name: c for name, c in vars(neuron).items() if inspect.isclass(c) and issubclass(c, nn.Module)}
    return {name: c for name, c in found.items() if c.__module__.startswith(neuron.__name__)}


def test_the_list_is_complete() -> None:
    abstract = {name for name in classes() if name.endswith("BaseNode")}
    assert classes().keys() - abstract == SPIKING.keys() | NOT_SPIKING


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, (modes, *_) in SPIKING.items() for mode in modes])
def test_every_spiking_class_equals_brute_force(name: str, mode: str) -> None:
    torch.manual_seed(0)
    _, kind, arguments = SPIKING[name]
    node = getattr(neuron, name)(**arguments)
    node.step_mode = mode
    net, images = Net(node, mode).eval(), pictures(3, 6)
    exact(net.fc), exact(net.head)
    assert list(find_neurons(net)) == ["node"] and (kind == "binary" or not emits_binary(node))
    profile = sa.profile(net, [images])
    tensor = profile.ledger.tensor("node")
    assert (profile.time_steps, tensor.kind) == (4, kind) and not any("silent" in w for w in profile.warnings)
    passed_over = is_spiking_neuron if name not in SYNAPSES else lambda module: False
    expected = by_brute_force(net, images, None, passed_over, lambda w: tensor.unit if len(w) == 3 else 1.0)
    assert amounts(profile)["sop"] == [sops for sops, _ in expected] and (sum(amounts(profile)["sop"]) > 0) == (
        kind != "real"
    )
    assert not profile.ledger.uncounted
    assert any(s.name.startswith("node.") for s in profile.ledger.synapses) == (name in SYNAPSES)


def test_nodes_that_emit_potentials_are_no_spiking_neurons() -> None:
    nodes = [neuron.NonSpikingIFNode(), neuron.NonSpikingLIFNode(), neuron.NoisyNonSpikingIFNode(4, T=2), nn.ReLU()]
    assert not any(map(is_spiking_neuron, nodes))


def test_the_old_name_of_the_package_counts_as_well() -> None:
    """Published code of 2022 and 2023 imports spikingjelly.clock_driven; those neurons have no step_mode."""

    class Multi(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.single = neuron.LIFNode(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            return self.single(x)

    Multi.__module__ = "spikingjelly.clock_driven.neuron"
    net, images = Net(Multi(), "m").eval(), pictures(3, 6)
    exact(net)
    profile = sa.profile(net, [images])
    assert profile.time_steps == 4 and profile.ledger.tensor("node").neuron == "Multi"
    other = sa.profile(exact(Net(neuron.LIFNode(step_mode="m"), "m")), [images])
    assert amounts(profile) == amounts(other) and sum(amounts(other)["sop"]) > 0
