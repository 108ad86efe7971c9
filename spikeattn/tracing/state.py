"""The state of a model beside its parameters: what a pass may leave behind, to be compared with what was there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
