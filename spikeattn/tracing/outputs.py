"""What a forward pass gives: the class scores in it, and its form in words where it holds none."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from spikeattn.tracing.labels import IMAGE
from spikeattn.tracing.nested_tensors import logits_in, tensors_in
from spikeattn.tracing.origins import View

LOGITS = "logits"  # what transformers, torchvision's tuples and others call the class scores among what they give
_SHOWN = 4  # entries of an output in words


def named_entries(output: Any) -> dict[Any, Any] | None:
    """The entries of an output that names them: a dict, a dataclass, a named tuple; None of any other."""
    if isinstance(output, dict | UserDict):
        return dict(output)
    if is_dataclass(output) and not isinstance(output, type):
        return {entry.name: getattr(output, entry.name) for entry in fields(output)}
    names = getattr(output, "_fields", None)
    return dict(zip(names, output, strict=False)) if isinstance(output, tuple) and names else None


def scores_in(output: Any) -> Tensor | None:
    """What may be class scores in an output, or None.

    Of a dict, a dataclass or a named tuple the entry "logits", or the only tensor; where several tensors have other
    names, nothing says which it is. Of anything else the first tensor. A single number, as a loss is, is none.
    """
    entries = named_entries(output)
    if entries is None:
        return logits_in(output)
    if isinstance(called := entries.get(LOGITS), Tensor):
        return called if called.dim() else None
    tensors = [tensor for tensor in tensors_in(entries) if tensor.dim()]
    return tensors[0] if len(tensors) == 1 else None


def form_of(output: Any, views: Mapping[int, View], images: int) -> str:
    """An output in words, its shapes with B for the images: "[B, 10]", "dict of 'boxes' [B, 80, 4], 'scores' [B, 80]".

    Args:
        views: what tells the axes of its tensors, by the `id` of a tensor.
        images: of the batch that gave it.
    """
    if isinstance(output, Tensor):
        return f"[{', '.join(_axes(output, views.get(id(output)), images))}]"
    entries = named_entries(output)
    if entries is not None:
        held = {name: value for name, value in entries.items() if any(True for _ in tensors_in(value))}
        return f"{type(output).__name__} of {_listed(f'{n!r} {form_of(v, views, images)}' for n, v in held.items())}"
    if isinstance(output, list | tuple):
        kind = type(output).__name__
        if len(output) == images > 1 and len({type(value) for value in output}) == 1 and named_entries(output[0]):
            return f"{kind}, one for each image, of {form_of(output[0], views, images)}"
        return f"{kind} of {_listed(form_of(value, views, images) for value in output)}"
    return "None" if output is None else type(output).__name__


def _axes(tensor: Tensor, view: View | None, images: int) -> list[str]:
    """The sizes of a tensor, and B where the images lie along an axis."""
    label = None if view is None else view.label.get(IMAGE)
    places = label.shape if label is not None and label.dim() == tensor.dim() else (1,) * tensor.dim()
    return [
        str(size) if along == 1 or size % images else "B" if size == images else f"{size // images}*B"
        for size, along in zip(tensor.shape, places, strict=True)
    ]


def _listed(items: Iterable[str]) -> str:
    words = list(items)
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return (", ".join(words[:_SHOWN]) or "nothing") + more
