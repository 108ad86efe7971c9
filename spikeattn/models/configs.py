"""What a Spike-driven Transformer may be built with, and how its input images are prepared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError

_PREPARATION: dict[str, dict[str, Any]] = {
    "imagenet": {"crop_pct": 0.95, "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD},
    "cifar10": {"crop_pct": 1.0, "mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    "cifar100": {"crop_pct": 1.0, "mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)},
    "events": {"crop_pct": 1.0, "mean": (0.0, 0.0), "std": (1.0, 1.0)},
    "digits": {"crop_pct": 1.0, "mean": (0.0,), "std": (1.0,)},
}


def data_config(data: str, img_size: tuple[int, int], in_chans: int, num_classes: int) -> dict[str, Any]:
    """Preparation of the input in the form of timm's `default_cfg`, read by `timm.data.resolve_data_config`.

    Args:
        data: "imagenet", "cifar10", "cifar100", "events" or "digits"; the published configurations' mean, standard
            deviation and crop. Event frames and digits are taken as they are: mean 0, standard deviation 1.
        img_size: height and width in pixels.
        in_chans: channels of the input; with another number than the data's own, mean 0 and standard deviation 1.
        num_classes: classes of the head.
    """
    prepared = dict(_PREPARATION[data])
    if len(prepared["mean"]) != in_chans:
        prepared |= {"mean": (0.0,) * in_chans, "std": (1.0,) * in_chans}
    return prepared | {
        "input_size": (in_chans, *img_size),
        "num_classes": num_classes,
        "interpolation": "bicubic",
        "fixed_input_size": True,
        "first_conv": "patch_embed.proj_conv",
        "classifier": "head",
    }


def note(model: nn.Module, **attributes: Any) -> None:
    """Keep facts beside a network, under names that torch's annotations of `nn.Module` do not know."""
    for name, value in attributes.items():
        setattr(model, name, value)


def check_arguments(config: Mapping[str, Any]) -> None:
    """Check the arguments of `SpikeDrivenTransformer`.

    Raises:
        SpikeattnError: naming the first argument that cannot work and what would.
    """

    def whole(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 1

    def fail(name: str, advice: str) -> None:
        raise SpikeattnError(f"{name}={config[name]!r}: {advice}")

    for name in ("in_chans", "num_classes", "embed_dim", "depth", "num_heads", "time_steps"):
        if not whole(config[name]):
            fail(name, "give a whole number of at least 1")
    for name in ("dvs", "tet"):
        if not isinstance(config[name], bool):
            fail(name, "give True or False")
    size = config["img_size"]
    if not whole(size) and not (isinstance(size, tuple | list) and len(size) == 2 and all(map(whole, size))):
        fail("img_size", "give a number of pixels, or (height, width)")
    dim = config["embed_dim"]
    if dim % 8:
        fail(
            "embed_dim",
            f"give a multiple of 8 (the first convolution has embed_dim/8 channels), such as {dim + -dim % 8}",
        )
    if dim % config["num_heads"]:
        divisors = [heads for heads in range(1, dim + 1) if dim % heads == 0 and heads <= 64]
        fail("num_heads", f"give a divisor of embed_dim={dim}, one of {', '.join(map(str, divisors))}")
    ratio = config["mlp_ratio"]
    if not isinstance(ratio, int | float) or not 1 <= dim * ratio < float("inf"):
        fail("mlp_ratio", "give a positive number, hidden channels of the MLP over embed_dim; published models have 4")
    pooling = config["pooling_stat"]
    if not isinstance(pooling, str) or len(pooling) != 4 or set(pooling) - {"0", "1"}:
        fail("pooling_stat", "give four characters, '1' where that stage is max-pooled, such as '1111' or '0011'")
    if config["spike_mode"] not in ("lif", "plif"):
        fail("spike_mode", "valid are 'lif' (fixed time constant) and 'plif' (learned time constant)")


def of_type(x: object, dtype: torch.dtype) -> bool:
    """Whether an input is a tensor of the model's type, or of any that autocast will turn into it."""
    return isinstance(x, Tensor) and (x.dtype == dtype or torch.is_autocast_enabled(x.device.type))


def described(x: object) -> str:
    """An input in an error: its shape and type."""
    return f"shape {tuple(x.shape)} and type {x.dtype}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
