"""Prescriptive pruning of SVDA: the spectrum says which directions of queries and keys can go.

The rule of https://arxiv.org/abs/2609.24370: of every head keep the smallest set of directions whose sum of sigma^2 is
at least rho of the whole, and remove the other rows of W_q and W_k. Queries and keys are then normalised over what is
left, so the scores of the kept directions change too; the accuracy afterwards has to be measured, not assumed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.models.variants.svda import SvdaAttention, layers


@dataclass(frozen=True)
class Pruned:
    """A pruned copy of a model and what was removed.

    Attributes:
        model: the copy; in the mode of the original.
        table: one row per layer: layer, directions (of all heads, before), kept, retained (the smallest share of a
            head's sum of sigma^2 that is left), macs and macs_pruned (per image, see `attention_macs`).
    """

    model: nn.Module
    table: pd.DataFrame


def kept_directions(sigma: Tensor, rho: float) -> Tensor:
    """Indices, ascending, of the smallest set of directions of sigma [d] with sum sigma^2 >= rho x the whole.

    Of directions with equal |sigma| the first are kept; at least one always is.

    Raises:
        SpikeattnError: rho outside (0, 1].
    """
    if not 0 < rho <= 1:
        raise SpikeattnError(f"rho={rho}: give the share of sigma^2 to keep, above 0 and at most 1 (1 removes zeros)")
    energy = sigma.detach().double().square()
    order = energy.argsort(descending=True, stable=True)
    running = energy[order].cumsum(0)
    count = int((running < rho * running[-1]).sum()) + 1
    return order[:count].sort().values


def prune(model: nn.Module, rho: float, tokens: int) -> Pruned:
    """A copy of a model whose SVDA layers keep the share `rho` of the energy of their spectra.

    Heads that share a spectrum lose the same directions. A pruned model can be pruned again, and trained.

    Args:
        model: with SVDA layers; it stays as it was.
        rho: share of the sum of sigma^2 that every head keeps.
        tokens: N, tokens of one image, with class and register tokens; the multiply-accumulates depend on it.

    Raises:
        SpikeattnError: no SVDA layer, or an argument out of range.
    """
    if tokens < 1:
        raise SpikeattnError(f"tokens={tokens}: give the number of tokens of an image, e.g. model.pos_embed.shape[1]")
    pruned = copy.deepcopy(model)
    rows = []
    for path, layer in layers(pruned).items():
        before, directions = attention_macs(layer, tokens), sum(layer.directions)
        retained = _prune_layer(layer, rho)
        rows.append((path, directions, sum(layer.directions), retained, before, attention_macs(layer, tokens)))
    columns = ["layer", "directions", "kept", "retained", "macs", "macs_pruned"]
    return Pruned(pruned, pd.DataFrame(rows, columns=columns))


def attention_macs(layer: SvdaAttention, tokens: int) -> int:
    """Multiply-accumulates of an SVDA layer for one image of N tokens, as they are executed.

    Projections, the products with K^T and V (of heads with fewer directions than another, the zeros beside them too),
    and sigma times q. The normalisation of q and k and the softmax are not multiply-accumulates.
    """
    N, heads, D = tokens, layer.num_heads, layer.qkv.in_features
    wide = heads * max(layer.directions)
    projections = N * D * layer.qkv.out_features + N * layer.attn_dim * layer.proj.out_features
    return projections + N * N * (wide + layer.attn_dim) + N * wide


@torch.no_grad()
def _prune_layer(layer: SvdaAttention, rho: float) -> float:
    """Remove rows in place; the smallest share of a head's energy that is left."""
    rows = sum(layer.directions)
    ends = torch.tensor(layer.directions).cumsum(0).tolist()
    spectra = [sigma[:d] for sigma, d in zip(layer.spectrum(), layer.directions, strict=True)]
    kept = [kept_directions(sigma, rho) for sigma in spectra]
    shares = [float(s[i].square().sum() / s.square().sum()) for s, i in zip(spectra, kept, strict=True) if s.any()]
    starts = [end - d for end, d in zip(ends, layer.directions, strict=True)]
    stay = torch.cat([start + i for start, i in zip(starts, kept, strict=True)])  # rows of q; those of k are as many on
    all_rows = torch.cat([stay, rows + stay, torch.arange(2 * rows, layer.qkv.out_features, device=stay.device)])
    qkv = layer.qkv
    layer.qkv = nn.Linear(
        qkv.in_features, len(all_rows), bias=qkv.bias is not None, device=qkv.weight.device, dtype=qkv.weight.dtype
    )
    layer.qkv.weight.copy_(qkv.weight[all_rows])
    if qkv.bias is not None:
        layer.qkv.bias.copy_(qkv.bias[all_rows])
    layer.sigma = nn.Parameter(layer.sigma[stay if layer.per_head else kept[0]].clone())
    layer.directions = [len(i) for i in kept]
    most = max(layer.directions)
    if len(set(layer.directions)) > 1:
        places = [head * most + torch.arange(n, device=stay.device) for head, n in enumerate(layer.directions)]
        layer.place = torch.cat(places)
    else:
        layer.place = None
    return min(shares, default=1.0)
