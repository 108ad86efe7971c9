"""The control of randomised q and k: what of accuracy and of the maps survives when attention cannot have been learned.

A public benchmark (STEP, arXiv 2505.11151, by report) finds that it costs spiking transformers next to nothing.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.sanity import redraw
from spikeattn.stats.intervals import wilson_interval
from spikeattn.tracing.neurons import reset

from . import stored

DRAWN = ("q_conv", "k_conv")
NORM_IMAGES = 500  # training images that measure the batch norms behind permuted weights
BATCH = 50


def randomised(model: nn.Module, images: Tensor, seed: int = 0) -> nn.Module:
    """A copy with the entries of every q and k weight permuted, its batch norms behind them measured on `images`.

    Without new statistics most q and k neurons would fall silent or never rest, which would test that instead.
    """
    drawn = copy.deepcopy(model)
    names = [name for name, _ in drawn.named_modules() if name.split(".")[-1] in DRAWN]
    if not names:
        raise sa.SpikeattnError(f"{type(model).__name__} has no {' or '.join(DRAWN)}")
    for place, name in enumerate(names):
        layer = drawn.get_submodule(name)
        assert isinstance(layer.weight, Tensor)
        redraw(layer.weight, "permute", torch.Generator().manual_seed(seed * 1_000_003 + place))
    _measure_norms(drawn, [name.replace("_conv", "_bn") for name in names], images)
    return drawn


@torch.no_grad()
def _measure_norms(model: nn.Module, names: list[str], images: Tensor) -> None:
    """Statistics of these batch norms anew, all else in eval mode."""
    norms = [m for name in names for m in model.get_submodule(name).modules() if hasattr(m, "running_mean")]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for some in images.split(BATCH):
        model(some)
        reset(model)
    model.eval()


def accuracy(file: Path, about: dict[str, object], model: nn.Module, images: Tensor, labels: Tensor) -> pd.DataFrame:
    """One row, kept in `file`: `about`, the number of images, and the accuracy with its 95 % Wilson interval."""

    def row() -> pd.DataFrame:
        found = wilson_interval(_right(model, images, labels), len(labels))
        values = {"images": len(labels), "accuracy": found.value, "low": found.low, "high": found.high}
        return pd.DataFrame([about | values])

    return stored.table(file, row)


@torch.no_grad()
def _right(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Images classified right."""
    model.eval()
    total = 0
    for some, of in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        total += int((model(some).argmax(1) == of).sum())
        reset(model)
    return total
