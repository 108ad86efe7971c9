"""BR-NPA in a timm network: its pooling is replaced, and what stands between pooling and classifier stays.

A timm network is forward_head(forward_features(x)), and forward_head is a pooling over the tokens, whatever stands
behind it (nothing in a ResNet, a norm in a ConvNeXt or an averaging ViT, a convolution and its activation in a
MobileNetV3) and the classifier. The pooled value of a map with a single token is that token, so forward_head without
its classifier takes every representative vector, as such a map, to what the classifier reads.

None of this is taken on trust: attaching runs the network and its head on the same images, and on maps whose tokens are
all alike, where any average is the token itself. Where the answers differ it stops and says so.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.models.variants.feature_layout import FeatureLayout, layout_of
from spikeattn.models.variants.high_resolution import features_of, image_size_of
from spikeattn.models.variants.representative import RepresentativePooling
from spikeattn.tracing.modes import in_eval

NEEDED = ("forward_features", "forward_head", "get_classifier", "num_features", "num_classes")


class RepresentativeNet(nn.Module):
    """A timm network that pools by BR-NPA: images [B, ...] -> logits [B, num_classes].

    Args:
        body: the network with an identity for its classifier; keeps timm's names.
        layout: of what its `forward_features` returns.
        features: F, what the classifier reads.
        num_classes, maps, dropout: of the head, which reads maps * F features.
    """

    def __init__(
        self,
        body: nn.Module,
        layout: FeatureLayout,
        features: int,
        num_classes: int,
        maps: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.body, self.layout, self.num_classes = body, layout, num_classes
        self.pool = RepresentativePooling(maps)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(maps * features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """The body's last feature map, [B, C, h, w] whatever the body's own order of axes."""
        return self.layout.as_map(features_of(self.body)(x))

    def read(self, vectors: Tensor) -> Tensor:
        """What the classifier reads of representative vectors: [B, K, C] -> [B, K, F]."""
        body: Any = self.body
        one_token = vectors.flatten(0, 1)[:, :, None, None]  # [B*K, C, 1, 1]
        return body.forward_head(self.layout.as_features(one_token)).unflatten(0, vectors.shape[:2])

    def classify(self, vectors: Tensor) -> Tensor:
        """Logits [B, num_classes] of representative vectors [B, K, C]."""
        return self.head(self.dropout(self.read(vectors).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.pool(self.forward_features(x)).unflatten(1, (self.pool.maps, -1)))


def attach_timm(
    model: nn.Module, maps: int, dropout: float, input_size: tuple[int, int, int] | None = None
) -> RepresentativeNet:
    """A copy of a timm network that pools by BR-NPA; its answer to a map of equal tokens is the network's own, tried.

    Raises:
        SpikeattnError: what the network lacks, or where its head does not fit; see the head of this file.
    """
    missing = [name for name in NEEDED if not hasattr(model, name)]
    if missing:
        raise SpikeattnError(
            f"attach takes a Spike-driven Transformer or a network of timm; {type(model).__name__} has no "
            f"{', '.join(missing)}. For another network call representative_vectors on its last feature map"
        )
    path, classifier = _classifier_of(model)
    size = image_size_of(model, input_size)
    reference = next(model.parameters())
    images = torch.rand(2, *size, generator=torch.Generator().manual_seed(0)).to(reference)
    with torch.no_grad(), in_eval(model):
        features = _features(model, images)
        layout = layout_of(model, features)
        body = deepcopy(model)
        parent, _, name = path.rpartition(".")
        setattr(body.get_submodule(parent), name, nn.Identity())
        network: Any = model
        attached = RepresentativeNet(body, layout, classifier.in_features, network.num_classes, maps, dropout)
        attached.head.weight.copy_(shared_weight(classifier, maps))
        attached.head.bias.copy_(torch.zeros_like(attached.head.bias) if classifier.bias is None else classifier.bias)
        attached.to(reference.device, reference.dtype).eval()
        _check(model, attached, images, features)
    return attached


def shared_weight(linear: nn.Linear, maps: int) -> Tensor:
    """Weight on `maps` concatenated vectors that gives the layer's answer to their mean: [classes, maps * C]."""
    return linear.weight.detach().repeat(1, maps) / maps


def _classifier_of(model: nn.Module) -> tuple[str, nn.Linear]:
    """Dotted path and module of the one linear layer that classifies."""
    network: Any = model
    classifier = network.get_classifier()
    paths = [path for path, module in model.named_modules() if module is classifier]
    if isinstance(classifier, nn.Linear) and len(paths) == 1 and classifier.out_features == network.num_classes:
        return paths[0], classifier
    kind = type(classifier).__name__
    if isinstance(classifier, (tuple, list, nn.ModuleList)):
        kind = "several layers: " + ", ".join(type(layer).__name__ for layer in classifier)
    raise SpikeattnError(
        f"attach: the classifier of {type(model).__name__} is {kind}, with num_classes={network.num_classes}; BR-NPA "
        "takes over one linear layer. Create the network with num_classes= and such a classifier, or call "
        "representative_vectors on its last feature map"
    )


def _features(model: nn.Module, images: Tensor) -> Tensor:
    try:
        return features_of(model)(images)
    except (RuntimeError, AssertionError) as error:  # of torch, and of timm where the size is not the network's
        raise SpikeattnError(
            f"attach: {type(model).__name__} does not take images {tuple(images.shape[1:])}: {error}; give "
            "input_size=(C, H, W) of its images"
        ) from error


def _check(model: nn.Module, attached: RepresentativeNet, images: Tensor, features: Tensor) -> None:
    """Try what the head of this file says; `features` are the model's of these images, in eval mode.

    Raises:
        SpikeattnError: the answers of the network and of the attached one differ on tokens that are all alike.
    """
    network: Any = model
    body: Any = attached.body
    name, layout = type(model).__name__, attached.layout
    advice = "call representative_vectors on its last feature map"
    if not _same(network(images), network.forward_head(features)):
        raise SpikeattnError(f"attach: {name} does more than forward_head(forward_features(x)); {advice}")
    maps = layout.as_map(features)
    tokens = torch.stack([maps[0, :, 0, 0], maps[1, :, -1, -1] + maps.std()])  # two that differ, [2, C]
    alike = tokens[:, :, None, None].expand_as(maps)
    front = features[:, : layout.prefix] if layout.axes == "NLC" else None
    equal = layout.as_features(alike, front)
    if front is not None and _same(body.forward_head(equal), body.forward_head(features)):
        raise SpikeattnError(
            f"attach: {name} classifies by its class token alone, so there is no average over the image's tokens that "
            'BR-NPA could replace; timm\'s ViTs have one with global_pool="avg"'
        )
    vectors = attached.pool(alike).unflatten(1, (attached.pool.maps, -1))
    try:
        pairs = [(body.forward_head(equal), attached.read(vectors)[:, 0])]
        pairs += [(network.forward_head(equal), attached.classify(vectors))]
    except (RuntimeError, IndexError) as error:  # a head that takes no map of one token
        raise SpikeattnError(f"attach: the head of {name} does not take a single token: {error}; {advice}") from error
    if not all(_same(*pair) for pair in pairs):
        own, ours = (f"{answer[0, 0]:.4g}" for answer in pairs[1])
        raise SpikeattnError(
            f"attach: of a map whose tokens are all alike {name} makes {own} and with BR-NPA {ours} (first class), so "
            f"its head is not a pooling over tokens followed by what treats one token as many; {advice}"
        )


def _same(one: Tensor, other: Tensor) -> bool:
    """Equal but for rounding, against the largest entry: far above rounding, far below what a lost norm changes."""
    tolerance = torch.finfo(one.dtype).eps ** 0.5  # 3e-4 in single precision
    return bool((one - other).abs().max() <= tolerance * one.abs().max().clamp(min=torch.finfo(one.dtype).tiny))
