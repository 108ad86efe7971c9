"""Make an untrained spiking network fire: batch-norm statistics from data instead of their initial (0, 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikeattn.errors import failing
from spikeattn.tracing.modes import in_eval
from spikeattn.tracing.neurons import reset


@torch.no_grad()
def calibrate_batch_norm(
    model: nn.Module, images: Tensor, forward: Callable[[nn.Module, Tensor], Any] | None = None
) -> None:
    """Set the running statistics of every batch norm to those of one batch [B, ...], in place.

    With random weights and the initial statistics (mean 0, variance 1) convolutions give values far below the
    threshold: a published SDT is all-silent before training. Neurons are reset before and after; the model's modes stay
    as they were. `forward` calls the model on the batch; by default `model(images)`.
    """
    momenta = {module: module.momentum for module in model.modules() if isinstance(module, _BatchNorm)}
    reset(model)
    try:
        with in_eval(model):
            for module in momenta:
                module.train()
                module.momentum = 1.0
            with failing(f"{type(model).__name__} fails on a batch of shape {tuple(images.shape)}"):
                forward(model, images) if forward is not None else model(images)
    finally:
        for module, momentum in momenta.items():
            module.momentum = momentum
        reset(model)
