"""Training and eval modes of a model, and torch's fast path of attention; given back as they were found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def in_eval(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; afterwards every module of it in the mode it had, also after an exception.

    `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` run as their layers: in eval mode they would be a single
    operation, whose inputs and outputs nobody sees.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with slow_attention():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def slow_attention() -> Iterator[None]:
    """Without the fast path of `nn.MultiheadAttention` and `nn.TransformerEncoderLayer`; afterwards as it was."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
