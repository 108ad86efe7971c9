"""Our own neurons and layers against SpikingJelly 2's, bit for bit; without it, against closed forms."""

import pytest
import torch

from spikeattn.compat import lif, spikingjelly_version, step_layers
from spikeattn.compat.spikingjelly_version import is_current
from spikeattn.errors import SpikeattnError
from spikeattn.tracing.neurons import emits_binary, find_neurons, is_known, leftover_state, memories

sj2 = pytest.mark.skipif(not is_current(), reason="compares with SpikingJelly 2, which is not installed")
SEED = torch.Generator().manual_seed(3)
X = torch.randn(6, 3, 5, 4, 4, generator=SEED) * 2  # [T, B, C, H, W]


def theirs():
    return pytest.importorskip("spikingjelly.activation_based.neuron")


def outcomes(node, x, step_mode):
    """Spikes of two calls, the second one going on from the first, and the potential behind them."""
    node.step_mode = step_mode
    calls = [x, x.flip(0)]
    out = [node(call) if step_mode == "m" else torch.stack([node(each) for each in call]) for call in calls]
    return torch.cat(out), node.v


@sj2
@pytest.mark.parametrize("step_mode", ["m", "s"])
@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("tau", [2.0, 3.7])
@pytest.mark.parametrize("name", ["LIFNode", "ParametricLIFNode"])
@pytest.mark.parametrize("grad", [True, False])
def test_spikes_and_potentials_are_spikingjellys(name, tau, decay_input, v_reset, step_mode, grad):
    given = {"decay_input": decay_input, "v_threshold": 0.8, "v_reset": v_reset, "detach_reset": True}
    given["tau" if name == "LIFNode" else "init_tau"] = tau
    with torch.set_grad_enabled(grad):
        ours, potential = outcomes(getattr(lif, name)(**given), X, step_mode)
        expected, their_potential = outcomes(getattr(theirs(), name)(**given), X, step_mode)
    assert 0.02 < ours.mean() < 0.95 and torch.equal(ours, expected) and torch.equal(potential, their_potential)


@sj2
@pytest.mark.parametrize("detach_reset", [True, False])
def test_gradients_are_spikingjellys(detach_reset):
    found = []
    for node in (lif.LIFNode(detach_reset=detach_reset), theirs().LIFNode(detach_reset=detach_reset)):
        x = X.clone().requires_grad_()
        node.step_mode = "m"
        (node(x) * torch.arange(6.0).view(-1, 1, 1, 1, 1)).sum().backward()
        found.append(x.grad)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found)


def test_a_constant_current_charges_by_halves_and_fires():
    """tau = 2, from rest: 0.75, 1.125 (fires, back to 0), 0.75, 1.125 ... under a current of 1.5."""
    node = lif.LIFNode(step_mode="m")
    spikes = node(torch.full((4, 1, 1), 1.5))
    assert spikes.flatten().tolist() == [0, 1, 0, 1] and node.v.item() == 0
    node(torch.full((1, 1, 1), 1.5))
    assert node.v.item() == 0.75
    assert node(torch.full((1, 2, 1), 1.5)).sum() == 0  # another batch begins from rest
    node.reset()
    assert node.v == 0.0


def test_the_tracer_knows_them():
    model = torch.nn.Sequential(step_layers.Conv2d(5, 2, 1, step_mode="m"), lif.LIFNode(step_mode="m"))
    neurons = find_neurons(model)
    assert list(neurons) == ["1"] and is_known(neurons["1"]) and emits_binary(neurons["1"])
    assert leftover_state(neurons) is None
    model(X)
    assert leftover_state(neurons) == "1" and [v.shape for v in memories(neurons["1"])] == [(3, 2, 4, 4)]


@sj2
def test_layers_are_spikingjellys():
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    makers = (
        lambda of: of.Conv2d(5, 3, 3, padding=1, step_mode="m"),
        lambda of: of.BatchNorm2d(5, step_mode="m"),
        lambda of: of.MaxPool2d(3, stride=2, padding=1, step_mode="m"),
    )
    for make in makers:
        ours, expected = make(step_layers), make(layer)
        expected.load_state_dict(ours.state_dict())
        assert torch.equal(ours(X), expected(X))
    with pytest.raises(ValueError, match="step mode 'm' takes"):
        step_layers.MaxPool2d(2, step_mode="m")(X[0])


def test_what_needs_spikingjelly_2_says_the_command(monkeypatch):
    monkeypatch.setattr(spikingjelly_version, "is_current", lambda: False)
    for found, said in (("0.0.0.0.12", "version 0.0.0.0.12"), (None, "none")):
        monkeypatch.setattr(spikingjelly_version, "spikingjelly_version", lambda found=found: found)
        with pytest.raises(SpikeattnError, match=rf"counts need SpikingJelly 2, and {said} is .*pip install"):
            spikingjelly_version.require_current("counts")
