"""BR-NPA heads: networks that classify by a few representative token vectors instead of the global average.

Gomez et al.: BR-NPA, a non-parametric high-resolution attention model to improve the interpretability of attention.
Pattern Recognition 2022, https://arxiv.org/abs/2106.02566

The vectors, their maps and the pooling are in `representative.py`, timm's networks with it in `representative_net.py`;
here are the Spike-driven Transformer with it, attaching it to a network, and explaining images by it. The heads, which
must train on any CNN, are nonnegative.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.compat.spiking import MemoryModule
from spikeattn.errors import SpikeattnError
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.models.variants.high_resolution import distillation_loss, high_resolution
from spikeattn.models.variants.representative import (
    Representation,
    RepresentativePooling,
    head_macs,
    represent,
    representative_vectors,
)
from spikeattn.models.variants.representative_net import RepresentativeNet, attach_timm, shared_weight
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

    def classify(self, vectors: Tensor) -> Tensor:
        """Logits [B, num_classes] of representative vectors [B, K, D]."""
        return self.head(self.dropout(vectors.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.pool(self.forward_features(x)).unflatten(1, (self.pool.maps, -1)))


def attach(
    model: nn.Module, maps: int = 3, dropout: float = 0.0, input_size: tuple[int, int, int] | None = None
) -> RepresentativeTransformer | RepresentativeNet:
    """A copy of a Spike-driven Transformer or a timm network that pools by BR-NPA with `maps` vectors.

    The weights are kept, and so is what stands between the pooling and the classifier, which starts as the old one
    applied to the mean of the vectors: where the tokens of a feature map are all alike the answer is that of the given
    model. Train or fine-tune it: the pooling is another. The given model is left as it is.

    Args:
        model: a Spike-driven Transformer; a timm network that pools over its tokens and has one linear classifier. Two
            images of noise are run through the latter to see that it fits.
        maps: K.
        dropout: share of the features before the classifier that is dropped in training.
        input_size: (C, H, W) of a timm network's images; default the one timm gives for it.

    Raises:
        SpikeattnError: a model that is neither or does not fit (a class token, several classifiers, more than
            a pooling between features and classifier that one token could stand for), one with tet, maps below 1, or a
            dropout outside [0, 1).
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
            attached = attach_timm(model, maps, dropout, input_size)
    reference = next(model.parameters())
    attached.to(reference.device, reference.dtype).train(model.training)
    for name in ("default_cfg", "pretrained_cfg"):
        if hasattr(model, name):
            setattr(attached, name, getattr(model, name))
    return attached


def _attach_sdt(model: SpikeDrivenTransformer, maps: int, dropout: float) -> RepresentativeTransformer:
    attached = RepresentativeTransformer(maps, dropout, **model.config)
    state = model.state_dict()
    strange = sorted(set(state) ^ set(attached.state_dict()))
    if strange:  # a subclass, or neurons that were replaced
        raise SpikeattnError(
            f"attach: {type(model).__name__} is no plain Spike-driven Transformer, {', '.join(strange[:3])} ... are "
            "not in both; attach to the model that it came from"
        )
    attached.load_state_dict(state | {"head.weight": shared_weight(model.head, maps)})
    return attached


@torch.no_grad()
def explain(model: RepresentativeTransformer | RepresentativeNet, images: Tensor) -> Representation:
    """Logits, ranked maps and their activity for images [B, ...], from one pass in eval mode; neurons are reset."""
    if not isinstance(model, (RepresentativeTransformer, RepresentativeNet)):
        raise SpikeattnError(f"{type(model).__name__} has no BR-NPA head: explain(attach(model), images)")
    _reset(model)
    try:
        with in_eval(model):
            found = represent(model.forward_features(images), model.pool.maps, nonnegative=True)
            logits = model.classify(found.vectors)
    finally:
        _reset(model)
    return Representation(**(vars(found) | {"logits": logits}))


def _reset(model: nn.Module) -> None:
    """Reset neurons alone: `functional.reset_net` also calls the `reset` of timm's classifiers, which is another."""
    for module in model.modules():
        if isinstance(module, MemoryModule):
            module.reset()
