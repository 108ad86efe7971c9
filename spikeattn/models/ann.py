"""ANN twins of the Spike-driven Transformers: the same network with ReLU and softmax attention.

Patch splitting, relative position embedding, depth, width, heads and parameter names are those of the spiking model
(`spike_driven.py`); every LIF neuron is a ReLU, and the spike-driven attention is softmax attention, as in the
"Transformer-8-512" (29.68 M parameters) beside which the field prints its energies (Spikformer, arXiv 2209.15425;
Spike-driven Transformer, arXiv 2307.01694). There is no time: an image passes once, frames are averaged first.
Inside, tensors are [B, C, H, W]; D is `embed_dim`, d = D / heads, N = H * W tokens.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import model_entrypoint, register_model
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError, unknown
from spikeattn.models.checkpoint_fit import load_into
from spikeattn.models.checkpoints import load_checkpoint, shipped_weights
from spikeattn.models.configs import check_arguments, described, of_type
from spikeattn.models.create import model_names
from spikeattn.models.paper_names import paper_names
from spikeattn.models.spike_driven import SpikeDrivenTransformer, init_convolutions

NO_TIME = {"time_steps": 1, "dvs": False, "tet": False, "spike_mode": "lif"}  # what only the spiking model has


def conv_bn(in_chans: int, out_chans: int, kernel: int, bias: bool = False) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_chans, out_chans, kernel, padding=kernel // 2, bias=bias), nn.BatchNorm2d(out_chans)


class PatchSplitting(nn.Module):
    """Four convolutions with BN and ReLU, then a relative position embedding by one more convolution.

    [B, in_chans, H, W] -> [B, D, H', W']; pools as in `SpikingPatchSplitting`, the fourth before its ReLU.
    """

    def __init__(self, in_chans: int, embed_dim: int, pooling_stat: str) -> None:
        super().__init__()
        D, pools = embed_dim, [nn.MaxPool2d(3, 2, 1) if stage == "1" else None for stage in pooling_stat]
        self.proj_conv, self.proj_bn = conv_bn(in_chans, D // 8, 3)
        self.proj_relu, self.maxpool = nn.ReLU(), pools[0]
        self.proj_conv1, self.proj_bn1 = conv_bn(D // 8, D // 4, 3)
        self.proj_relu1, self.maxpool1 = nn.ReLU(), pools[1]
        self.proj_conv2, self.proj_bn2 = conv_bn(D // 4, D // 2, 3)
        self.proj_relu2, self.maxpool2 = nn.ReLU(), pools[2]
        self.proj_conv3, self.proj_bn3 = conv_bn(D // 2, D, 3)
        self.maxpool3, self.proj_relu3 = pools[3], nn.ReLU()
        self.rpe_conv, self.rpe_bn = conv_bn(D, D, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj_relu(self.proj_bn(self.proj_conv(x)))  # [B, D/8, H, W]
        x = x if self.maxpool is None else self.maxpool(x)
        x = self.proj_relu1(self.proj_bn1(self.proj_conv1(x)))  # [B, D/4, ...]
        x = x if self.maxpool1 is None else self.maxpool1(x)
        x = self.proj_relu2(self.proj_bn2(self.proj_conv2(x)))  # [B, D/2, ...]
        x = x if self.maxpool2 is None else self.maxpool2(x)
        x = self.proj_bn3(self.proj_conv3(x))  # [B, D, ...]
        x = x if self.maxpool3 is None else self.maxpool3(x)
        return x + self.rpe_bn(self.rpe_conv(self.proj_relu3(x)))


class SoftmaxProducts(nn.Module):
    """softmax(Q K^T / sqrt(d)) V per head, [B, D, H, W] each: a module, so that its operations stand under its name."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.flatten(2).unflatten(1, (self.num_heads, -1)).mT for x in (q, k, v))  # [B, heads, N, d]
        # Fused kernels want the channels of a token side by side.
        mixed = F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())
        return mixed.mT.flatten(1, 2)  # [B, D, N]


class SelfAttention(nn.Module):
    """Softmax self-attention with 1x1 convolutions for q, k, v and the projection, each with BN."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.shortcut_relu = nn.ReLU()
        self.q_conv, self.q_bn = conv_bn(dim, dim, 1)
        self.k_conv, self.k_bn = conv_bn(dim, dim, 1)
        self.v_conv, self.v_bn = conv_bn(dim, dim, 1)
        self.products = SoftmaxProducts(num_heads)
        self.proj_conv, self.proj_bn = conv_bn(dim, dim, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        active = self.shortcut_relu(x)
        q, k, v = self.q_bn(self.q_conv(active)), self.k_bn(self.k_conv(active)), self.v_bn(self.v_conv(active))
        return x + self.proj_bn(self.proj_conv(self.products(q, k, v).view_as(x)))


class MLP(nn.Module):
    """Two 1x1 convolutions, each behind a ReLU; with hidden == D a second shortcut spans the first one alone."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.inner_shortcut = hidden == dim
        self.fc1_relu = nn.ReLU()
        self.fc1_conv, self.fc1_bn = conv_bn(dim, hidden, 1, bias=True)
        self.fc2_relu = nn.ReLU()
        self.fc2_conv, self.fc2_bn = conv_bn(hidden, dim, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1_bn(self.fc1_conv(self.fc1_relu(x)))  # [B, hidden, H, W]
        if self.inner_shortcut:
            x = hidden = x + hidden
        return x + self.fc2_bn(self.fc2_conv(self.fc2_relu(hidden)))


class Block(nn.Module):
    """Softmax self-attention, then the MLP; both add to x."""

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.attn = SelfAttention(dim, num_heads)
        self.mlp = MLP(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.attn(x))


class AnnTransformer(nn.Module):
    """The ANN twin of a Spike-driven Transformer: images in, class logits [B, num_classes] out.

    Arguments are those of `SpikeDrivenTransformer` that are not about time or spikes. The Erode pooling of its `dvs`
    mode, a max-pool of spikes, has no counterpart; it has no multiply-accumulates either.

    Input is [B, C, H, W], or frames [B, T, C, H, W], which are averaged over T. Arguments and inputs that do not fit
    raise `SpikeattnError`.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 512,
        depth: int = 8,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        pooling_stat: str = "1111",
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "img_size": img_size,
            "in_chans": in_chans,
            "num_classes": num_classes,
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "pooling_stat": pooling_stat,
        }
        check_arguments(self.config | NO_TIME)
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.in_chans, self.num_classes = in_chans, num_classes
        self.patch_embed = PatchSplitting(in_chans, embed_dim, pooling_stat)
        hidden = int(embed_dim * mlp_ratio)
        self.block = nn.ModuleList([Block(embed_dim, num_heads, hidden) for _ in range(depth)])
        self.head_relu = nn.ReLU()
        self.head = nn.Linear(embed_dim, num_classes)
        init_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Tokens averaged: [B, D]."""
        x = self.patch_embed(self._image(x))
        for block in self.block:
            x = block(x)
        return x.flatten(2).mean(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.head_relu(self.forward_features(x)))

    def layer_parts(self) -> dict[str, tuple[str, int | None]]:
        """(part, block) of every layer with multiply-accumulates, by dotted module path; the twin's layer names."""
        names = paper_names(self.config["depth"], self.config["pooling_stat"], dvs=False)
        layers = {path: (n.part, n.block) for path, n in names.items() if re.search(r"(^head|conv\d?)$", path)}
        return layers | {f"block.{i}.attn.products": ("attention", i) for i in range(self.config["depth"])}

    def _image(self, x: Tensor) -> Tensor:
        image, dtype = (self.in_chans, *self.img_size), self.head.weight.dtype
        fits = of_type(x, dtype)
        if fits and x.shape[1:] == image:
            return x
        if fits and x.dim() == 5 and x.shape[2:] == image:
            return x.mean(1)
        size = ", ".join(map(str, image))
        raise SpikeattnError(
            f"the model's input has {described(x)}; it takes images [B, {size}] or frames [B, T, {size}] of type "
            f"{dtype}. Another size or channel count is set with img_size and in_chans when the model is created"
        )


def twin_of(model: nn.Module) -> AnnTransformer:
    """The ANN twin of a Spike-driven Transformer, with random weights, on the CPU and in the model's mode.

    Returns:
        The same network with ReLU and softmax attention: images [B, C, H, W] or frames [B, T, C, H, W], which are
        averaged, in; logits [B, num_classes] out.

    Raises:
        SpikeattnError: another model; `sa.compare` then takes the layers of the ledger as dense ones.
    """
    if not isinstance(model, SpikeDrivenTransformer):
        raise SpikeattnError(
            f"twin_of: the model is a {type(model).__name__}; an ANN twin is defined for SpikeDrivenTransformer. For "
            "another model give its own ANN to compare(profile, ann), or none: then its layers are taken as dense ones"
        )
    return AnnTransformer(**twin_config(model.config)).train(model.training)


def twin_config(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `AnnTransformer` in a configuration of `SpikeDrivenTransformer`."""
    return {key: value for key, value in config.items() if key not in NO_TIME}


def twin_names() -> list[str]:
    """Names of the twins registered with timm: "ann_8_512" beside "sdt_8_512"."""
    return [name.replace("sdt_", "ann_", 1) for name in model_names()]


def _build(name: str, pretrained: bool, given: dict[str, Any]) -> AnnTransformer:
    """Entry point `name`: the configuration of its spiking model, the arguments given over it, `default_cfg` beside."""
    overlays = {key: given.pop(key, None) for key in ("pretrained_cfg", "pretrained_cfg_overlay")}
    given.pop("cache_dir", None)  # timm hands it to every entry point; nothing is downloaded here
    valid = inspect.signature(AnnTransformer).parameters
    for argument in given:
        if argument not in valid:
            raise unknown("model argument", argument, valid)
    with torch.device("meta"):
        spiking = model_entrypoint(name.replace("ann_", "sdt_", 1))(**given, **overlays)
    model = AnnTransformer(**twin_config(spiking.config))
    model.default_cfg = model.pretrained_cfg = spiking.default_cfg | {"architecture": name}
    if pretrained:
        load_into(model, load_checkpoint(shipped_weights(name)))
    return model


def _register(name: str) -> None:
    def entry_point(pretrained: bool = False, **kwargs: Any) -> AnnTransformer:
        return _build(name, pretrained, kwargs)

    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__doc__ = f"ANN twin of {name.replace('ann_', 'sdt_', 1)}, with its configuration."
    globals()[name] = register_model(entry_point)


for _name in twin_names():
    _register(_name)
