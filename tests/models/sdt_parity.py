"""Adapter between the parity check of the reference outputs and this package's model: the factory it asks for.

Run by hand: python ../shared/refs/sdt/check_parity.py --impl tests.models.sdt_parity:factory
(or tests.models.sdt_parity:cuda_factory, for SpikingJelly's CUDA neurons)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor

from spikeattn.models.spike_driven import SpikeDrivenTransformer


def build(cfg: dict[str, Any]) -> SpikeDrivenTransformer:
    """The model of one reference configuration, in the reference's argument names."""
    return SpikeDrivenTransformer(
        img_size=cfg["img"],
        in_chans=cfg["in_channels"],
        num_classes=cfg["num_classes"],
        embed_dim=cfg["embed_dims"],
        depth=cfg["depths"],
        num_heads=cfg["num_heads"],
        mlp_ratio=cfg["mlp_ratios"],
        time_steps=cfg["T"],
        pooling_stat=cfg["pooling_stat"],
        dvs=cfg["dvs_mode"],
        tet=cfg["TET"],
    )


Run = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


def factory(cfg: dict[str, Any], state_dict: dict[str, Tensor], device: str = "cpu") -> Run:
    """A function x -> (logits, tensors by published hook name), all seen by ordinary forward hooks."""
    model = build(cfg).eval().to(device)
    model.load_state_dict(state_dict, strict=True)
    seen: dict[str, Tensor] = {}

    def tap(hook: str):
        return lambda module, args, output: seen.__setitem__(hook, output)

    for path, name in model.paper_names().items():
        if name.hook:
            model.get_submodule(path).register_forward_hook(tap(name.hook))

    @torch.no_grad()
    def run(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        functional.reset_net(model)
        return model(x.to(device)), {name: tensor.cpu() for name, tensor in seen.items()}

    return run


def cuda_factory(cfg: dict[str, Any], state_dict: dict[str, Tensor]) -> Run:
    """`factory` on the CUDA device, on whichever neurons SpikingJelly takes there."""
    return factory(cfg, state_dict, "cuda")
