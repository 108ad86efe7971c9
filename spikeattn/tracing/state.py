"""The state of a model beside its parameters: what a pass may leave behind, found or put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.tracing.nested_tensors import numbers_of

State = Mapping[str, tuple[Any, ...]]


def state_of(model: nn.Module) -> State:
    """Size and sum of every tensor that a module keeps besides its parameters: "path.attribute" -> what it holds."""
    state: dict[str, tuple[Any, ...]] = {}
    for path, module in model.named_modules():
        own = {k: v for k, v in vars(module).items() if not k.startswith("_")}
        for key, value in {**own, **dict(module._buffers.items()), **vars(module).get("_memories", {})}.items():
            sums = tuple((tuple(x.shape), float(torch.nan_to_num(x.double()).sum())) for x in _numbers_in(value))
            if sums:
                state[f"{path or type(model).__name__}.{key}"] = sums
    return state


def changed(before: State, after: State) -> str:
    """Names of up to three entries of `state_of` that are not what they were."""
    return ", ".join([name for name, value in after.items() if before.get(name) != value][:3])


@contextmanager
def state_kept(model: nn.Module) -> Iterator[None]:
    """What the modules keep, membrane potentials included, is afterwards what it was, also after an exception.

    The same tensors with the same numbers stand in the same places; what the modules have begun to keep is gone.
    """
    kept = [_Kept(module) for module in model.modules()]
    try:
        yield
    finally:
        for module in kept:
            module.put_back()


class _Kept:
    """What one module keeps beside its parameters and the modules inside it."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind = module, type(module)
        self.attributes = dict(vars(module))
        own = [vars(module)[name] for name in ("_buffers", "_memories") if name in vars(module)]
        own += [value for name, value in vars(module).items() if not name.startswith("_")]
        own = [held for held in own if isinstance(held, (list, dict, set))]  # a scripted module's buffers are no dict
        self.containers = [(held, copy(held)) for held in own]
        inside = [value for held in own for value in (held.values() if isinstance(held, dict) else held)]
        values = [*self.attributes.values(), *module.buffers(recurse=False), *inside]
        self.numbers = [(x, x._version, x.detach().clone()) for x in values if _may_be_written(x)]

    def put_back(self) -> None:
        if type(self.module) is not self.kind:
            return  # a lazy module has become what it stands for
        for name in [name for name in vars(self.module) if name not in self.attributes]:
            del vars(self.module)[name]
        vars(self.module).update(self.attributes)
        for held, before in self.containers:
            held.clear()
            (held.extend if isinstance(held, list) else held.update)(before)
        with torch.no_grad():
            for tensor, version, numbers in self.numbers:
                # Else nobody has written into it, and a graph may need it as it is. Batch norm in training mode writes
                # its running statistics without another version. On the meta device there are no numbers to compare.
                running = not tensor.is_meta and any(
                    tensor is getattr(self.module, name, None) for name in ("running_mean", "running_var")
                )
                if tensor._version != version or (running and not torch.equal(tensor, numbers)):
                    tensor.copy_(numbers)


def _may_be_written(value: Any) -> bool:
    """Whether a value is a tensor that tells when it is written, and whose numbers can be put back.

    Quantised ones cannot all be copied; they are weights, which no pass writes.
    """
    return isinstance(value, Tensor) and not (
        value.is_nested or value.is_quantized or value.is_inference() or isinstance(value, nn.Parameter)
    )


def _numbers_in(value: Any, depth: int = 3) -> Iterator[Tensor]:
    """The numbers of tensors in an attribute, its containers, and modules that hide in them."""
    if isinstance(value, Tensor):
        numbers = numbers_of(value.detach())
        if numbers is not None:
            yield numbers
    elif depth and isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers_in(item, depth - 1)
    elif depth and isinstance(value, nn.Module):
        for item in vars(value).values():
            yield from _numbers_in(item, depth - 1)
