"""Convolutions of other people's networks with the batch norms behind them folded in, and spikes added, not multiplied.

It is rounding that changes: sums run in another order, and a batch norm's product is taken before them, not after. So
spikes at the threshold may flip; whoever asks for it is told how many did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.fast import native
from spikeattn.fast.arena import empty
from spikeattn.fast.fused_layers import Layer, is_layer
from spikeattn.fast.fused_neuron import takes
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.taps import Plan

_CONVOLUTIONS = {"Conv1d": 3, "Conv2d": 4}  # with the number of axes of their input
_NORMS = ("BatchNorm1d", "BatchNorm2d")
_OPERATIONS = (
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit",
    "cudnn_batch_norm",
)


@dataclass(frozen=True)
class Pair:
    """A convolution and the batch norm that alone reads what it gives, by their paths.

    Attributes:
        spikes: what reaches the convolution is 0 and 1 by construction. Its weights are added then.
    """

    convolution: str
    norm: str
    spikes: bool


def pairs_of(model: nn.Module, plan: Plan, images: Tensor, forward: Callable[[nn.Module, Tensor], Any]) -> list[Pair]:
    """The pairs of a network in eval mode, proven by a pass: nothing else reads, or counts, what lies between."""
    modules = dict(model.named_modules())
    made = {path: m for path, m in modules.items() if is_layer(m, *_CONVOLUTIONS) and _is_free(plan, path, m)}
    norms = {
        path: m for path, m in modules.items() if is_layer(m, *_NORMS) and _is_free(plan, path, m) and _is_fixed(m)
    }
    readers = _Readers()
    with ExitStack() as hooks:
        for path, module in made.items():
            hooks.callback(module.register_forward_hook(partial(readers.note_made, path)).remove)
        for path, module in norms.items():
            hooks.callback(module.register_forward_pre_hook(partial(readers.enter, path)).remove)
            hooks.callback(module.register_forward_hook(readers.leave).remove)
        nodes.reset(model)
        try:
            with torch.no_grad(), readers:
                output = forward(model, images.clone())
        finally:
            nodes.reset(model)
    handed_out = {_storage(x) for x in tensors_in(output)}
    binary = {tap.name for tap in plan.taps if tap.binary}
    return readers.pairs(handed_out, {each.name for each in plan.ledger.synapses if each.input in binary})


class _Readers(TorchDispatchMode):
    """Notes who reads the memory that convolutions have filled."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, list[Tensor]] = defaultdict(list)  # held to the end, so that no memory is used again
        self._read: dict[int, list[tuple[str, str | None, int]]] = defaultdict(list)
        self._watched: set[int] = set()
        self._calls: dict[str, int] = defaultdict(int)
        self._inside: str | None = None

    def note_made(self, path: str, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            self._made[path].append(output)
            self._watched.add(_storage(output))

    def enter(self, path: str, module: nn.Module, args: Any) -> None:
        self._inside = path
        self._calls[path] += 1

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._inside = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = [x for x in tensors_in((args, kwargs or {})) if _storage(x) in self._watched]
        out = func(*args, **(kwargs or {}))
        if read:
            own = set() if func._schema.is_mutable else {_storage(x) for x in tensors_in(out)}
            for x in read:
                if _storage(x) not in own:  # else it is a view
                    name = func._schema.name.split("::")[1]
                    self._read[_storage(x)].append((name, self._inside, x.numel()))
        return out

    def pairs(self, handed_out: set[int], spikes: Container[str]) -> list[Pair]:
        found = []
        for path, outputs in self._made.items():
            key = _storage(outputs[0])
            reads = self._read[key]
            if len(outputs) > 1 or key in handed_out or len(reads) != 1:
                continue
            name, norm, size = reads[0]
            whole = size == outputs[0].numel() == outputs[0].untyped_storage().nbytes() // 4
            if norm is not None and name in _OPERATIONS and whole and self._calls[norm] == 1:
                found.append(Pair(path, norm, path in spikes))
        return found


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def _is_free(plan: Plan, path: str, module: Any) -> bool:
    """Whether nobody looks at what a module gives, or at what reaches it, but the modules themselves."""
    seen = any(tap.module == path and tap.where == "output" for tap in plan.taps)
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    weights = all(w.dtype == torch.float32 and w.device.type == "cpu" for w in module.parameters())
    return weights and not seen and not hooked and not hasattr(module, "parametrizations")


def _is_fixed(norm: Any) -> bool:
    return norm.running_mean is not None and norm.running_var is not None and not norm.training


def layers_of(convolution: Any, norm: Any, spikes: bool) -> tuple[Layer, Layer]:
    """What stands in place of a convolution, and of the batch norm behind it: both at once, and nothing."""
    both = _folded(convolution, norm, spikes)
    done = False

    def first(x: Tensor) -> Tensor | None:
        nonlocal done
        y = both(x)
        done = y is not None
        return y

    return first, lambda x: x if done else None


def _folded(convolution: Any, norm: Any, spikes: bool) -> Layer:
    weight, bias = _folded_weights(convolution, norm)
    axes = _CONVOLUTIONS[type(convolution).__name__]
    over_time = getattr(convolution, "step_mode", "s") == "m"
    square = weight.unflatten(2, (1, -1)) if axes == 3 else weight
    sizes = (square.shape[0], square.shape[3])
    packed = native.pack(square, bias) if spikes and _adds(convolution) else None

    def layer(x: Tensor) -> Tensor | None:
        if not takes(x) or x.dim() != axes + over_time:
            return None
        flat = x.flatten(0, 1) if over_time else x
        y = None if packed is None or not flat.is_contiguous() else _sum_spikes(flat, *packed, *sizes)
        if y is None:
            y = convolution._conv_forward(flat, weight, bias)
        return y.unflatten(0, x.shape[:2]) if over_time else y

    return layer


def _folded_weights(convolution: Any, norm: Any) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        shift = -norm.running_mean.double()
        if convolution.bias is not None:
            shift = shift + convolution.bias.double()
        bias = shift * scale
        if norm.bias is not None:
            bias = bias + norm.bias.double()
        weight = convolution.weight.double() * scale.view(-1, *[1] * (convolution.weight.dim() - 1))
        return weight.float().contiguous(), bias.float()


def _adds(convolution: Any) -> bool:
    """Whether the kernel that adds the weights of spikes takes a convolution of this form."""
    kernels = set(convolution.kernel_size)
    kernel = convolution.kernel_size[0]
    line = type(convolution).__name__ == "Conv1d"
    return (
        len(kernels) == 1
        and kernel % 2 == 1
        and not (line and kernel > 1)
        and convolution.padding_mode == "zeros"
        and all(each == kernel // 2 for each in convolution.padding)
        and {*convolution.stride, *convolution.dilation, convolution.groups} == {1}
    )


def _sum_spikes(x: Tensor, weight: Tensor, bias: Tensor, outputs: int, kernel: int) -> Tensor | None:
    """The convolution [N, O, *space] of whole numbers of spikes x [N, C, *space]; None where they are none.

    A number k is added as k spikes: of all that are at least 1, of those at least 2, and so on.
    """
    N, C, *space = x.shape
    P, map_size = prod(space), (space if len(space) == 2 else (1, *space))
    units = empty((1, N, *map_size, C), torch.uint8)
    most = native.call("to_bytes", x, units, N, C, P)
    if most < 0:
        return None
    total: Tensor | None = None
    zeros = torch.zeros_like(bias)
    for level in range(max(most, 1)):
        spikes = (units if most <= 1 else units > level).view(torch.bool).permute(0, 1, 4, 2, 3)
        total = native.conv(spikes, weight, bias if total is None else zeros, outputs, kernel, total)
    assert total is not None
    y = empty((N, outputs, *space))
    native.call("to_planes", total.permute(0, 1, 3, 4, 2), y, N, P, outputs)
    return y
