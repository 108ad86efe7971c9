"""Labels that are no class per image: masks, boxes, the next tokens. They are of no use here but to say so."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SHOWN = 4  # entries of a dict in words
_ROUNDING = 1e-3  # of a sum of shares in half precision


def form_of_targets(labels: Any, images: int) -> str | None:
    """Labels of another task than classification in words; None where they are one number per image, or should be.

    Those are dicts (boxes), lists of dicts, of tensors or of lists, and tensors with more than one number per image.
    Rows that share 1 among classes, as one-hot labels do, are classes in another form, and are left to the caller.

    Args:
        images: of the batch, for B in a shape.
    """
    if isinstance(labels, dict | UserDict):
        return _kind(labels)
    if shares(labels):
        return None
    if isinstance(labels, list | tuple) and labels:
        parts = [label for label in labels if isinstance(label, dict | UserDict | list | tuple) or _size(label) > 1]
        inner = {_kind(label) for label in parts}
        if inner:
            return f"{type(labels).__name__} of {sorted(inner)[0]}"
    shape = tuple(np.shape(labels)) if isinstance(labels, Tensor | np.ndarray) else ()
    if len(shape) < 2 or _size(labels) == shape[0]:
        return None
    first = "B" if shape[0] == images else "N"
    return f"[{', '.join(map(str, (first, *shape[1:])))}]"


def shares(labels: Any) -> bool:
    """Whether labels [B, classes] give every class its share of an image, as one-hot and mixed labels do."""
    try:
        values = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        return False
    if values.dim() != 2 or not len(values) or values.shape[1] < 2 or values.is_complex() or values.is_meta:
        return False
    values = values.double()
    return bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < _ROUNDING).all())


def _size(label: Any) -> int:
    return int(np.prod(np.shape(label))) if isinstance(label, Tensor | np.ndarray) else 1


def _kind(label: Any) -> str:
    """A part of the labels in words: a dict with its keys, the type of anything else."""
    if not isinstance(label, dict | UserDict):
        return type(label).__name__
    names = ", ".join(map(repr, list(label)[:_SHOWN]))
    return f"{type(label).__name__} of {names}{' and others' if len(label) > _SHOWN else ''}"
