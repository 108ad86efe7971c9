"""Gradient-weighted attention of the twin, for which `attention_map` has none.

As in Chefer, Gur, Wolf, CVPR 2021, https://arxiv.org/abs/2012.09838: a matrix of softmax attention times the gradient
of the predicted class's logit, its positive part, averaged over heads; here also over queries, as "received" is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.models.ann import SoftmaxProducts


def received(model: nn.Module, images: Tensor) -> Tensor:
    """Scores [B, layer, h, w]."""
    layers = [module for module in model.modules() if isinstance(module, SoftmaxProducts)]
    operands: list[tuple[Tensor, ...]] = []
    mixed: list[Tensor] = []

    def note(_: nn.Module, given: Any, out: Tensor) -> None:
        operands.append(given)
        mixed.append(out)

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.enable_grad():
            logits = model(images.detach().clone().requires_grad_())
            gradients = torch.autograd.grad(logits.max(1).values.sum(), mixed)
    finally:
        for handle in handles:
            handle.remove()
    maps = []
    for layer, given, gradient in zip(layers, operands, gradients, strict=True):
        q, k, v, g = (x.detach().flatten(2).unflatten(1, (layer.num_heads, -1)).mT for x in (*given, gradient))
        matrix = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        credit = (matrix * (g @ v.mT)).clamp(min=0).mean((1, 2))  # of every key, [B, N]
        maps.append(credit.view(-1, *given[0].shape[-2:]))
    return torch.stack(maps, 1)
