"""Max-pools and batch norms of other people's networks as kernels that give PyTorch's values to the bit.

PyTorch's pool of planes [H, W] takes one number at a time, and each of its results is new memory, which costs a page
fault per 4 KiB; these take whole rows, and memory that is used again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.fast import native
from spikeattn.fast.arena import empty
from spikeattn.fast.fused_neuron import is_identical, takes
from spikeattn.fast.pending_norm import Norm, put_off

Layer = Callable[[Tensor], Tensor | None]  # None for an input that the kernel does not take

_HOMES = ("torch.nn.modules.", "spikingjelly.activation_based.layer.")
_TRIED = (2, 37)  # images and positions that a batch norm is tried on: vectors and a rest


def is_layer(module: nn.Module, *names: str) -> bool:
    """Whether a module is a layer of torch's or SpikingJelly's of one of these classes, and no class made of one."""
    home = f"{type(module).__module__}."  # up to SpikingJelly 0.0.0.0.14 all layers stand in one file
    return type(module).__name__ in names and home.startswith(_HOMES)


def layer_of(module: nn.Module) -> Layer | None:
    """A kernel that does what a layer does; None for a layer that has none."""
    if "forward" in vars(module):
        return None
    if is_layer(module, "MaxPool2d"):
        return _pool(module)
    return _norm(module) if is_layer(module, "BatchNorm1d", "BatchNorm2d") else None


def _pool(module: Any) -> Layer | None:
    forms = (module.kernel_size, module.stride, module.padding, module.dilation)
    square = [{each} if isinstance(each, int) else set(each) for each in forms]
    if any(len(each) > 1 for each in square) or module.ceil_mode or module.return_indices:
        return None
    kernel, stride, padding, dilation = (each.pop() for each in square)
    if dilation != 1 or padding > kernel // 2:
        return None
    return Pool(kernel, stride, padding, axes=(4, 3) if getattr(module, "step_mode", "s") == "s" else (5,))


class Pool:
    """A max-pool of square windows, which runs a batch norm in front of it too."""

    def __init__(self, kernel: int, stride: int, padding: int, axes: tuple[int, ...]) -> None:
        self._form, self._axes = (kernel, stride, padding), axes

    def __call__(self, given: Tensor) -> Tensor | None:
        """What it gives for maps of so many `axes`, contiguous; perhaps those that a batch norm has put off."""
        x, norm = put_off(given)
        kernel, stride, padding = self._form
        if not (takes(x) and x.is_contiguous() and x.dim() in self._axes) or min(x.shape[-2:]) + 2 * padding < kernel:
            return None
        *outer, H, W = x.shape
        rows, columns = ((size + 2 * padding - kernel) // stride + 1 for size in (H, W))
        y = empty((*outer, rows, columns))
        native.call("max_pool", x, y, prod(outer), H, W, rows, columns, *self._form, ctypes.c_void_p(norm))
        return y


def _norm(module: Any) -> Layer | None:
    held = (module.running_mean, module.running_var, module.weight, module.bias)
    if not all(isinstance(w, Tensor) and w.dtype == torch.float32 and w.device.type == "cpu" for w in held):
        return None
    if module.training or not module.track_running_stats:
        return None
    with torch.no_grad():
        shift, scale = _coefficients(module)
        fused = next((way for way in (True, False) if _is_same(module, scale, shift, way)), None)
    if fused is None:
        return None
    first = 1 if getattr(module, "step_mode", "s") == "s" else 2
    axes = first + (3 if type(module).__name__ == "BatchNorm2d" else 2)

    return NormLayer(Norm(scale, shift, fused), first, axes)


class NormLayer:
    """A batch norm of maps of so many `axes`, contiguous, with their channels on one of them."""

    def __init__(self, norm: Norm, channels: int, axes: int) -> None:
        self.norm, self._channels, self._axes = norm, channels, axes

    def __call__(self, x: Tensor) -> Tensor | None:
        """What it gives, perhaps put off; None for maps of another form."""
        if not (takes(x) and x.is_contiguous() and x.dim() == self._axes):
            return None
        return self.norm(x, self._channels) if x.shape[self._channels] == self.norm.channels else None


def _coefficients(module: Any) -> tuple[Tensor, Tensor]:
    """What PyTorch adds, and what it multiplies by: its own results for 0, and for 1 about a mean of 0."""
    zeros = torch.zeros(1, module.num_features, 1)

    def norm(x: Tensor, mean: Tensor, bias: Tensor) -> Tensor:
        made = nn.functional.batch_norm(x, mean, module.running_var, module.weight, bias, False, 0.0, module.eps)
        return made.flatten()

    return norm(zeros, module.running_mean, module.bias), norm(zeros + 1, zeros.flatten(), zeros.flatten())


def _is_same(module: Any, scale: Tensor, shift: Tensor, fused: bool) -> bool:
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn((_TRIED[0], module.num_features, _TRIED[1]), generator=drawn) * 3
    held = (module.running_mean, module.running_var, module.weight, module.bias)
    expected = nn.functional.batch_norm(x, *held, False, 0.0, module.eps)
    return is_identical(Norm(scale, shift, fused).apply(x, _TRIED[1]), expected)
