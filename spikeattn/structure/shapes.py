"""Run a model on shapes alone: parameters, buffers and images on the meta device, which computes no values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.tracing.overloads import overload

_RUNNING = ("native_batch_norm", "_native_batch_norm_legit_no_training")  # three results, the last two empty


class _Shortcuts(TorchDispatchMode):
    """Gives at once what torch takes longer for without values than with them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        facts = overload(func)
        if facts.mutable or not args or not isinstance(args[0], Tensor) or not args[0].is_meta:
            return func(*args, **kwargs)
        x = args[0]
        if facts.name in _RUNNING and not facts.arguments(args, kwargs).get("training"):
            return torch.empty_like(x), x.new_empty(0), x.new_empty(0)
        numbers = not any(isinstance(each, Tensor) for each in (*args[1:], *kwargs.values()))
        if facts.name == "clamp" and numbers and x.is_floating_point():
            return torch.empty_like(x)
        return func(*args, **kwargs)


class _NoDevicePaths(TorchFunctionMode):
    """Refuses what runs as other operations without values than with them, whose names would not be a ledger's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.scaled_dot_product_attention, F.multi_head_attention_forward):
            raise NotImplementedError(f"{func.__name__} takes another way on the meta device")
        return func(*args, **(kwargs or {}))


@contextmanager
def without_values(model: nn.Module) -> Iterator[None]:
    """Parameters and buffers of a model stand on the meta device; afterwards it is as it was.

    Whatever its modules keep meanwhile (a membrane, a cache) has no values either, and is dropped afterwards.
    """
    kept = [(module, dict(vars(module)), _states(module)) for module in model.modules()]
    memo: dict[int, Tensor] = {}
    try:
        for module in model.modules():
            for slot in ("_parameters", "_buffers"):
                tensors = vars(module)[slot]
                vars(module)[slot] = {key: _meta(x, memo) for key, x in tensors.items()}
        with _NoDevicePaths(), _Shortcuts():
            yield
    finally:
        for module, attributes, states in kept:
            vars(module).clear()
            vars(module).update(attributes)
            for name, state in states.items():
                vars(module)[name].clear()
                vars(module)[name].extend(state) if isinstance(state, list) else vars(module)[name].update(state)


def _states(module: nn.Module) -> dict[str, dict[Any, Any] | list[Any]]:
    """What a module keeps in dictionaries and lists, such as the memories of SpikingJelly's neurons."""
    return {
        name: value.copy() for name, value in vars(module).items() if type(value) in (dict, list) and name != "_modules"
    }


def _meta(tensor: Any, memo: dict[int, Tensor]) -> Any:
    if not isinstance(tensor, Tensor):
        return tensor
    if id(tensor) not in memo:
        shape = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(shape, requires_grad=False) if isinstance(tensor, nn.Parameter) else shape
    return memo[id(tensor)]
