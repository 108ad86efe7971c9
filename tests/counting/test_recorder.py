"""A recorder leaves a model as it was, also where it cannot be opened."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from spikeattn.counting.recorder import Recorder
from spikeattn.tracing.examine import plan
from tests.counting.networks import hooks_of


def test_hooks_go_where_opening_fails_half_way() -> None:
    net = nn.Sequential(layer.Linear(4, 3), neuron.LIFNode(), nn.Linear(3, 2)).eval()
    whole = plan(net, torch.rand(2, 4))
    foreign = replace(whole.taps[-1], module="no such module", where="output")
    before = hooks_of(net)
    with pytest.raises(KeyError), Recorder(net, replace(whole, taps=(*whole.taps, foreign))):
        pass
    assert hooks_of(net) == before
    with Recorder(net, whole):
        assert hooks_of(net) != before
    assert hooks_of(net) == before
