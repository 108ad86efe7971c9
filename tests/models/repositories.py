"""Tiny repositories of a user's own, written as published ones are."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

# A network as published in 2022: old SpikingJelly and timm, CUDA asked for, packages imported and never used.
PUBLISHED = {
    "model.py": """
        import cv2
        import torch
        import torch.nn as nn
        from einops_of_old.layers.torch import Rearrange
        from functools import partial
        from timm.models.layers import to_2tuple, trunc_normal_, DropPath
        from timm.models.registry import register_model
        from timm.models.vision_transformer import _cfg
        from layers import Stage

        try:
            import cupy_of_old as cupy
        except ImportError:
            cupy = None


        class Rounded(torch.autograd.Function):
            @staticmethod
            @torch.cuda.amp.custom_fwd
            def forward(ctx, x):
                return x.round()


        class Net(nn.Module):
            def __init__(self, width=8, num_classes=3, in_channels=3, img_size_h=16, img_size_w=16, T=4, mode="lif"):
                super().__init__()
                self.T, self.mode = T, mode
                self.first, self.second = Stage(in_channels, width), Stage(width, width)
                self.head = nn.Linear(width, num_classes)
                self.scale = torch.ones(1).cuda()
                self.register_buffer("offset", torch.zeros(1, device="cuda"))
                trunc_normal_(self.head.weight, std=0.02)

            def forward(self, x):
                x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
                x = self.second(self.first(x)).flatten(3).mean(3)
                return self.head(x).mean(0)


        @register_model
        def sdt_8_512(pretrained=False, **kwargs):
            return Net(**kwargs)
    """,
    "layers.py": """
        import torch.nn as nn
        from spikingjelly.clock_driven import layer, neuron
        from spikingjelly.clock_driven.neuron import MultiStepLIFNode


        class Stage(nn.Module):
            def __init__(self, fan_in, fan_out):
                super().__init__()
                self.conv = layer.SeqToANNContainer(nn.Conv2d(fan_in, fan_out, 3, 2, 1), nn.BatchNorm2d(fan_out))
                self.drop = layer.MultiStepDropout(0.5)
                self.lif = MultiStepLIFNode(tau=2.0, v_threshold=0.1, detach_reset=True, backend="cupy")
                assert neuron.MultiStepLIFNode is MultiStepLIFNode

            def forward(self, x):
                return self.lif(self.drop(self.conv(x)))
    """,
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """The files, each below the folder; returns it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    return folder
