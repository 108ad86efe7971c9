"""norse as its tutorials write it: nothing to pass, exact against brute force; runs where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.counting.brute_force import pictures
from tests.counting.frameworks import Frames, sums_of

NORSE_WEIGHTS = {f"net.{layer}.{kind}_weights" for layer in (0, 1) for kind in ("input", "recurrent")}


class Steps(nn.Module):
    """A still image at each of 16 steps, the state handed on by hand."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for _ in range(16):
            y, state = self.net(x, state)
            out.append(y)
        return torch.stack(out)


def test_norse_sequential_state() -> None:
    norse = pytest.importorskip("norse.torch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            cells = (nn.Linear(6, 8), norse.LIFCell(), nn.Linear(8, 5), norse.LIFCell(), nn.Linear(5, 3))
            self.net = norse.SequentialState(*cells, norse.LICell())

        def forward(self, x: Tensor) -> Tensor:
            state, out = None, []
            for _ in range(16):
                y, state = self.net(x, state)
                out.append(y)
            return torch.stack(out).mean(0)

    sums_of(Net(), pictures(3, 6) * 4, 16, 6 * 8 * 15)


def test_norse_lift() -> None:
    norse = pytest.importorskip("norse.torch")
    lifted = (norse.Lift(nn.Linear(6, 8)), norse.LIF(), norse.Lift(nn.Linear(8, 5)), norse.LIF())
    sums_of(Frames(norse.SequentialState(*lifted), time_first=True), pictures(3, 16, 6) * 4, 16)


def test_norse_recurrent_cells() -> None:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(norse.LIFRecurrentCell(6, 8), norse.LIFRecurrentCell(8, 5))
    profile = sums_of(Steps(net), pictures(3, 6) * 4, 16, 6 * 8 * 15)
    assert {s.name for s in profile.ledger.synapses} == NORSE_WEIGHTS


def test_norse_recurrent_over_time() -> None:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(norse.LIFRecurrent(6, 8), norse.LIFRecurrent(8, 5))
    profile = sums_of(Frames(net, time_first=True), pictures(3, 16, 6) * 4, 16)
    assert {s.name for s in profile.ledger.synapses} == NORSE_WEIGHTS


@pytest.mark.parametrize("name", ["LSNN", "LIFEx", "IAF"])
def test_norse_over_time(name: str) -> None:
    norse = pytest.importorskip("norse.torch")
    make = getattr(norse, name)
    lifted = (norse.Lift(nn.Linear(6, 8)), make(), norse.Lift(nn.Linear(8, 5)), make())
    sums_of(Frames(norse.SequentialState(*lifted), time_first=True), pictures(3, 16, 6) * 4, 16)


@pytest.mark.parametrize("name", ["LSNNCell", "LIFExCell", "IAFCell", "LIFRefracCell", "LIFBoxCell"])
def test_norse_cells(name: str) -> None:
    norse = pytest.importorskip("norse.torch")
    make = getattr(norse, name)
    cells = norse.SequentialState(nn.Linear(6, 8), make(), nn.Linear(8, 5), make())
    sums_of(Steps(cells), pictures(3, 6) * 4, 16, 6 * 8 * 15)


class Repeated(nn.Module):
    """A still image at each of 16 steps: laid side by side, and then taken step by step."""

    def __init__(self, net: nn.Module, how: str) -> None:
        super().__init__()
        self.net, self.how = net, how

    def forward(self, x: Tensor) -> Tensor:
        steps = x.expand(16, *x.shape) if self.how == "expand" else x.unsqueeze(0).repeat(16, 1, 1)
        if self.how == "written":
            steps[3] *= 0.5
        return self.net(steps)[0]


@pytest.mark.parametrize("how", ["expand", "repeat", "written"])
def test_norse_lift_on_a_still_image(how: str) -> None:
    """Lift runs its layer at every step; on a still image it is charged once, as in a loop or for all steps at once."""
    norse = pytest.importorskip("norse.torch")
    lifted = (norse.Lift(nn.Linear(6, 8)), norse.LIF(), norse.Lift(nn.Linear(8, 5)), norse.LIF())
    model = Repeated(norse.SequentialState(*lifted), how)
    sums_of(model, pictures(3, 6) * 4, 16, 0 if how == "written" else 6 * 8 * 15)


# What fires before the current of its step has reached it has spikes at its first step that wait for no input.
@pytest.mark.parametrize("name", ["LSNNRecurrent", "LIFExRecurrent", "LIFAdExRecurrent"])
def test_norse_recurrent_over_time_of_other_kinds(name: str) -> None:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(getattr(norse, name)(6, 8), getattr(norse, name)(8, 5))
    profile = sums_of(Frames(net, time_first=True), pictures(3, 16, 6) * 4, 16)
    assert {s.name for s in profile.ledger.synapses} == NORSE_WEIGHTS


@pytest.mark.parametrize("name", ["LSNNRecurrentCell", "LIFExRecurrentCell", "LIFRefracRecurrentCell"])
def test_norse_recurrent_cells_of_other_kinds(name: str) -> None:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(getattr(norse, name)(6, 8), getattr(norse, name)(8, 5))
    profile = sums_of(Steps(net), pictures(3, 6) * 4, 16, 6 * 8 * 15)
    assert {s.name for s in profile.ledger.synapses} == NORSE_WEIGHTS
