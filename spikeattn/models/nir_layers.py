"""Layers of NIR graphs without memory, as torch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.compat.nir_file import NirNode


class Scale(nn.Module):
    """Every element times a number of its own; one number for all of them folds into the weights behind."""

    scale: Tensor

    def __init__(self, scale: Any) -> None:
        super().__init__()
        values = np.asarray(scale, dtype=np.float32)
        self.register_buffer("scale", torch.from_numpy(values))
        self.factor = float(values.flat[0]) if np.unique(values).size == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale if self.factor is None else x * self.factor


def _linear(node: NirNode) -> nn.Module:
    weight = node.parameters["weight"]
    if weight.ndim != 2:
        raise ValueError(f"weights of shape {weight.shape}; supported is one matrix, [outputs, inputs]")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=_has_bias(node))
    return _filled(layer, node)


def _conv(node: NirNode) -> nn.Module:
    p, spatial = node.parameters, int(node.kind[4])
    weight, groups = p["weight"], int(p["groups"])
    padding = p["padding"] if isinstance(p["padding"], str) else _sizes(p["padding"], spatial)
    layer = (nn.Conv1d if spatial == 1 else nn.Conv2d)(
        weight.shape[1] * groups, weight.shape[0], weight.shape[2:], stride=_sizes(p["stride"], spatial),
        padding=padding, dilation=_sizes(p["dilation"], spatial), groups=groups, bias=_has_bias(node),
    )  # fmt: skip
    return _filled(layer, node)


def _has_bias(node: NirNode) -> bool:
    """Whether there is a bias: NIR's convolutions have no other way than zeros to say that there is none."""
    return "bias" in node.parameters and bool(np.any(node.parameters["bias"]))


def _filled(layer: Any, node: NirNode) -> nn.Module:
    for name, parameter in layer.named_parameters():
        value = torch.from_numpy(np.ascontiguousarray(node.parameters[name], dtype=np.float32))
        if value.shape != parameter.shape:
            raise ValueError(f"{name} of shape {tuple(value.shape)} where {tuple(parameter.shape)} belongs")
        parameter.data = value
    return layer


def _pool(node: NirNode) -> nn.Module:
    p = node.parameters
    kernel, stride, padding = (_sizes(p[name], 2) for name in ("kernel_size", "stride", "padding"))
    # A sum is an average that divides by one: spikes stay whole numbers, one for each that has come in.
    return nn.AvgPool2d(kernel, stride, padding, divisor_override=1 if node.kind == "SumPool2d" else None)


def _flatten(node: NirNode) -> nn.Module:
    """NIR counts axes without that of the images."""
    start, end = (int(node.parameters[name]) for name in ("start_dim", "end_dim"))
    return nn.Flatten(start + (start >= 0), end + (end >= 0))


def _sizes(value: Any, number: int) -> Any:  # torch's types want tuples of a length that is known
    """A size per axis, from one of each or one for all."""
    sizes = tuple(int(n) for n in np.atleast_1d(value))
    return sizes * number if len(sizes) == 1 else sizes


LAYERS: Mapping[str, Callable[[NirNode], nn.Module]] = {
    "Affine": _linear,
    "AvgPool2d": _pool,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "Flatten": _flatten,
    "Identity": lambda node: nn.Identity(),
    "Linear": _linear,
    "Scale": lambda node: Scale(node.parameters["scale"]),
    "SumPool2d": _pool,
}
