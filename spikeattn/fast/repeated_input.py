"""A convolution of a still image that a network repeats over time: run once, its result copied, the same to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.fast.arena import empty
from spikeattn.fast.fused_layers import Layer, is_layer
from spikeattn.fast.fused_neuron import is_identical, takes


@contextmanager
def noting_repeats(
    model: nn.Module, time_steps: int, muting: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[list[str]]:
    """A list, to which a pass inside adds the paths of the convolutions whose input is the same at every time step.

    Args:
        muting: operations inside are none of the network's, where somebody counts these.
    """
    found: list[str] = []

    def note(path: str, module: nn.Module, args: Any) -> None:
        if path in found or time_steps < 2:
            return
        with muting():
            parts = _parts(module, args[0] if args else None, time_steps)
            if parts is not None and bool(parts.any()) and _are_equal(parts):  # silence tells nothing
                found.append(path)

    modules = {path: module for path, module in model.named_modules() if _is_convolution(module)}
    handles = [module.register_forward_pre_hook(partial(note, path)) for path, module in modules.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def run_once(convolution: Any, time_steps: int) -> Layer:
    """What stands in place of a convolution; for each size of batch, what it gives is compared once."""
    known: dict[torch.Size, bool] = {}

    def layer(x: Tensor) -> Tensor | None:
        parts = _parts(convolution, x, time_steps)
        if parts is None or not known.get(x.shape, True) or not _are_equal(parts):
            return None
        once = convolution._conv_forward(parts[0], convolution.weight, convolution.bias)
        y = empty((time_steps, *once.shape))
        y.copy_(once)
        if x.shape not in known:  # PyTorch may take another algorithm for fewer images
            whole = convolution._conv_forward(parts.flatten(0, 1), convolution.weight, convolution.bias)
            known[x.shape] = is_identical(y.flatten(0, 1), whole)
            if not known[x.shape]:
                return None
        return y if x.dim() == parts.dim() else y.flatten(0, 1)

    return layer


def _is_convolution(module: nn.Module) -> bool:
    return is_layer(module, "Conv2d") and "forward" not in vars(module)


def _parts(convolution: nn.Module, x: Any, time_steps: int) -> Tensor | None:
    """The input of a convolution as [T, B, C, H, W]; None where it is none of all time steps, the first axis first."""
    if time_steps < 2 or not takes(x) or not x.is_contiguous():
        return None
    if getattr(convolution, "step_mode", "s") == "m":
        return x if x.dim() == 5 and len(x) == time_steps else None
    return x.unflatten(0, (time_steps, -1)) if x.dim() == 4 and len(x) % time_steps == 0 else None


def _are_equal(parts: Tensor) -> bool:
    return all(torch.equal(part, parts[0]) for part in parts[1:])
