"""Networks whose images influence each other, or whose path changes: an error that names the module, never a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from tests.counting.brute_force import assert_exact, exact, pictures
from tests.counting.networks import Stages as Net

IF = neuron.IFNode
STEM = 3 * 64 * 4 * 27  # MACs of three time steps of the first convolution, on a still image charged once


class OwnLIF(nn.Module):
    """Keeps its potential from image to image; `resettable` gives it a reset that SpikingJelly would call."""

    def __init__(self, resettable: bool = False) -> None:
        super().__init__()
        self.potential: Tensor | float = 0.0
        if resettable:
            self.reset = lambda: setattr(self, "potential", 0.0)

    def forward(self, x: Tensor) -> Tensor:
        spikes = []
        for step in x:
            self.potential = self.potential * 0.5 + step
            spikes.append((self.potential > 1).float())
            self.potential = self.potential - spikes[-1]
        return torch.stack(spikes)


class FirstStage(Net):
    """`stage` stands for the first neuron; it may call it wrongly, or hide it."""

    def __init__(self, stage: Callable[[Tensor, Net], Tensor], **extra: object) -> None:
        super().__init__()
        self.stage = stage
        for name, value in extra.items():
            setattr(self, name, value)

    def body(self, x: Tensor) -> Tensor:
        return self.head(self.lif2(self.conv2(self.stage(self.conv(x), self))).flatten(2))


def image_after_image(x: Tensor, net: Net) -> Tensor:
    """[B*T, ...] for [T, B, ...]: what an image leaves behind reaches the next one, never the one before."""
    return net.own(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (-1, 4)).transpose(0, 1)


def moving_average(x: Tensor, net: Net) -> Tensor:
    net.average = 0.9 * net.average + 0.1 * x.mean()
    return net.lif(x - net.average)


def hidden_in_a_function() -> Callable[[Tensor, Net], Tensor]:
    own = IF(step_mode="m")
    return lambda x, net: own(x)


@pytest.mark.parametrize(
    ("net", "message"),
    [  # what QKFormer's published attention does: the neuron takes [T*B, ...] for T steps
        (lambda: FirstStage(lambda x, net: net.lif(x.flatten(0, 1)).view(x.shape)),
         r"mixes images: neuron lif runs along axis 0 .*hands its state from one image to the next"),
        (lambda: FirstStage(lambda x, net: net.lif(x.flatten(0, 1).view(x.shape[1], 4, 4, 8, 8).transpose(0, 1))),
         r"mixes images: neuron lif runs along axis 0"),
        (lambda: FirstStage(image_after_image, own=OwnLIF(resettable=True)),
         r"mixes images: .* in own joins them"),
        (lambda: FirstStage(lambda x, net: net.own(x), own=OwnLIF()), r"first at .*own.potential"),
        (lambda: FirstStage(moving_average, average=torch.zeros(())), r"mixes images: mean in FirstStage joins them"),
        (lambda: FirstStage(lambda x, net: net.own[0](x), own=[IF(step_mode="m")]), r"FirstStage.own keeps spiking"),
        (lambda: FirstStage(hidden_in_a_function()), "calls a IFNode that is no part of it when the run begins"),
        (lambda: FirstStage(lambda x, net: net.lif(x - x.mean(1, keepdim=True))), r"mixes images: mean in FirstStage"),
        (lambda: FirstStage(lambda x, net: net.lif(x + torch.randn_like(x))), r"draws random numbers in eval mode"),
        (lambda: IF(step_mode="m"), "the model is itself one spiking neuron, a IFNode"),
    ],
    ids=[
        "T*B as T", "scrambled", "later images", "own state", "average", "list", "closure", "batch mean", "noise",
        "bare",
    ],
)  # fmt: skip
def test_state_that_leaks_is_an_error_that_names_the_module(net: Callable[[], nn.Module], message: str) -> None:
    model, images = exact(net()), pictures(4, 3, 8, 8)
    with pytest.raises(sa.SpikeattnError, match=message):
        sa.profile(model, [images])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Silent(nn.Module):
    """A multi-step neuron that does not say so, on [T, B, ...] or whatever else it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.node = neuron.LIFNode(v_threshold=4.0, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.node(x)


def test_a_neuron_that_runs_over_images_is_found_by_its_state() -> None:
    """All images give it the same, so that no count moves when one of them is replaced."""
    net = nn.Sequential(nn.Linear(6, 8), Silent(), nn.Linear(8, 3))
    net[0].weight.data.zero_()
    with pytest.raises(sa.SpikeattnError, match="mixes images: .* in 1 joins them"):
        sa.profile(net, [pictures(4, 6)], neurons=lambda module: isinstance(module, Silent))


def test_of_several_neurons_that_run_over_images_the_first_is_named() -> None:
    net = nn.Sequential(*(m for _ in range(8) for m in (nn.Linear(6, 6), IF(step_mode="m"))))
    with pytest.raises(sa.SpikeattnError, match="mixes images: neuron 1 runs along axis 0"):
        sa.profile(exact(net), [pictures(4, 6)])


class Signpost(nn.Module):
    """One spike per step, at a place that the image before decides."""

    def forward(self, x: Tensor) -> Tensor:
        place = x.sum((0, 2)).roll(1).ge(0).long()
        return F.one_hot(place, x.shape[2]).to(x).repeat(len(x), 1, 1)


def test_a_leak_that_moves_spikes_without_changing_their_number_is_found() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.sign, self.head = nn.Linear(6, 8), Signpost(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.sign(self.fc(x).repeat(4, 1, 1))).mean(0)

    net = exact(Net())
    net.fc.weight.data.zero_()[0] = torch.tensor([5.0, -3, 2, -7, 1, 4])  # 4 for 0..5, -22 for the image in its place
    net.fc.bias.data.zero_()
    with pytest.raises(sa.SpikeattnError, match="mixes images|which image|lie in no order"):
        sa.profile(net, [torch.arange(6.0).repeat(2, 1)], neurons=lambda module: isinstance(module, Signpost))


def test_own_neurons_with_a_reset_and_seeded_noise_are_fine() -> None:
    images = pictures(4, 3, 8, 8)
    own = FirstStage(lambda x, net: net.own(x), own=OwnLIF(resettable=True))
    is_neuron = (IF, OwnLIF)
    profile = assert_exact(exact(own), images, macs_once=STEM, is_neuron=lambda m: isinstance(m, is_neuron))
    assert profile.ledger.tensor("own").maker == "neuron"
    noisy = FirstStage(lambda x, net: net.lif(x + torch.randn(x.shape[2:])))

    def seeded(model: nn.Module, x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return model(x)

    assert_exact(exact(noisy), images, seeded, macs_once=STEM)


def test_a_path_that_depends_on_the_input_is_an_error() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif, self.head = nn.Linear(6, 8), IF(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out = 0
            for t in range(4):
                out = out + self.head(self.lif(self.fc(x)))
                if t == 2 and float(x.abs().max()) > 5:
                    break
            return out

    images = pictures(2, 6)
    with pytest.raises(sa.SpikeattnError, match="appeared 3 times in this forward pass and 4 times in the first"):
        sa.profile(exact(Early()), [images, images * 9])


def test_neurons_that_are_never_called_are_named() -> None:
    profile = sa.profile(exact(Net()), [pictures(2, 3, 8, 8)])
    assert "idle: 1 neuron is never called in the forward pass, the first is gate" in profile.warnings


def test_a_reset_that_a_class_is_given_later_is_called() -> None:
    """As in a notebook: the first run says what is missing."""

    class Leaky(nn.Module):
        v = 0.0

        def forward(self, x: Tensor) -> Tensor:
            self.v = self.v * 0.5 + x
            return (self.v > 1).float()

    def forget(neuron: Leaky) -> None:
        neuron.v = 0.0

    net, images = nn.Sequential(nn.Linear(6, 8), Leaky(), nn.Linear(8, 3)).eval(), torch.rand(4, 6) * 4
    options: Any = {"neurons": lambda module: isinstance(module, Leaky)}
    with pytest.raises(SpikeattnError, match="first at 1 "):
        sa.profile(net, [images], **options)
    Leaky.reset = forget  # type: ignore[attr-defined]
    assert sa.profile(net, [images], **options).rates().filter(like="rate").max().max() > 0
