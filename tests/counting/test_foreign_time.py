"""Time in networks that spikeattn does not know: loops of single-step neurons, shared modules, the order of axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

import spikeattn as sa
from tests.counting.brute_force import amounts, assert_exact, exact, pictures

IF, LIF = neuron.IFNode, neuron.LIFNode


def steps(x: Tensor, T: int = 4) -> Tensor:
    return x.unsqueeze(0).repeat(T, *[1] * x.dim())


class Loop(nn.Module):
    """Single-step neurons; the loop and all operations in the model itself. `tail` is what becomes of the spikes."""

    def __init__(self, tail: str) -> None:
        super().__init__()
        self.tail = tail
        self.stem, self.w1 = nn.Conv2d(3, 3, 1), nn.Parameter(torch.zeros(6, 3, 3, 3))
        self.w2 = nn.Parameter(torch.zeros(5, 6 * 16))
        self.lif1, self.lif2, self.head = IF(), IF(), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # once, before the loop
        seen, total, buffer = [], torch.zeros(len(x), 5), torch.zeros(4, len(x), 5)
        for t in range(4):
            spikes = self.lif1(F.conv2d(x, self.w1, stride=2, padding=1))
            spikes = self.lif2(F.linear(spikes.flatten(1), self.w2))
            seen.append(spikes)
            total += spikes
            buffer[t] = spikes
        return {
            "mean": lambda: self.head(torch.stack(seen).mean(0)),
            "stack": lambda: self.head(torch.stack(seen)).mean(0),
            "last": lambda: self.head(seen[-1]),
            "sum": lambda: self.head(total),
            "buffer": lambda: self.head(buffer).sum(0),
            "each": lambda: sum(self.head(spikes) for spikes in seen),
        }[self.tail]()


@pytest.mark.parametrize("tail", ["mean", "stack", "last", "sum", "buffer", "each"])
def test_a_loop_over_time_inside_forward(tail: str) -> None:
    """The stem and a head behind the loop run once per image; what is inside runs at every step."""
    model = exact(Loop(tail), seed=1)
    profile = assert_exact(model, pictures(3, 3, 8, 8), macs_once=3 * 16 * 6 * 27)
    assert profile.time_steps == 4
    every = {s.name: s.every_step for s in profile.ledger.synapses}
    assert every.pop("stem") is False and every.pop("head") is (tail in ("stack", "buffer", "each"))
    assert list(every.values()) == [True, True]
    spikes: list[Tensor] = []
    handle = model.lif1.register_forward_hook(lambda m, a, out: spikes.append(out.flatten(1).sum(1)))
    with torch.no_grad():
        model(pictures(3, 3, 8, 8))
    handle.remove()
    assert np.array_equal(profile.counts.column("nnz", "lif1"), torch.stack(spikes, 1).numpy())


class Recurrent(nn.Module):
    """The spikes of the last step come back: they are not those of the step that receives them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back, self.lif, self.head = nn.Linear(6, 8), nn.Linear(8, 8), IF(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        spikes, out = torch.zeros(len(x), 8), 0
        for _ in range(4):
            spikes = self.lif(self.fc(x) + self.back(spikes))
            out = out + self.head(spikes)
        return out


def test_recurrent_layers_receive_the_spikes_of_the_step_before() -> None:
    profile = assert_exact(exact(Recurrent()), pictures(3, 6), macs_once=3 * 48)
    received, given = (profile.counts.column("nnz", name) for name in ("back:in", "lif"))
    assert np.array_equal(received[:, 1:], given[:, :-1]) and not received[:, 0].any()
    containers = nn.Sequential(  # behind spikes; beside numbers see test_recurrent
        layer.Linear(6, 8, step_mode="m"), IF(step_mode="m"), layer.LinearRecurrentContainer(IF(), 8, 8, step_mode="m"),
        layer.Linear(8, 3, step_mode="m"),
    )  # fmt: skip
    assert_exact(exact(containers), pictures(3, 6), lambda model, x: model(steps(x)).mean(0), macs_once=3 * 48)


@pytest.mark.parametrize("mode", ["m", "s"])
def test_modules_called_several_times_per_step(mode: str) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif, self.head = nn.Linear(6, 6), IF(step_mode=mode), nn.Linear(6, 3)

        def step(self, x: Tensor) -> Tensor:
            for _ in range(3):  # the same weights and the same neuron, three times
                x = self.lif(self.fc(x) * 2)
            return self.head(x)

        def forward(self, x: Tensor) -> Tensor:
            return self.step(steps(x)).mean(0) if mode == "m" else sum(self.step(x) for _ in range(4))

    model = exact(Twice(), seed=5)
    if mode == "m":  # one neuron keeps its potential from call to call, also here
        profile = assert_exact(model, pictures(3, 6), macs_once=3 * 36)
    else:
        profile = assert_exact(model, pictures(3, 6), macs_once=3 * 36, time_steps=4)
        with pytest.raises(sa.SpikeattnError, match="neuron lif sees 12 time steps where 5 are expected"):
            sa.profile(model, [pictures(2, 6)], time_steps=5)
    assert [(s.name, s.input) for s in profile.ledger.synapses] == [
        ("fc", "input"), ("fc@2", "lif"), ("fc@3", "lif@2"), ("head", "lif@3"),
    ]  # fmt: skip


def test_a_layer_that_the_first_step_does_not_have() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.extra, self.lif = nn.Linear(6, 6), nn.Linear(6, 6), IF()

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.lif(self.fc(x))
            for _ in range(3):
                spikes = self.lif(self.fc(x) + self.extra(spikes))
            return spikes

    profile = sa.profile(exact(Skips()), [pictures(2, 6)])
    extra, received = profile.ledger.synapse("extra"), profile.counts.column("nnz", "extra:in")
    assert (profile.time_steps, extra.runs, extra.every_step) == (4, 3, True)
    assert np.array_equal(received[:, 1:], profile.counts.column("nnz", "lif")[:, :-1]) and not received[:, 0].any()


# -------------------------------------------------------------------------------------------------------------- axes
class BatchFirst(LIF):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1).contiguous()).transpose(0, 1)


@pytest.mark.parametrize("frames", [False, True])
def test_tensors_with_the_batch_first(frames: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.conv2, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3, stride=2), nn.Linear(8, 3)
            self.lif, self.lif2 = BatchFirst(step_mode="m"), BatchFirst(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            x = x if frames else x.unsqueeze(1).expand(-1, 4, -1, -1, -1)  # [B, T, C, H, W]
            x = self.lif(self.conv(x.flatten(0, 1)).unflatten(0, (len(x), 4)) * 4)
            x = self.lif2(self.conv2(x.flatten(0, 1)).unflatten(0, (len(x), 4)) * 4)
            return self.head(x.amax((3, 4))).mean(1)

    images = pictures(3, 4, 3, 8, 8) if frames else pictures(3, 3, 8, 8)
    model, once = exact(Net()), 0 if frames else 3 * 36 * 4 * 27
    profile = assert_exact(model, images, layout="BT", macs_once=once)
    assert profile.ledger.static_input is not frames and profile.ledger.tensor("input").shape == (3, 8, 8)
    derived = sa.profile(model, [images])
    assert derived.ledger.hash() == profile.ledger.hash() and amounts(derived) == amounts(profile)


class Folded(nn.Module):
    """A neuron between layers on [T*B, ...], or [B*T, ...]: it unfolds the axis and folds it again."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.lif, self.layout = LIF(step_mode="m"), layout

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "BT":
            return self.lif(x.unflatten(0, (-1, 4)).transpose(0, 1)).transpose(0, 1).flatten(0, 1)
        return self.lif(x.unflatten(0, (4, -1))).flatten(0, 1)


@pytest.mark.parametrize("outer", [False, True], ids=["SpikingJelly's neuron", "the module around it"])
@pytest.mark.parametrize("layout", ["TB", "BT"])
def test_time_and_images_in_one_axis(layout: str, outer: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3, stride=2, padding=1)
            self.lif, self.lif2, self.head = Folded(layout), Folded(layout), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x.repeat(4, 1, 1, 1) if layout == "TB" else x.repeat_interleave(4, 0)
            x = self.lif2(self.conv2(self.lif(self.conv(x) * 4)) * 4).amax((2, 3))
            return self.head(x).unflatten(0, (4, -1) if layout == "TB" else (-1, 4)).mean(layout.index("T"))

    options = {"time_steps": 4, "is_neuron": lambda m: isinstance(m, Folded)} if outer else {}
    profile = assert_exact(exact(Net()), pictures(3, 3, 8, 8), macs_once=3 * 36 * 4 * 27, **options)
    assert profile.time_steps == 4 and all(s.every_step for s in profile.ledger.synapses[1:])
    name = "lif" if outer else "lif.lif"
    model, spikes = Net(), []
    exact(model).lif.register_forward_hook(lambda m, a, out: spikes.append(out.flatten(1).sum(1)))
    with torch.no_grad():
        model(pictures(3, 3, 8, 8))
    seen = spikes[0].view(4, 3).T if layout == "TB" else spikes[0].view(3, 4)
    assert np.array_equal(profile.counts.column("nnz", name), seen.numpy())


@pytest.mark.parametrize("form", ["[B, T, C]", "[B, T, C] looped", "[B, T*C]", "[T, B, C]"])
@pytest.mark.parametrize("events", [False, True])
def test_input_that_varies_over_time(form: str, events: bool) -> None:
    """Real frames are multiplied at every step, events added at every step, whatever the form of the input."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
            self.lif = IF(step_mode="s" if form.endswith("looped") else "m")

        def forward(self, x: Tensor) -> Tensor:
            if form.endswith("looped"):
                return sum(self.head(self.lif(self.fc(x[:, t]))) for t in range(4))
            x = x.unflatten(1, (4, 5)) if form == "[B, T*C]" else x
            return self.head(self.lif(self.fc(x if form == "[T, B, C]" else x.transpose(0, 1)))).mean(0)

    x = pictures(3, 20) if form == "[B, T*C]" else pictures(3, 4, 5)
    x = x.round().abs() if events else x
    profile = assert_exact(exact(Net()), x, (lambda m, x: m(x.transpose(0, 1))) if form == "[T, B, C]" else None)
    assert not profile.ledger.static_input and sum(amounts(profile)["mac"]) == (0 if events else 3 * 4 * 40)


class OverTime(nn.Module):
    """Operations that mix the time steps of an image: they run once per image."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.fc, self.lif = nn.Linear(6, 8), IF(step_mode="m")
        self.conv, self.flat, self.head = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(32, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.lif(self.fc(steps(x)))  # [T, B, 8]
        images = spikes.transpose(0, 1)
        if self.how == "convolution":
            return self.conv(images.unsqueeze(1)).flatten(2).sum(2)
        if self.how == "flattened":
            return self.flat(images.flatten(1))
        if self.how == "attention":
            return self.head(images @ (images.transpose(1, 2) @ images)).mean(1)
        return self.head(spikes.sum(0))


@pytest.mark.parametrize("how", ["convolution", "flattened", "attention", "sum"])
def test_operations_over_the_time_axis(how: str) -> None:
    profile = assert_exact(exact(OverTime(how), seed=2), pictures(3, 6), macs_once=3 * 48)
    assert not any(entry.every_step for entry in (*profile.ledger.synapses, *profile.ledger.products)[1:]
                   if entry.op != "token_sum")  # fmt: skip


class Flattened(nn.Module):
    """A layer over all time steps of a neuron at once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.fc, self.lif, self.head = nn.Linear(6, 8), neuron.IFNode(step_mode="m"), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.lif(self.fc(x * 4).expand(4, -1, -1))
        return self.head(spikes.transpose(0, 1).flatten(1))


def test_neurons_whose_spikes_are_rearranged_are_charged_once() -> None:
    profile = sa.profile(Flattened(), [torch.rand(4, 6)])
    makers = {tensor.name: (tensor.maker, tensor.neuron) for tensor in profile.ledger.tensors}
    assert makers["lif"] == ("neuron", "IFNode") and makers["head:in"] == ("op", None)
    spikes = profile.counts.column("nnz", "lif").sum()
    assert profile.counts.column("nnz", "head:in").sum() == spikes > 0
    assert profile.over_time()["mean_rate"].iloc[-1] == pytest.approx(spikes / (4 * 4 * 8))
