"""Training and eval modes of a model, and torch's fast path of attention; given back as they were found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from spikeattn.compat.torch_modes import slow_attention


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
