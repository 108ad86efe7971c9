"""Names of timm that stand elsewhere, or not at all, in older versions; from 0.6.12 on.

They are looked up when they are asked for: the first import of timm registers our models, which ask for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timm.layers import Mlp, PatchEmbed, trunc_normal_
    from timm.models import _registry as registry
    from timm.models.vision_transformer import Attention

__all__ = [
    "Attention", "Mlp", "PatchEmbed", "data_config", "image_transform", "imagenet_classes", "registry", "trunc_normal_",
]  # fmt: skip

# Where a name stands, the newest place first; timm.layers and _registry are since 0.9. The vision transformer has its
# attention in every version, whether it is of its own file (up to 1.0.19) or of timm.layers.
_LAYERS = ("timm.layers", "timm.models.layers")
_HOMES = {
    "Attention": ("timm.models.vision_transformer",),
    "Mlp": _LAYERS,
    "PatchEmbed": _LAYERS,
    "trunc_normal_": _LAYERS,
}


def __getattr__(name: str) -> Any:
    if name == "registry":
        return _first(("timm.models._registry", "timm.models.registry"))
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_first(_HOMES[name]), name)


def _first(modules: tuple[str, ...]) -> Any:
    for module in modules[:-1]:
        try:
            return import_module(module)
        except ModuleNotFoundError:
            continue
    return import_module(modules[-1])


def data_config(stated: Mapping[str, Any], model_config: Mapping[str, Any]) -> dict[str, Any]:
    """timm's data configuration: what is stated, else the model's own, else timm's defaults."""
    from timm.data import resolve_data_config

    # By place: the second had another name before timm 0.9, where the crop was always the center.
    config: dict[str, Any] = resolve_data_config(dict(stated), dict(model_config))
    return {"crop_mode": "center", **config}


def image_transform(config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """timm's transform for evaluation of a `data_config`."""
    from timm.data import create_transform

    known = inspect.signature(create_transform).parameters
    transform: Callable[[Any], Any] = create_transform(**{key: config[key] for key in config if key in known})
    return transform


def imagenet_classes() -> tuple[list[str], list[str], str]:
    """The 1000 classes of ImageNet-1k in the order of their labels: synset ids, names, and where the names are from.

    timm has names from 0.9 on; with an older one the synset ids stand for them.
    """
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        ids = (files("spikeattn.data") / "imagenet_synsets.txt").read_text(encoding="ascii").split()
        return ids, ids, f"synset ids in their order; timm {version('timm')} has no names of classes"
    info = ImageNetInfo("imagenet-1k")
    names = info.label_descriptions()
    assert isinstance(names, list)  # a dict is what it gives as_dict=True
    return info.label_names(), names, "timm ImageNetInfo"
