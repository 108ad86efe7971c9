"""Neurons as one kernel: every kind makes the neuron's own spikes and potentials bit by bit, and counts them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from spikeattn.compat import lif as ours
from spikeattn.compat import old_neurons
from spikeattn.fast import fused_neuron, native
from spikeattn.fast.count import fan_out as fan_out_of
from spikeattn.fast.fused_neuron import dynamics_of, is_identical, run, takes

pytestmark = pytest.mark.skipif(not native.compiler(), reason="no C compiler")

RESETS = [0.0, None, -0.3]


def kinds() -> dict[str, nn.Module]:
    """Neurons of every kind that has a kernel, over all their options."""
    made: dict[str, nn.Module] = {}
    for reset in RESETS:
        made[f"IF {reset}"] = neuron.IFNode(v_threshold=0.7, v_reset=reset, step_mode="m")
        for decay in (True, False):
            form = {"v_threshold": 0.7, "v_reset": reset, "decay_input": decay}
            for tau in (2.0, 1.7):
                made[f"LIF {reset} {decay} {tau}"] = neuron.LIFNode(tau, step_mode="m", **form)
                made[f"PLIF {reset} {decay} {tau}"] = neuron.ParametricLIFNode(tau, step_mode="m", **form)
            made[f"ours {reset} {decay}"] = ours.LIFNode(step_mode="m", **form)
    made["MultiStepLIF"] = old_neurons.MultiStepLIFNode(tau=2.0, backend="cupy", surrogate_function=surrogate.ATan())
    made["ILIF"] = neuron.ILIFNode(step_mode="m")
    made["ILIF 8"] = neuron.ILIFNode(3.0, 0.4, surrogate.MultiLevelSpikeCount(8), step_mode="m")
    return made


@pytest.mark.parametrize("name", kinds())
@torch.no_grad()
def test_spikes_and_potentials_are_the_neurons_own(name: str) -> None:
    node = kinds()[name]
    dynamics = dynamics_of(node)
    assert dynamics is not None
    torch.manual_seed(1)
    v = None
    for _ in range(2):  # the second call goes on with the potentials of the first
        x = torch.randn(5, 3, 7, 11, 13) * 2
        begun = None if v is None else v.clone()
        expected, made = node(x), run(dynamics, x, v)
        assert is_identical(made.spikes, expected) and is_identical(made.v, node._memories["v"])
        assert v is None or torch.equal(v, begun)
        if not name.startswith("ILIF"):
            assert torch.equal(made.counts, expected.flatten(2).count_nonzero(2)) and made.nonfinite == 0
        assert 0 < expected.count_nonzero() < expected.numel()
        v = made.v


@torch.no_grad()
def test_a_learned_time_constant_and_a_repeated_input() -> None:
    node = neuron.ParametricLIFNode(step_mode="m")
    node.w.fill_(0.37)
    dynamics = dynamics_of(node)
    assert dynamics is not None and dynamics.constant == pytest.approx(torch.sigmoid(torch.tensor(0.37)).item())
    x = torch.randn(3, 50).expand(4, 3, 50) * 3
    assert is_identical(run(dynamics, x, None).spikes, node(x))
    node.reset()
    turned = torch.randn(4, 3, 6, 50).transpose(2, 3)
    assert is_identical(run(dynamics, turned, None).spikes, node(turned))


@pytest.mark.parametrize("shape", [(4, 2, 3, 5, 7), (2, 1, 5, 113, 97), (3, 2, 1, 4097)])
def test_spikes_are_weighed_with_the_fan_out_of_their_position(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    fan_out = torch.randint(1, 30, shape[3:])
    dynamics = dynamics_of(neuron.IFNode(step_mode="m"))
    assert dynamics is not None
    with torch.no_grad():
        made = run(dynamics, torch.randn(shape) * 2, None, fan_out_of(fan_out).flatten())
    assert torch.equal(made.fans, (made.spikes.long() * fan_out).flatten(2).sum(2))


def test_a_potential_at_the_threshold_is_a_spike_and_is_counted() -> None:
    dynamics = dynamics_of(neuron.IFNode(step_mode="m"))
    assert dynamics is not None
    with torch.no_grad():
        made = run(dynamics, torch.ones(2, 1, 5), None)
    assert made.spikes.sum() == 10 and made.counts.tolist() == [[5], [5]]


def test_fan_outs_that_do_not_add_up_in_32_bits() -> None:
    assert fan_out_of(torch.tensor([[1.0, 2.0]])).tolist() == [[1, 2]]
    assert fan_out_of(torch.tensor([0.5])) is None
    assert fan_out_of(torch.tensor([1 << 20])) is None
    assert fan_out_of(torch.tensor([-1])) is None


def test_potentials_that_are_no_numbers_are_told() -> None:
    dynamics = dynamics_of(neuron.LIFNode(step_mode="m"))
    x = torch.zeros(2, 1, 100)
    x[0, 0, 3], x[1, 0, 4] = float("nan"), float("inf")
    with torch.no_grad():
        assert run(dynamics, x, None).nonfinite == 2


class Preset(neuron.LIFNode):
    """As the code of papers has it: other defaults, and nothing else."""

    def __init__(self) -> None:
        super().__init__(tau=1.5, v_threshold=0.7, v_reset=None, step_mode="m")


class Altered(Preset):
    """Derived from SpikingJelly's: it may run anything."""

    def neuronal_charge(self, x: Tensor) -> None:
        super().neuronal_charge(x * 1.0)


def changed(**attributes: Any) -> nn.Module:
    node = neuron.LIFNode(step_mode="m")
    for name, value in attributes.items():
        setattr(node, name, value)
    return node


def hooked() -> nn.Module:
    node = neuron.LIFNode(step_mode="m")
    node.register_forward_hook(lambda module, args, output: output * 2)
    return node


@pytest.mark.parametrize(
    "node",
    [
        Altered(),
        changed(multi_step_forward=lambda x: x),
        neuron.LIFNode(step_mode="s"),
        neuron.LIFNode(step_mode="m", store_v_seq=True),
        neuron.LIFNode(step_mode="m", surrogate_function=surrogate.Sigmoid(spiking=False)),
        neuron.EIFNode(step_mode="m"),
        neuron.ParametricLIFNode(step_mode="m").double(),
        changed(forward=lambda x: x),
        hooked(),
        nn.ReLU(),
    ],
)
def test_other_neurons_have_no_kernel(node: nn.Module) -> None:
    assert dynamics_of(node) is None


def test_a_class_with_other_defaults_alone_has_the_kernel_of_its_parent() -> None:
    x = torch.randn((4, 2, 3000), generator=torch.Generator().manual_seed(0))
    node, dynamics = Preset(), dynamics_of(Preset())
    assert dynamics is not None and dynamics.threshold == 0.7 and dynamics.reset is None
    with torch.no_grad():
        assert is_identical(run(dynamics, x, None).spikes, node(x))


def test_a_neuron_that_runs_other_arithmetic_under_a_known_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return (x > 0.5).float()

    monkeypatch.setattr(neuron.LIFNode, "multi_step_forward", step)
    assert dynamics_of(neuron.LIFNode(step_mode="m")) is None


def test_a_neuron_is_left_as_it_is() -> None:
    node = neuron.LIFNode(step_mode="m")
    with torch.no_grad():
        node(torch.ones(2, 1, 3))
    before = copy.deepcopy(node._memories)
    assert dynamics_of(node) is not None
    assert torch.equal(node._memories["v"], before["v"]) and "forward" not in vars(node)


def test_currents_that_the_kernels_take() -> None:
    x = torch.zeros(2, 1, 3)
    assert not takes(x)  # with gradients
    with torch.no_grad():
        assert takes(x) and not takes(x.double()) and not takes(x[0, 0]) and not takes(x[:0]) and not takes(1.0)


def test_identical_is_bit_by_bit() -> None:
    x = torch.tensor([0.0, 1.0, float("nan")])
    assert is_identical(x, x.clone()) and not is_identical(x, torch.tensor([-0.0, 1.0, float("nan")]))
    assert not is_identical(x, x.double()) and not is_identical(x, x[:2])
    assert fused_neuron.DECAY == 5  # as foreign.c numbers them
