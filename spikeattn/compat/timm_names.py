"""Names of timm that stand elsewhere, or not at all, in older versions; from 0.6.12 on."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import timm.models.vision_transformer as vision_transformer

from spikeattn.errors import SpikeattnError

try:
    from timm.layers import Mlp, PatchEmbed, trunc_normal_
    from timm.models import _registry as registry
except ImportError:  # before timm 0.9
    from timm.models import registry  # type: ignore[no-redef]
    from timm.models.layers import Mlp, PatchEmbed, trunc_normal_

__all__ = ["Attention", "Mlp", "PatchEmbed", "imagenet_info", "registry", "trunc_normal_"]

# Of its own file up to timm 1.0.19, of timm.layers since; the vision transformer has it in both.
Attention = vision_transformer.Attention


def imagenet_info() -> Any:
    """timm's list of ImageNet-1k's classes, an `ImageNetInfo`.

    Raises:
        SpikeattnError: the installed timm has no such list.
    """
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        raise SpikeattnError(
            f"ImageNet's list of classes comes with timm 0.9.0 and newer, this is timm {version('timm')}; upgrade with "
            "pip install 'timm>=0.9', or give the images as folder:PATH"
        ) from None
    return ImageNetInfo("imagenet-1k")
