"""The randomisation check: a map that explains a model must change when the model's weights do.

Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, https://arxiv.org/abs/1810.03292
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from spikeattn.attention.faithfulness import Array, check_maps, rank_correlation
from spikeattn.errors import SpikeattnError, unknown

MapFunction = Callable[[nn.Module, Tensor], Array]
ORDERS = ("cascade", "independent")
DRAWS = ("permute", "normal")


def randomisation_check(
    model: nn.Module,
    images: Tensor,
    map_function: MapFunction,
    significant: MapFunction | None = None,
    layers: Sequence[str] | None = None,
    order: str = "cascade",
    draw: str = "permute",
    seed: int = 0,
) -> pd.DataFrame:
    """Similarity of the maps of a model with those of the same model with re-drawn weights, layer by layer.

    Batch norms keep their statistics: a spiking network without them falls silent, and silence is no check of a map.

    Args:
        map_function: (model, images) -> maps [B, h, w]; it resets the model's neurons itself.
        significant: (model, images) -> booleans [B, h, w], for the agreement of what is significant.
        layers: dotted paths of layers with weights, first to last; default every convolution and linear layer.
        order: "cascade" re-draws from the last layer on and keeps what was re-drawn; "independent" one at a time.
        draw: "permute" shuffles the entries of each weight, which keeps their distribution; "normal" draws them from
            N(mean, std) of the layer. Biases stay.
        seed: of the draws; a layer's draw depends on it and on the layer's place in `layers`, not on `order`.

    Returns:
        One row per layer and image, in the order of re-drawing: layer, image, spearman, constant (the map of the
        re-drawn model has no structure; its spearman is 0), and with `significant` jaccard (1 where both are empty).

    Raises:
        SpikeattnError: no such layer, unknown order or draw, or maps that do not fit.
    """
    for kind, given, valid in (("order", order, ORDERS), ("draw", draw, DRAWS)):
        if given not in valid:
            raise unknown(kind, given, valid)
    weighted = [n for n, m in model.named_modules() if isinstance(m, (nn.modules.conv._ConvNd, nn.Linear))]
    chosen = list(weighted if layers is None else layers)
    for name in chosen:
        if name not in weighted:
            raise unknown("layer with weights", name, weighted)
    if not chosen:
        raise SpikeattnError(
            f"{type(model).__name__} has no convolution or linear layer whose weights could be re-drawn"
        )
    original = check_maps(map_function(model, images))
    marked = _booleans(significant(model, images)) if significant else None
    drawn, tables = deepcopy(model), []
    for place, name in reversed(list(enumerate(chosen))):
        layer: Any = drawn.get_submodule(name)
        weight: Tensor = layer.weight
        kept = weight.detach().clone()
        redraw(weight, draw, torch.Generator().manual_seed(seed * 1_000_003 + place))
        maps = check_maps(map_function(drawn, images))
        rows = {"layer": name, "image": np.arange(len(original)), "spearman": rank_correlation(original, maps)}
        rows["constant"] = np.ptp(maps, axis=(1, 2)) == 0
        if significant is not None:
            other = _booleans(significant(drawn, images))
            both, either = (marked & other).sum((1, 2)), (marked | other).sum((1, 2))
            rows["jaccard"] = np.where(either > 0, both / np.maximum(either, 1), 1.0)
        tables.append(pd.DataFrame(rows))
        if order == "independent":
            weight.data.copy_(kept)
    return pd.concat(tables, ignore_index=True)


@torch.no_grad()
def redraw(weight: Tensor, draw: str, generator: torch.Generator) -> None:
    """New entries of a weight in its place, as `draw` of `randomisation_check` says."""
    values = weight.detach().cpu().flatten()
    if draw == "permute":
        values = values[torch.randperm(len(values), generator=generator)]
    else:
        noise = torch.randn(len(values), generator=generator, dtype=torch.float64).to(values.dtype)
        values = values.mean() + noise * values.std(correction=0)
    weight.copy_(values.view_as(weight))


def _booleans(marks: Array) -> np.ndarray:
    marks = np.asarray(marks.cpu() if isinstance(marks, Tensor) else marks)
    if marks.dtype != bool or marks.ndim != 3:
        raise SpikeattnError(f"what is significant is {marks.dtype} {marks.shape}; it must be boolean [B, h, w]")
    return marks
