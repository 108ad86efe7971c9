"""The representative vectors of BR-NPA: a few token vectors instead of the global average, with their maps.

Gomez et al.: BR-NPA, a non-parametric high-resolution attention model to improve the interpretability of attention.
Pattern Recognition 2022, https://arxiv.org/abs/2106.02566

The K vectors of an image are found one after the other: the most active token is picked, every token is weighted by its
cosine to it, and activity falls where tokens were alike. No parameters. B images, C channels, L = h * w tokens, K maps.

What a spiking backbone needs, and what it does here:

- A silent token has weight 0 and is never picked while another token spikes.
- An all-silent image gets uniform maps and zero vectors, and `Representation.silent` says so.
- Firing rates are k/T, so tokens tie often. Among tokens within `TIE` of the highest activity the first in raster order
  is picked. An image with fewer distinct active tokens than K picks some of them again.

Firing rates and features after a ReLU, as published, have cosines from 0 to 1. Of signed features the published formula
gives tokens that point away a negative weight, and weights grow without bound where cosines add up to almost 0; with
`nonnegative` such tokens have weight 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError

EPS = 1e-5  # added to every norm, as published
TIE = 1e-6  # relative difference of activities below which two tokens tie


@dataclass(frozen=True)
class Representation:
    """The representative vectors of a batch and how they came about.

    Attributes:
        vectors: [B, K, C].
        maps: [B, K, h, w], the weight of every token in each vector; a map sums to 1. Negative weights only where
            features are signed and `nonnegative` was not asked for.
        norms: [B, h, w], the length of every token's vector, 0 where it is silent.
        activity: [B, K], of the token that each map started from, when it was picked; it never rises with k.
        picked: [B, K], that token in raster order.
        silent: [B], whether no token of the image is active; its maps are uniform and mean nothing.
        logits: [B, classes] where a network made them.
    """

    vectors: Tensor
    maps: Tensor
    norms: Tensor
    activity: Tensor
    picked: Tensor
    silent: Tensor
    logits: Tensor | None = None

    @property
    def pictures(self) -> Tensor:
        """The maps as they are shown, weight times norm: [B, K, h, w], the most active first."""
        return self.maps * self.norms.unsqueeze(1)

    @property
    def saliency(self) -> Tensor:
        """One map per image, the sum of its pictures: [B, h, w]; zero where the image is silent."""
        return self.pictures.sum(1)


def representative_vectors(features: Tensor, maps: int = 3, nonnegative: bool = False) -> tuple[Tensor, Tensor]:
    """Features [B, C, h, w] -> (vectors [B, K, C], maps [B, K, h, w]), K = `maps`; see `represent` for the rest."""
    found = represent(features, maps, nonnegative)
    return found.vectors, found.maps


def represent(features: Tensor, maps: int = 3, nonnegative: bool = False) -> Representation:
    """The `maps` representative vectors of features [B, C, h, w], differentiable in the features.

    Half precision is computed in single precision.

    Args:
        features: [B, C, h, w].
        maps: K.
        nonnegative: cosines below 0 count as 0; only signed features have such.

    Raises:
        SpikeattnError: features that are no floating-point [B, C, h, w] with at least one token, or maps below 1.
    """
    tensor = isinstance(features, Tensor)
    if not tensor or features.ndim != 4 or not features.is_floating_point() or 0 in features.shape:
        given = f"{tuple(features.shape)} of {features.dtype}" if tensor else type(features).__name__
        raise SpikeattnError(
            f"BR-NPA: the features are {given}; it takes a floating-point map [B, C, h, w] with at least one token, "
            "such as the last feature map of a CNN or firing rates over time"
        )
    if isinstance(maps, bool) or not isinstance(maps, int) or maps < 1:
        raise SpikeattnError(f"BR-NPA: maps is {maps!r}; it is the number of vectors per image, a whole number from 1")
    with torch.autocast(features.device.type, enabled=False):
        return _represent(features, maps, nonnegative)


def _represent(features: Tensor, maps: int, nonnegative: bool) -> Representation:
    B, C, h, w = features.shape
    x = features.to(torch.promote_types(features.dtype, torch.float32)).flatten(2).transpose(1, 2)  # [B, L, C]
    length = torch.linalg.vector_norm(x, dim=2)
    norms = length + EPS  # [B, L]
    activity = norms.detach().masked_fill(length == 0, -torch.inf)  # a silent token is picked last
    rows = torch.arange(B, device=x.device)
    vectors, weights, levels, picked = [], [], [], []
    for _ in range(maps):
        top = activity.amax(1, keepdim=True)
        chosen = (activity >= top - TIE * top.abs()).to(torch.uint8).argmax(1)  # [B], the first of those that tie
        dots = (x @ x[rows, chosen].unsqueeze(2)).squeeze(2)
        cosine = dots / (norms * norms[rows, chosen].unsqueeze(1))  # [B, L]
        cosine = cosine.clamp(min=0) if nonnegative else cosine
        total = cosine.sum(1, keepdim=True)
        weight = torch.where(total != 0, cosine / total.masked_fill(total == 0, 1), 1 / (h * w))
        vectors.append((weight.unsqueeze(1) @ x).squeeze(1))
        weights.append(weight)
        levels.append(top.squeeze(1).clamp(min=0))
        picked.append(chosen)
        activity = activity * (1 - cosine.detach()).clamp(min=0)
    return Representation(
        vectors=torch.stack(vectors, 1).to(features.dtype),
        maps=torch.stack(weights, 1).unflatten(2, (h, w)),
        norms=length.unflatten(1, (h, w)),
        activity=torch.stack(levels, 1),
        picked=torch.stack(picked, 1),
        silent=(length == 0).all(1),
    )


def head_macs(channels: int, tokens: int, maps: int = 3, num_classes: int = 0) -> dict[str, int]:
    """Multiply-accumulates of the head per image; it runs once per image, not once per time step.

    "norms" are the squared lengths (L*C), "cosines" the dot products with each picked token (K*L*C), "sums" the
    weighted sums of tokens (K*L*C), "linear" the classifier (K*C*classes); "total" adds them up. Divisions and roots,
    of the order of K*L, are not multiply-accumulates. A profile's ledger holds cosines and sums as products and the
    classifier as a synapse, each once per image; it lists the norms and the mean over time as not counted. Global
    average pooling has L*C additions and C*classes MACs.
    """
    parts = {
        "norms": tokens * channels,
        "cosines": maps * tokens * channels,
        "sums": maps * tokens * channels,
        "linear": maps * channels * num_classes,
    }
    return parts | {"total": sum(parts.values())}


class RepresentativePooling(nn.Module):
    """The parameter-free head in place of global average pooling: [B, C, h, w] -> [B, K*C], K vectors in order."""

    def __init__(self, maps: int = 3) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, features: Tensor) -> Tensor:
        return representative_vectors(features, self.maps, nonnegative=True)[0].flatten(1)

    def extra_repr(self) -> str:
        return f"maps={self.maps}"
