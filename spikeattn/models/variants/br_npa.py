"""BR-NPA heads: networks that classify by a few representative token vectors instead of the global average.

Gomez et al.: BR-NPA, a non-parametric high-resolution attention model to improve the interpretability of attention.
Pattern Recognition 2022, https://arxiv.org/abs/2106.02566

The vectors and their maps are in `representative.py`; here are the pooling, the networks that have it, attaching it to
a network, and explaining images by it. The heads, which must train on any CNN, are nonnegative.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from spikingjelly.activation_based import base
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.models.variants.high_resolution import distillation_loss, features_of, high_resolution
from spikeattn.models.variants.representative import Representation, head_macs, represent, representative_vectors
from spikeattn.tracing.modes import in_eval

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
        features: Any = body.num_features
        self.head = nn.Linear(maps * features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """The body's last feature map: [B, C, h, w]."""
        features = features_of(self.body)(x)
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
    attached: RepresentativeTransformer | RepresentativeNet
    with torch.random.fork_rng(devices=[]):
        if isinstance(model, SpikeDrivenTransformer):
            attached = _attach_sdt(model, maps, dropout)
        else:
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
    network: Any = model  # with the functions of timm's networks
    body: Any = deepcopy(model)
    body.reset_classifier(0)
    attached = RepresentativeNet(body, network.num_classes, maps, dropout)
    old = network.get_classifier() if network.num_classes else None
    if isinstance(old, nn.Linear) and old.in_features == network.num_features:
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
    _reset(model)
    try:
        with in_eval(model):
            found = represent(model.forward_features(images), model.pool.maps, nonnegative=True)
            logits = model.head(found.vectors.flatten(1))
    finally:
        _reset(model)
    return Representation(**(vars(found) | {"logits": logits}))


def _reset(model: nn.Module) -> None:
    """Reset neurons alone: `functional.reset_net` also calls the `reset` of timm's classifiers, which is another."""
    for module in model.modules():
        if isinstance(module, base.MemoryModule):
            module.reset()
