"""Tensors in whatever a call takes and gives."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Most arguments of most operations; asking whether they are dataclasses takes longer than all else here.
_PLAIN = {type(None), bool, int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format}
_UNREADABLE = ("float4", "bits")  # types that torch stores and does nothing with


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Tensors of nested tuples, lists, dicts and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    elif type(value) in _PLAIN:
        return
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict | UserDict):
        for item in value.values():
            yield from tensors_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from tensors_in(getattr(value, entry.name))


def modules_in(value: Any) -> Iterator[nn.Module]:
    """Modules of nested tuples, lists and dicts, in order."""
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from modules_in(item)


def logits_in(output: Any) -> Tensor | None:
    """The first tensor of what a forward pass gave that is no single number, as a loss is."""
    return next((tensor for tensor in tensors_in(output) if tensor.dim()), None)


def numbers_of(tensor: Tensor) -> Tensor | None:
    """The numbers that a tensor of any kind stores, as a plain tensor that torch computes with; None where nobody can
    tell: on the meta device, and in a class of tensors with a storage of its own.

    Of sparse tensors and nested ones the values that they store, of quantised ones the integers, of complex ones the
    real and imaginary parts.
    """
    if tensor.is_meta:
        return None
    if tensor.is_nested:
        return numbers_of(tensor.values())
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return None
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce().values()
    elif tensor.layout != torch.strided:
        tensor = tensor.values()
    if tensor.is_quantized:
        return tensor.int_repr()
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj())
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind.startswith(_UNREADABLE):
        return tensor.view(torch.uint8)
    return tensor.float() if kind.startswith("float8") else tensor
