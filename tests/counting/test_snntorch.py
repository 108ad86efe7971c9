"""snnTorch as its tutorials write it: nothing to pass, exact against brute force; runs where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from tests.counting.brute_force import amounts, pictures
from tests.counting.frameworks import STILL, Loop, T, rounded, sums_of


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Leaky", {"beta": 0.5}),
        ("Leaky", {"beta": 0.5, "reset_mechanism": "zero"}),
        ("Synaptic", {"alpha": 0.5, "beta": 0.5}),
        ("Alpha", {"alpha": 0.9, "beta": 0.8, "threshold": 0.25}),
        ("Lapicque", {"beta": 0.5}),
    ],
)
def test_snntorch_step_by_step(name: str, options: dict, hidden: bool) -> None:
    snntorch = pytest.importorskip("snntorch")
    make = getattr(snntorch, name)
    model = Loop(lambda width: make(**options, init_hidden=hidden), None if hidden else 1)
    sums_of(model, pictures(3, 6), T, STILL)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("name", ["RLeaky", "RSynaptic"])
def test_snntorch_recurrent(name: str, hidden: bool) -> None:
    snntorch = pytest.importorskip("snntorch")
    options = {"beta": 0.5, "init_hidden": hidden} | ({"alpha": 0.5} if name == "RSynaptic" else {})
    model = Loop(lambda width: getattr(snntorch, name)(**options, linear_features=width), None if hidden else 0)
    profile = sums_of(model, pictures(3, 6), T, STILL)
    assert {s.name for s in profile.ledger.synapses} == {"fc1", "fc2", "lif1.recurrent", "lif2.recurrent"}


def test_snntorch_recurrent_convolution() -> None:
    snntorch = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.read = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3)
            self.lif = snntorch.RLeaky(beta=0.5, conv2d_channels=3, kernel_size=3, init_hidden=True)
            self.out = snntorch.Leaky(beta=0.5, init_hidden=True)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.out(self.read(self.lif(self.conv(x)))) for _ in range(T)])

    sums_of(Net(), pictures(3, 2, 6, 6), T, 2 * 3 * 9 * 16 * (T - 1))


class Tutorial(nn.Module):
    """A Sequential whose neurons keep their state, as in snnTorch's tutorials; the last one hands it out as well."""

    def __init__(self, resets: bool) -> None:
        super().__init__()
        snntorch = pytest.importorskip("snntorch")

        def leaky(**options: bool) -> nn.Module:
            return snntorch.Leaky(beta=0.5, init_hidden=True, **options)

        first = (nn.Conv2d(1, 4, 3), leaky(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), leaky(), nn.Flatten())
        self.net, self.resets = nn.Sequential(*first, nn.Linear(16, 5), leaky(output=True)), resets

    def forward(self, x: Tensor) -> Tensor:
        if self.resets:
            pytest.importorskip("snntorch.utils").reset(self.net)
        frames = x.transpose(0, 1) if x.dim() == 5 else [x] * T
        return torch.stack([self.net(frame)[0] for frame in frames])


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("frames", [False, True])
def test_snntorch_sequential_with_hidden_states(resets: bool, frames: bool) -> None:
    images = pictures(3, 5, 1, 8, 8) if frames else pictures(3, 1, 8, 8)
    sums_of(Tutorial(resets), images * 2, 5 if frames else T, 0 if frames else 4 * 9 * 36 * (T - 1))


def test_snntorch_lstm_by_hand() -> None:
    snntorch = pytest.importorskip("snntorch")
    model = rounded(Loop(lambda width: snntorch.SLSTM(width, width, threshold=0.0625), 1))
    profile = sa.profile(model, [pictures(3, 6)])
    # The first layer and the gates on a still image once; gates on numbers and on the membrane potential at every step.
    by_hand = 6 * 8 + 8 * 32 + T * (8 * 32 + 5 * 20 + 5 * 20)
    assert amounts(profile)["mac"] == [by_hand] * 3 and not profile.ledger.uncounted


@pytest.mark.parametrize("options", [{}, {"max_pool": 2}, {"reset_mechanism": "zero"}])
def test_snntorch_convolutional_lstm_by_hand(options: dict) -> None:
    """One convolution over its input, spikes, and its membrane potential, numbers: exact by channel."""
    snntorch = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lif = nn.Conv2d(2, 2, 3, padding=1), snntorch.Leaky(beta=0.5, init_hidden=True)
            self.lstm = snntorch.SConv2dLSTM(2, 3, 3, threshold=0.0625, init_hidden=True, **options)
            self.read, self.out = nn.Conv2d(3, 2, 3), snntorch.Leaky(beta=0.5, init_hidden=True)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.out(self.read(self.lstm(self.lif(self.conv(x))))) for _ in range(T)])

    model, images = rounded(Net()), pictures(3, 2, 6, 6)
    additions = torch.zeros(3)
    received: list[tuple[Tensor, int]] = []
    model.lstm.conv.register_forward_pre_hook(lambda module, args: received.append((args[0][:, :2], 12)))
    model.read.register_forward_pre_hook(lambda module, args: received.append((args[0], 2)))
    with torch.no_grad():
        model(images)
    for spikes, out in received:
        padding = 1 if out == 12 else 0
        additions += nn.functional.conv2d(spikes, torch.ones(out, spikes.shape[1], 3, 3), padding=padding).sum(
            (1, 2, 3)
        )
    runs = T * (2 if options.get("reset_mechanism") == "zero" else 1)
    assert len(received) == runs + T
    found = sa.profile(model, [images])
    assert not found.ledger.uncounted and found.time_steps == T
    assert amounts(found)["sop"] == additions.int().tolist()
    assert amounts(found)["mac"] == [2 * 2 * 9 * 36 + runs * 3 * 12 * 9 * 36] * 3


def test_snntorch_parallel_by_hand() -> None:
    snntorch = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = snntorch.LeakyParallel(6, 8, beta=0.5)
            self.two = snntorch.LeakyParallel(8, 5, beta=0.5, weight_hh_enable=True, threshold=0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x.transpose(0, 1)))

    model, images = rounded(Net()), pictures(3, 7, 6) * 2
    with torch.no_grad():
        spikes = model.one(images.transpose(0, 1))
    found = sa.profile(model, [images[:2], images[2:]])
    assert not found.ledger.uncounted and found.time_steps == 7 and spikes.any()
    assert amounts(found)["sop"] == (5 * spikes.sum((0, 2))).int().tolist()
    # The recurrent weights are a whole matrix, on membrane potentials, at every step.
    assert amounts(found)["mac"] == [7 * (6 * 8 + 8 * 8 + 5 * 5)] * 3


@pytest.mark.parametrize("order", ["spikes first", "potential first"])
def test_spikes_and_potentials_side_by_side(order: str) -> None:
    """A layer behind both adds weights for the spikes and multiplies the potentials, each by its columns."""
    snntorch = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(6, 8), snntorch.Leaky(beta=0.5)
            self.fc2, self.lif2 = nn.Linear(16, 5), snntorch.Leaky(beta=0.5)

        def forward(self, x: Tensor) -> Tensor:
            mem1, mem2, out = self.lif1.init_leaky(), self.lif2.init_leaky(), []
            for _ in range(T):
                spikes, mem1 = self.lif1(self.fc1(x), mem1)
                pair = [spikes, mem1] if order == "spikes first" else [mem1, spikes]
                fired, mem2 = self.lif2(self.fc2(torch.cat(pair, 1)), mem2)
                out.append(spikes)
            return torch.stack(out)

    model, images = rounded(Net()), pictures(3, 6)
    with torch.no_grad():
        spikes = model(images)
    found = amounts(sa.profile(model, [images[:2], images[2:]]))
    assert spikes.any() and found["sop"] == (5 * spikes.sum((0, 2))).int().tolist()
    assert found["mac"] == [6 * 8 + T * 8 * 5] * 3
