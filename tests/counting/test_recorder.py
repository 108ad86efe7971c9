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


class Attention(nn.Module):
    """A product of spikes of its own, behind one of constants in a module that another holds."""

    def __init__(self, friend: nn.Module) -> None:
        super().__init__()
        self.fire = neuron.LIFNode(v_threshold=0.2)
        self.__dict__["friend"] = friend

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.fire(x)
        return self.friend(spikes) + spikes @ spikes.transpose(-2, -1)


class Scores(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.bmm(torch.ones(1, 2, 3), torch.ones(1, 3, 2)).sum()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.friend, self.inner = Scores(), nn.Linear(4, 4)
        self.attention = Attention(self.friend)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(self.inner(x)).flatten(1)


def test_operations_are_those_of_the_module_at_work_whoever_holds_it() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    x = torch.rand(3, 5, 4)
    made = plan(net, x)
    assert [pairs.module for pairs in made.pairs] == ["attention"]
    seen = []
    handle = net.attention.fire.register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    with Recorder(net, made) as recorder, torch.no_grad():
        assert not net.inner._forward_pre_hooks  # nobody counts an operation there
        for batch in (x, x[:1]):
            with recorder.watching(len(batch)) as tally:
                counts = tally.collect(net(batch)).counts
            net.attention.fire.reset()
            per_image = seen[-1].sum(dim=-2).square().sum(dim=-1).numpy()
            assert per_image.min() > 0
            assert counts["pairs", made.pairs[0].name].tolist() == [per_image.tolist()]
    handle.remove()
