"""Small networks for recording tests, and one brute-force observer of a network's spikes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import sew_resnet, spike_driven_transformer, spikformer
from torch import Tensor, nn

from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from tests.models.sdt_oracle import exact_input, exact_weights


def repeat_input(model: nn.Module, images: Tensor) -> Tensor:
    return model(images.unsqueeze(0).repeat(4, 1, 1, 1, 1))


def loop_over_time(model: nn.Module, images: Tensor) -> Tensor:
    return torch.stack([model(images) for _ in range(4)]).mean(0)


def tiny_sdt(**changes) -> SpikeDrivenTransformer:
    """An SDT with weights whose sums are exact in any order."""
    config = {"img_size": 16, "num_classes": 10, "embed_dim": 32, "depth": 2, "num_heads": 4, "pooling_stat": "1001"}
    model = SpikeDrivenTransformer(**(config | changes)).eval()
    exact_weights(model)
    return model


def foreign(name: str) -> tuple[nn.Module, object]:
    """SpikingJelly's own networks, firing, and how to call them on [B, 3, 32, 32]."""
    torch.manual_seed(0)
    call = None
    if name == "sdt":
        model = spike_driven_transformer.SpikeDrivenTransformer(4, 3, 10, 32, 4, 2, pooling_stat="0011")
    elif name == "spikformer":
        model = spikformer.Spikformer(4, 3, 32, 32, 4, 10, 32, 4, 2, 2)
    else:
        _, cnf, mode = name.split("-")
        model = sew_resnet.sew_resnet18(
            cnf=cnf, spiking_neuron=neuron.IFNode, surrogate_function=surrogate.ATan(), num_classes=10
        )
        functional.set_step_mode(model, mode)
        call = repeat_input if mode == "m" else loop_over_time
    images = exact_input(4, 3, 32, 32)
    if call is loop_over_time:
        functional.set_step_mode(model, "m")
    calibrate_batch_norm(model.eval(), images.unsqueeze(0).repeat(4, 1, 1, 1, 1))
    if call is loop_over_time:
        functional.set_step_mode(model, "s")
    return model, call or (lambda m, x: m(x))


class Levels(nn.Module):
    """A network whose first neuron emits ternary or integer spikes."""

    def __init__(self, spiking: nn.Module) -> None:
        super().__init__()
        self.conv = layer.Conv2d(1, 4, 3, padding=1, step_mode="m")
        self.spiking = spiking
        self.conv2 = layer.Conv2d(4, 6, 3, stride=2, padding=1, step_mode="m")
        self.lif = neuron.LIFNode(step_mode="m")
        self.head = layer.Linear(6 * 16, 3, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        x = self.spiking(self.conv(x) * 4)
        x = self.lif(self.conv2(x))
        return self.head(x.flatten(2)).mean(0)


class Signs(neuron.BaseNode):
    """Ternary spikes: the sign of the input where it is above 1 in size."""

    def single_step_functional_forward(self, inputs, states, **kwargs):
        (x,) = inputs
        return ((x > 1).to(x) - (x < -1).to(x),), states


class Steps(neuron.BaseNode):
    """Integer spikes 0..4."""

    def single_step_functional_forward(self, inputs, states, **kwargs):
        return (inputs[0].round().clamp(0, 4),), states


def observe(model: nn.Module, images: Tensor, call=None) -> dict[str, Tensor]:
    """Outputs of every module in one forward pass, by dotted path; neurons reset before and after."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda m, a, out, name=name: seen.__setitem__(name, out.detach()))
        for name, module in model.named_modules()
        if name
    ]
    functional.reset_net(model)
    with torch.no_grad():
        call(model, images) if call else model(images)
    functional.reset_net(model)
    for handle in handles:
        handle.remove()
    return seen


def batches(images: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """(images, labels) in batches of `size`; labels 0, 1, 2 ..."""
    labels = torch.arange(len(images)) % 10
    return list(zip(images.split(size), labels.split(size), strict=True))


class Stages(nn.Module):
    """Convolution, neuron, `between`, convolution, neuron, head over T = 4 steps; `between` is what a test is about."""

    def __init__(self, between: Callable[[Tensor, Stages], Tensor] = lambda x, net: x) -> None:
        super().__init__()
        self.conv, self.conv2 = layer.Conv2d(3, 4, 3, padding=1), layer.Conv2d(4, 6, 3, stride=2, padding=1)
        self.norm, self.drop, self.head = layer.BatchNorm2d(4), layer.Dropout(0.5), layer.Linear(96, 5)
        self.lif, self.lif2, self.gate = neuron.IFNode(), neuron.IFNode(), neuron.IFNode()
        functional.set_step_mode(self, "m")
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean(0)

    def body(self, x: Tensor) -> Tensor:  # [T, B, 3, 8, 8]
        x = self.between(self.drop(self.lif(self.norm(self.conv(x)))), self)
        return self.head(self.lif2(self.conv2(x)).flatten(2))


def hooks_of(model: nn.Module) -> list[int]:
    """How many hooks every module has."""
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
