"""Small networks of every family with images they take, and what ordinary hooks see of them."""

from __future__ import annotations

import timm
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.model.spikformer import Spikformer

import spikeattn as sa
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.models.spike_driven import SpikeDrivenTransformer

TINY = {"img_size": 16, "in_chans": 1, "num_classes": 3, "embed_dim": 16, "depth": 2, "num_heads": 4, "time_steps": 2}
TINY |= {"pooling_stat": "1000"}
FRAMES = {"in_chans": 2, "dvs": True, "pooling_stat": "1100"}


def sdt(seed: int = 0, **changed) -> SpikeDrivenTransformer:
    torch.manual_seed(seed)
    model = SpikeDrivenTransformer(**(TINY | changed)).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.mul_(20)
    calibrate_batch_norm(model, images_of(model))
    return model


def images_of(model, n: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    c = model.config
    if c["in_chans"] == 2:
        return torch.rand(n, c["time_steps"], 2, 16, 16, generator=generator).mul(1.4).floor()
    return torch.rand(n, c["in_chans"], 16, 16, generator=generator)


def digits(n: int):
    """The demo model and the first n held-out digits."""
    model = sa.create_model("sdt_digits", pretrained=True)
    return model, sa.open_dataset("digits", model).images[:n]


def vit(depth: int):
    """An untrained ViT of 4x3 patches and two images."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=(64, 48), num_classes=5, depth=depth).eval()
    return model, torch.rand(2, 3, 64, 48)


def spikformer():
    torch.manual_seed(1)
    model = Spikformer(
        T=2, img_size_h=32, img_size_w=16, patch_size=4, num_classes=5, embed_dims=32, num_heads=4, depths=2
    )
    images = torch.rand(3, 3, 32, 16)
    calibrate_batch_norm(model.eval(), images)
    return model, images


def outputs_of(model, images, *paths):
    """What the modules give in one forward pass."""
    seen = {}
    handles = [
        model.get_submodule(path).register_forward_hook(lambda m, a, out, path=path: seen.update({path: out}))
        for path in paths
    ]
    with torch.no_grad():
        functional.reset_net(model)
        model(images)
        functional.reset_net(model)
    for handle in handles:
        handle.remove()
    return [seen[path] for path in paths]
