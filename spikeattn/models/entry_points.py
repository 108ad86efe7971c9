"""The published Spike-driven Transformers, and the small models that come with weights, registered with timm.

After `import spikeattn`, `timm.create_model("sdt_8_512", time_steps=1)` works like any other timm model; every argument
of `SpikeDrivenTransformer` can be overridden. Configurations: the paper (https://arxiv.org/abs/2307.01694) and the
published training settings. Parameter counts include `talking_heads.weight`, which the forward pass never reads.
"""

from __future__ import annotations

import inspect
from typing import Any

from timm.models import register_model

from spikeattn.errors import unknown
from spikeattn.models.checkpoint_fit import load_into
from spikeattn.models.checkpoints import load_checkpoint, shipped_weights
from spikeattn.models.configs import data_config
from spikeattn.models.spike_driven import SpikeDrivenTransformer


def _build(
    name: str, data: str, published: dict[str, Any], pretrained: bool, given: dict[str, Any]
) -> SpikeDrivenTransformer:
    """Entry point `name`: the published arguments, those given over them, and timm's `default_cfg` beside."""
    overlays = [given.pop(key, None) for key in ("pretrained_cfg", "pretrained_cfg_overlay")]
    given.pop("cache_dir", None)  # timm hands it to every entry point; nothing is downloaded here
    valid = inspect.signature(SpikeDrivenTransformer).parameters
    for argument in given:
        if argument not in valid:
            raise unknown("model argument", argument, valid)
    model = SpikeDrivenTransformer(**(published | given))
    if data == "cifar":
        data = "cifar100" if model.num_classes == 100 else "cifar10"
    cfg = data_config(data, model.img_size, model.in_chans, model.num_classes) | {"architecture": name}
    for overlay in overlays:
        cfg |= {key: value for key, value in dict(overlay or {}).items() if value is not None}
    model.default_cfg = model.pretrained_cfg = cfg
    if pretrained:
        load_into(model, load_checkpoint(shipped_weights(name)))
    return model


@register_model
def sdt_8_384(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-8-384 for ImageNet: 16.81 M parameters."""
    return _build("sdt_8_384", "imagenet", {"depth": 8, "embed_dim": 384}, pretrained, kwargs)


@register_model
def sdt_6_512(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-6-512 for ImageNet: 23.37 M parameters."""
    return _build("sdt_6_512", "imagenet", {"depth": 6, "embed_dim": 512}, pretrained, kwargs)


@register_model
def sdt_8_512(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-8-512 for ImageNet: 29.68 M parameters."""
    return _build("sdt_8_512", "imagenet", {"depth": 8, "embed_dim": 512}, pretrained, kwargs)


@register_model
def sdt_10_512(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-10-512 for ImageNet: 36.01 M parameters."""
    return _build("sdt_10_512", "imagenet", {"depth": 10, "embed_dim": 512}, pretrained, kwargs)


@register_model
def sdt_8_768(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-8-768 for ImageNet: 66.34 M parameters."""
    return _build("sdt_8_768", "imagenet", {"depth": 8, "embed_dim": 768}, pretrained, kwargs)


@register_model
def sdt_2_256(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-2-256 for CIFAR-10; with num_classes=100 for CIFAR-100."""
    args = {"depth": 2, "embed_dim": 256, "img_size": 32, "num_classes": 10, "pooling_stat": "0011"}
    return _build("sdt_2_256", "cifar", args, pretrained, kwargs)


@register_model
def sdt_2_512(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-2-512 for CIFAR-10; with num_classes=100 for CIFAR-100."""
    args = {"depth": 2, "embed_dim": 512, "img_size": 32, "num_classes": 10, "pooling_stat": "0011"}
    return _build("sdt_2_512", "cifar", args, pretrained, kwargs)


@register_model
def sdt_2_256_cifar10dvs(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-2-256 for CIFAR10-DVS frames of 64x64 pixels, T=10, with Erode and TET."""
    args = {"depth": 2, "embed_dim": 256, "img_size": 64, "in_chans": 2, "num_classes": 10, "pooling_stat": "0011"}
    args |= {"time_steps": 10, "dvs": True, "tet": True}
    return _build("sdt_2_256_cifar10dvs", "events", args, pretrained, kwargs)


@register_model
def sdt_2_256_gesture(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-2-256 for DVS128 Gesture frames of 128x128 pixels; published at T=16 (here) and T=10."""
    args = {
        "depth": 2,
        "embed_dim": 256,
        "img_size": 128,
        "in_chans": 2,
        "num_classes": 11,
        "pooling_stat": "0111",
        "time_steps": 16,
    }
    return _build("sdt_2_256_gesture", "events", args, pretrained, kwargs)


@register_model
def sdt_digits(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-2-64 for scikit-learn's digits at 16x16 pixels; pretrained=True loads the package's own weights."""
    args = {"depth": 2, "embed_dim": 64, "img_size": 16, "in_chans": 1, "num_classes": 10, "pooling_stat": "1000"}
    return _build("sdt_digits", "digits", args, pretrained, kwargs)


@register_model
def sdt_digits_events(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-2-64 for digits as simulated events, 16x16 pixels; pretrained=True loads the package's own weights."""
    args = {"depth": 2, "embed_dim": 64, "img_size": 16, "in_chans": 2, "num_classes": 10, "pooling_stat": "1000"}
    return _build("sdt_digits_events", "events", args, pretrained, kwargs)


@register_model
def sdt_digits_scenes(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-2-48 for digits on a 32x32 canvas, T=2, trained among noise; pretrained=True loads the package's weights."""
    args = {"depth": 2, "embed_dim": 48, "img_size": 32, "in_chans": 1, "num_classes": 10, "pooling_stat": "1100"}
    args |= {"time_steps": 2, "mlp_ratio": 2.0}
    return _build("sdt_digits_scenes", "digits", args, pretrained, kwargs)


@register_model
def sdt_nmnist(pretrained: bool = False, **kwargs: Any) -> SpikeDrivenTransformer:
    """SDT-2-96 for N-MNIST frames of 34x34 pixels; pretrained=True loads the package's own weights."""
    args = {"depth": 2, "embed_dim": 96, "img_size": 34, "in_chans": 2, "num_classes": 10, "pooling_stat": "1010"}
    return _build("sdt_nmnist", "events", args, pretrained, kwargs)
