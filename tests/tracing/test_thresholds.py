"""Thresholds of neurons multiplied: which neurons, what is put back, and neurons whose threshold nobody can set."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from spikeattn.errors import SpikeattnError
from spikeattn.tracing.thresholds import scale_thresholds, scaled_thresholds, threshold_neurons


class OwnThreshold(neuron.LIFNode):
    """Fires at a threshold of its own."""

    def neuronal_fire(self):
        return self.surrogate_function(self.v - 0.3)


def _network(*more: nn.Module) -> nn.Sequential:
    first, second = neuron.LIFNode(v_threshold=1.0), neuron.IFNode(v_threshold=0.5, v_reset=None)
    return nn.Sequential(nn.Linear(4, 4), first, nn.Linear(4, 4), second, *more)


def test_every_neuron_and_nothing_else_is_scaled_and_put_back():
    network = _network()
    weights = [parameter.clone() for parameter in network.parameters()]
    with scaled_thresholds(network, 0.8) as neurons:
        assert list(neurons) == ["1", "3"]
        assert [network[1].v_threshold, network[3].v_threshold] == pytest.approx([0.8, 0.4])
        assert (network[1].v_reset, network[3].v_reset) == (0.0, None)
    assert [network[1].v_threshold, network[3].v_threshold] == [1.0, 0.5]
    assert all(torch.equal(old, new) for old, new in zip(weights, network.parameters(), strict=True))
    with pytest.raises(RuntimeError), scaled_thresholds(network, 2):
        raise RuntimeError
    assert network[1].v_threshold == 1.0, "also after an exception"


def test_a_lower_threshold_fires_more():
    torch.manual_seed(0)
    network, input = _network()[:2], torch.rand(64, 4) * 4
    counts = []
    for scale in (0.5, 1.0, 2.0):
        with torch.no_grad(), scaled_thresholds(network, scale):
            network[1].reset()
            counts.append(int(network(input).sum()))
    assert counts[0] > counts[1] > counts[2]


def test_a_shared_neuron_and_a_learned_threshold():
    shared = neuron.LIFNode(v_threshold=1.0)
    learned = neuron.LIFNode()
    learned.v_threshold = nn.Parameter(torch.tensor(0.6))
    network = nn.Sequential(shared, nn.Linear(4, 4), shared, learned)
    before = learned.v_threshold
    with scaled_thresholds(network, 0.5):
        assert shared.v_threshold == 0.5 and learned.v_threshold.item() == pytest.approx(0.3)
        assert isinstance(learned.v_threshold, nn.Parameter)
    assert learned.v_threshold is before
    scale_thresholds(network, 0.5)
    assert shared.v_threshold == 0.5


@pytest.mark.parametrize("odd", [neuron.PSN(T=2), OwnThreshold()])
def test_a_neuron_that_does_not_fire_at_its_v_threshold_is_an_error(odd):
    with pytest.raises(SpikeattnError, match=rf"1 of 3 neurons .* 4 \({type(odd).__name__}\).*sa.measured_sweep"):
        threshold_neurons(_network(odd))


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), True, "1"])
def test_what_is_no_scale(scale):
    with pytest.raises(SpikeattnError, match="give a finite number above 0"):
        scale_thresholds(_network(), scale)
