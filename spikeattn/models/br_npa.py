"""BR-NPA: a few representative token vectors instead of the global average, with the maps that made them.

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
`nonnegative` such tokens have weight 0. The heads here, which must train on any CNN, are nonnegative.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import base
from torch import Tensor, nn

from ..errors import SpikeattnError
from .high_resolution import distillation_loss, high_resolution
from .spike_driven import SpikeDrivenTransformer

__all__ = [
    "Representation",
    "RepresentativeNet",
    "RepresentativePooling",
    "RepresentativeTransformer",
    "attach",
    "distillation_loss",
    "explain",
    "head_macs",
    "high_resolution",
    "represent",
    "representative_vectors",
]

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


class RepresentativeTransformer(SpikeDrivenTransformer):
    """A Spike-driven Transformer that classifies by BR-NPA.

    The published model averages the membrane potential over tokens BEFORE the last LIF, which leaves that LIF no
    tokens. Here the LIF comes first and fires for every token; its firing rate over T is the feature map F
    [B, D, h, w] (`forward_features`), then BR-NPA, dropout and a linear layer give one logit vector per image
    [B, num_classes]. Module names are the published ones; `head` takes maps * D features.

    Args:
        maps: K; the other arguments are those of `SpikeDrivenTransformer`. `tet` has no meaning without logits at
            every time step and is refused.
        dropout: share of the K*D features dropped in training.
    """

    def __init__(self, maps: int = 3, dropout: float = 0.0, **arguments: Any) -> None:
        super().__init__(**arguments)
        if self.tet:
            raise SpikeattnError(
                "tet=True asks for logits at every time step, and BR-NPA reads the firing rate over all of them; "
                "create the model with tet=False"
            )
        self.config |= {"maps": maps, "dropout": dropout}
        self.pool = RepresentativePooling(maps)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(maps * self.config["embed_dim"], self.num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Firing rate of every token's last LIF: [B, D, h, w]."""
        x = self.patch_embed(self._over_time(x))
        for block in self.block:
            x = block(x)
        return self.head_lif(x).mean(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.pool(self.forward_features(x))))


class RepresentativeNet(nn.Module):
    """A timm network with a feature map [B, C, h, w], its pooling and classifier replaced by BR-NPA.

    `body` keeps timm's names and is used up to `forward_features`; [B, ...] images in, [B, num_classes] logits out.
    """

    def __init__(self, body: nn.Module, num_classes: int, maps: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.body, self.num_classes = body, num_classes
        self.pool = RepresentativePooling(maps)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(maps * body.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """The body's last feature map: [B, C, h, w]."""
        features = self.body.forward_features(x)
        if features.ndim != 4 or features.shape[1] != self.body.num_features:
            raise SpikeattnError(
                f"BR-NPA: forward_features of {type(self.body).__name__} gives {tuple(features.shape)}, not a map "
                f"[B, {self.body.num_features}, h, w]; it fits CNNs, and token networks only through "
                "representative_vectors on a map of your own"
            )
        return features

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.pool(self.forward_features(x))))


def attach(model: nn.Module, maps: int = 3, dropout: float = 0.0) -> RepresentativeTransformer | RepresentativeNet:
    """A copy of a Spike-driven Transformer or a timm CNN that pools by BR-NPA with `maps` vectors.

    The weights are kept. Where the old classifier is linear and reads the pooled channels, the new one starts as the
    old one applied to the mean of the vectors; train or fine-tune it: the pooling is another. The given model is left
    as it is.

    Raises:
        SpikeattnError: a model that is neither, one with tet, maps below 1, or a dropout outside [0, 1).
    """
    if isinstance(maps, bool) or not isinstance(maps, int) or maps < 1 or not 0 <= dropout < 1:
        raise SpikeattnError(f"attach takes maps from 1 and dropout in [0, 1); given are maps={maps!r}, {dropout=}")
    if isinstance(model, (RepresentativeTransformer, RepresentativeNet)):
        raise SpikeattnError(f"{type(model).__name__} has a BR-NPA head already; attach to the model it came from")
    with torch.random.fork_rng(devices=[]):
        attached = _attach_sdt(model, maps, dropout) if isinstance(model, SpikeDrivenTransformer) else None
        if attached is None:
            attached = _attach_timm(model, maps, dropout)
    reference = next(model.parameters())
    attached.to(reference.device, reference.dtype).train(model.training)
    for name in ("default_cfg", "pretrained_cfg"):
        if hasattr(model, name):
            setattr(attached, name, getattr(model, name))
    return attached


def _attach_sdt(model: SpikeDrivenTransformer, maps: int, dropout: float) -> RepresentativeTransformer:
    attached = RepresentativeTransformer(maps, dropout, **model.config)
    state = model.state_dict()
    attached.load_state_dict(state | {"head.weight": _shared_weight(model.head, maps)})
    return attached


def _attach_timm(model: nn.Module, maps: int, dropout: float) -> RepresentativeNet:
    needed = ("forward_features", "reset_classifier", "get_classifier", "num_features", "num_classes")
    missing = [name for name in needed if not hasattr(model, name)]
    if missing:
        raise SpikeattnError(
            f"attach takes a Spike-driven Transformer or a timm CNN; {type(model).__name__} has no "
            f"{', '.join(missing)}. For another network call representative_vectors on its last feature map"
        )
    body = deepcopy(model)
    body.reset_classifier(0)
    attached = RepresentativeNet(body, model.num_classes, maps, dropout)
    old = model.get_classifier() if model.num_classes else None
    if isinstance(old, nn.Linear) and old.in_features == model.num_features:
        with torch.no_grad():
            attached.head.weight.copy_(_shared_weight(old, maps))
            attached.head.bias.copy_(old.bias if old.bias is not None else torch.zeros_like(attached.head.bias))
    return attached


def _shared_weight(linear: nn.Linear, maps: int) -> Tensor:
    """Weight on `maps` concatenated vectors that gives the layer's answer to their mean: [classes, maps * C]."""
    return linear.weight.detach().repeat(1, maps) / maps


@torch.no_grad()
def explain(model: RepresentativeTransformer | RepresentativeNet, images: Tensor) -> Representation:
    """Logits, ranked maps and their activity for images [B, ...], from one pass in eval mode; neurons are reset."""
    if not isinstance(model, (RepresentativeTransformer, RepresentativeNet)):
        raise SpikeattnError(f"{type(model).__name__} has no BR-NPA head: explain(attach(model), images)")
    training = model.training
    _reset(model)
    try:
        model.eval()
        found = represent(model.forward_features(images), model.pool.maps, nonnegative=True)
        logits = model.head(found.vectors.flatten(1))
    finally:
        model.train(training)
        _reset(model)
    return Representation(**(vars(found) | {"logits": logits}))


def _reset(model: nn.Module) -> None:
    """Reset neurons alone: `functional.reset_net` also calls the `reset` of timm's classifiers, which is another."""
    for module in model.modules():
        if isinstance(module, base.MemoryModule):
            module.reset()
