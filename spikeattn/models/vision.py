"""An ordinary vision transformer beside the spiking demo model: same digits, softmax attention, trained weights.

Its attention maps are those that the attention methods were published for; 64 tokens as `sdt_digits` has.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

from spikeattn.models.checkpoint_fit import load_into
from spikeattn.models.checkpoints import load_checkpoint, shipped_weights
from spikeattn.models.configs import data_config, note


@register_model
def vit_digits(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT for scikit-learn's digits: 16x16 pixels in patches of 2, D=64, depth 3, 4 heads, a class token.

    Every argument of timm's `VisionTransformer` can be given; pretrained=True loads the package's own weights, and
    `provenance` then says which.
    """
    for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):  # timm hands them to every entry point
        kwargs.pop(key, None)
    args: dict[str, Any] = {
        "img_size": 16,
        "patch_size": 2,
        "in_chans": 1,
        "num_classes": 10,
        "embed_dim": 64,
        "depth": 3,
    }
    args |= {"num_heads": 4} | kwargs
    model = VisionTransformer(**args)
    describe_vit(model, "digits", "vit_digits")
    provenance: dict[str, Any] = {"name": "vit_digits", "config": args, "trained": False}
    if pretrained:
        read = load_checkpoint(shipped_weights("vit_digits"))
        load_into(model, read)
        provenance |= {"trained": True, "checkpoint": read.path.name, "sha256": read.sha256, "card": read.metadata}
        model.eval()
    note(model, provenance=provenance)
    return model


def describe_vit(model: VisionTransformer, data: str, name: str) -> None:
    """Put timm's `default_cfg` beside a vision transformer: how images of these data are prepared for it."""
    patches: Any = model.patch_embed
    cfg = data_config(data, patches.img_size, patches.proj.in_channels, model.num_classes)
    cfg |= {"first_conv": "patch_embed.proj", "architecture": name}
    note(model, default_cfg=cfg, pretrained_cfg=cfg)
