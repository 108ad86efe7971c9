"""Six indicators of an attention layer, per head: for SVDA, for softmax attention and for spike-driven attention.

The names are those of the SVDA papers (see models/svda.py); the formulas are ours. With p_k = |s_k| / sum |s|:

    spectral_entropy    -sum p ln p of the spectrum s: the learned sigma of SVDA; the singular values of Q K^T for
                        softmax attention and of (Q*g) (K*V)^T for spikes, from a QR of each factor, never an N x N SVD
    effective_rank      exp(spectral_entropy)
    spectral_sparsity   share of |s_k| < eps * max|s|
    alignment           mean |cos(q_i, k_j)| over pairs of tokens; silent tokens do not count
    selectivity         mean over queries of 1 - H(A_i) / ln N: 0 for a uniform row, 1 for a single key
    robustness          1 - ||A' - A|| / ||A|| (Frobenius), A' from a perturbed input; negative where A changes by more
                        than its norm

A spike-driven attention has no map; A stands for (Q*g) (K*V)^T, integers, its rows divided by their sums for the
selectivity. K*V and not K, because a token votes for a channel's gate with k AND v: a spike of k where v is silent
opens nothing (`implied_map`). What is not defined, such as the spectrum of a map of zeros, is NaN, never a number that
looks like one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from spikeattn.compat.timm_names import Attention
from spikeattn.errors import SpikeattnError
from spikeattn.models.spike_driven import SpikeDrivenSelfAttention
from spikeattn.models.variants.svda import SvdaAttention
from spikeattn.tracing.modes import in_eval
from spikeattn.tracing.neurons import reset

SPECTRAL = ("spectral_entropy", "effective_rank", "spectral_sparsity")
INDICATORS = (*SPECTRAL, "alignment", "selectivity", "robustness")
EPS = 0.01  # of the largest singular value; smaller ones count as absent
NOISE = 0.1  # standard deviation of the perturbation over that of the layer's input
FLIPS = 0.01  # share of spikes that are deleted, and as many inserted elsewhere


def spectral(spectrum: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor, Tensor]:
    """Spectral entropy, effective rank and spectral sparsity [...] of spectra [..., K]; NaN for one of zeros."""
    size = spectrum.abs()
    p = size / size.sum(-1, keepdim=True)  # 0/0 is NaN, which the entropy keeps
    entropy = -torch.xlogy(p, p).sum(-1)
    sparsity = (size < eps * size.amax(-1, keepdim=True)).to(size).mean(-1)
    return entropy, entropy.exp(), torch.where(entropy.isnan(), entropy, sparsity)


def singular_values(q: Tensor, k: Tensor) -> Tensor:
    """Singular values [..., min(N, d)] of Q K^T, descending, from Q and K [..., N, d] without forming the product."""
    return torch.linalg.svdvals(torch.linalg.qr(q, "r").R @ torch.linalg.qr(k, "r").R.mT)


def alignment(q: Tensor, k: Tensor) -> Tensor:
    """Mean |cos(q_i, k_j)| [...] over pairs of tokens of Q and K [..., N, d]; rows of zeros do not count."""
    cosines = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).abs()
    pairs = q.any(-1).sum(-1) * k.any(-1).sum(-1)
    return cosines.sum((-2, -1)) / pairs  # a row of zeros has cosine 0


def selectivity(maps: Tensor) -> Tensor:
    """Mean over queries of 1 - H(A_i) / ln N [...] of maps [..., N, N] >= 0; rows of zeros do not count.

    Raises:
        SpikeattnError: one token, whose row can be neither uniform nor selective.
    """
    N = maps.shape[-1]
    if N < 2:
        raise SpikeattnError("selectivity compares a row of the map with a uniform one; it takes at least two tokens")
    sums = maps.sum(-1, keepdim=True)
    p = torch.where(sums > 0, maps / sums, 0)
    entropy = -torch.xlogy(p, p).sum(-1)
    live = sums[..., 0] > 0
    return torch.where(live, 1 - entropy / math.log(N), 0).sum(-1) / live.sum(-1)


def robustness(maps: Tensor, perturbed: Tensor) -> Tensor:
    """1 - ||A' - A|| / ||A|| [...] of two maps [..., N, N]; NaN where A is zero."""
    norm = torch.linalg.matrix_norm
    change = norm(perturbed - maps) / norm(maps)
    return 1 - torch.where(norm(maps) > 0, change, torch.nan)


def implied_map(q: Tensor, votes: Tensor, gate: Tensor) -> Tensor:
    """(Q*g) (K*V)^T [..., N, N]: the map that spike-driven attention implies; entry i, j counts channels.

    The gate of channel c is LIF(sum over tokens j of k_jc v_jc), and lets q_ic through (paper, eq. 13). So token j
    takes part in what token i sends on over the channels where j voted, k AND v, the gate opened, and i has a spike of
    q. K alone would count spikes of k that no v met: they add nothing to any gate.

    Args:
        q: spikes of the queries [..., N, d].
        votes: k AND v [..., N, d], behind Erode where the block has one: what the gate's neurons add up.
        gate: spikes of the gate [..., d].
    """
    return (q * gate[..., None, :]) @ votes.mT


def flipped(spikes: Tensor, rate: float, generator: Generator) -> Tensor:
    """Spikes [..., N, d] with a share `rate` of them deleted and, on average, as many inserted where there was none."""
    there = spikes != 0
    firing = there.to(torch.float32).mean((-2, -1), keepdim=True)
    inserted = rate * firing / (1 - firing).clamp(min=1e-12)
    draw = torch.rand(spikes.shape, generator=generator).to(spikes.device)
    return torch.where(there, spikes * (draw >= rate), (draw < inserted).to(spikes))


def measure(
    model: nn.Module, images: Tensor, *, noise: float = NOISE, flips: float = FLIPS, eps: float = EPS, seed: int = 0
) -> pd.DataFrame:
    """The indicators of every attention layer of a model on a batch of images.

    Args:
        model: with SVDA layers, timm's `Attention` or the Spike-driven Transformer's attention; run in eval mode, and
            left as it was. Spiking neurons are reset before and after.
        images: as the model takes them.
        noise: standard deviation of the Gaussian perturbation of a layer's input, over that of the input per image.
        flips: share of the spikes of Q, K and V that are deleted and inserted; the gate stays.
        eps: of the spectral sparsity.
        seed: of the perturbations, which are the same for every call.

    Returns:
        One row per layer and head: layer (dotted path), kind ("svda", "softmax" or "spikes"), head, the six
        `INDICATORS` averaged over the images (and time steps) where they are defined, and silent, the share of maps
        that are zero throughout.

    Raises:
        SpikeattnError: no attention layer of these kinds, or a perturbation out of range.
    """
    if not 0 <= noise < math.inf or not 0 <= flips <= 1 or not 0 <= eps <= 1:
        raise SpikeattnError(f"noise={noise}, flips={flips}, eps={eps}: give noise >= 0, flips and eps between 0 and 1")
    rows: list[dict[str, Any]] = []
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(), _capturing(model) as captured:
        model(images)
        for path, seen in captured.items():
            module: Any = model.get_submodule(path)
            if isinstance(module, SpikeDrivenSelfAttention):
                kind, found = "spikes", _spikes(module, seen, flips, eps, generator)
            elif isinstance(module, SvdaAttention):
                kind, found = "svda", _svda(module, seen["x"], noise, eps, generator)
            else:
                kind, found = "softmax", _softmax(module, seen["x"], noise, eps, generator)
            means = {name: value.flatten(0, -2).double().nanmean(0).tolist() for name, value in found.items()}
            for head in range(len(means["alignment"])):
                values = {name: value[head] for name, value in means.items()}
                rows.append({"layer": path, "kind": kind, "head": head, **values})
    return pd.DataFrame(rows, columns=["layer", "kind", "head", *INDICATORS, "silent"])


@contextmanager
def _capturing(model: nn.Module) -> Iterator[dict[str, dict[str, Tensor]]]:
    """Hooks that keep what the indicators need of each attention layer, in the order of the forward pass."""
    captured: dict[str, dict[str, Tensor]] = {}
    handles = []

    def keep_input(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            captured[path] = {"x": args[0] if args else kwargs["x"]}

        return hook

    def keep_output(path: str, name: str) -> Callable[..., None]:
        return lambda module, args, output: captured.setdefault(path, {}).update({name: output})

    for path, module in model.named_modules():
        if isinstance(module, SpikeDrivenSelfAttention):
            k, v = module.k_pool or module.k_lif, module.v_pool or module.v_lif
            for name, spikes in (("q", module.q_lif), ("k", k), ("v", v), ("gate", module.talking_heads_lif)):
                handles.append(spikes.register_forward_hook(keep_output(path, name)))
        elif isinstance(module, SvdaAttention) or type(module) is Attention:
            handles.append(module.register_forward_pre_hook(keep_input(path), with_kwargs=True))
    if not handles:
        raise SpikeattnError(
            f"{type(model).__name__} has no attention layer that the indicators know: SVDA, timm's Attention, or the "
            "attention of a Spike-driven Transformer"
        )
    reset(model)
    try:
        with in_eval(model):
            yield captured
    finally:
        for handle in handles:
            handle.remove()
        reset(model)


def _perturbed(x: Tensor, noise: float, generator: Generator) -> Tensor:
    draw = torch.randn(x.shape, generator=generator).to(x)
    return x + noise * x.std((-2, -1), keepdim=True) * draw


def _six(spectra: tuple[Tensor, ...], q: Tensor, k: Tensor, maps: Tensor, perturbed: Tensor) -> dict[str, Tensor]:
    found = dict(zip(SPECTRAL, spectra, strict=True))
    found |= {"alignment": alignment(q, k), "selectivity": selectivity(maps), "robustness": robustness(maps, perturbed)}
    return found | {"silent": (~maps.any(-1).any(-1)).float()}


def _svda(layer: SvdaAttention, x: Tensor, noise: float, eps: float, generator: Generator) -> dict[str, Tensor]:
    spectra = [spectral(sigma[:d], eps) for sigma, d in zip(layer.spectrum(), layer.directions, strict=True)]
    per_head = tuple(torch.stack(values)[None] for values in zip(*spectra, strict=True))  # [1, heads] each
    again = layer.attention(_perturbed(x, noise, generator))
    return _six(per_head, *layer.queries_keys(x), layer.attention(x), again)


def _softmax(layer: Attention, x: Tensor, noise: float, eps: float, generator: Generator) -> dict[str, Tensor]:
    def map_of(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, _ = layer.qkv(x).unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, N, d] each
        q, k = layer.q_norm(q), layer.k_norm(k)
        return q, k, (q @ k.mT * layer.scale).softmax(-1)

    q, k, maps = map_of(x)
    return _six(spectral(singular_values(q, k), eps), q, k, maps, map_of(_perturbed(x, noise, generator))[2])


def _spikes(
    layer: SpikeDrivenSelfAttention, seen: dict[str, Tensor], flips: float, eps: float, generator: Generator
) -> dict[str, Tensor]:
    weight: Any = layer.talking_heads.weight
    heads, size = len(weight), seen["q"].shape[3:]
    q, k, v = (_in_heads(seen[name], heads) for name in "qkv")  # [T, B, heads, N, d]
    gate = seen["gate"].flatten(2).unflatten(2, (heads, -1))  # [T, B, heads, d]

    def votes_of(k: Tensor, v: Tensor) -> Tensor:
        votes = k * v
        if layer.kv_pool is None:
            return votes
        grid = votes.mT.flatten(2, 3).unflatten(3, size)  # [T, B, D, H, W], as Erode takes it
        return _in_heads(layer.kv_pool(grid), heads)

    votes, others = votes_of(k, v), [flipped(spikes, flips, generator) for spikes in (q, k, v)]
    again = implied_map(others[0], votes_of(*others[1:]), gate)
    spectra = spectral(singular_values(q * gate[..., None, :], votes), eps)
    return _six(spectra, q, k, implied_map(q, votes, gate), again)


def _in_heads(x: Tensor, heads: int) -> Tensor:
    """[T, B, D, H, W] -> [T, B, heads, N, d]."""
    return x.flatten(3).unflatten(2, (heads, -1)).mT
