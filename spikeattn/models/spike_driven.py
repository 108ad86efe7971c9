"""Spike-driven Transformer (SDT) on SpikingJelly neurons.

Yao, Hu, Zhou, Yuan, Tian, Xu, Li: Spike-driven Transformer. NeurIPS 2023, https://arxiv.org/abs/2307.01694
Published code and checkpoints: https://github.com/BICLab/Spike-Driven-Transformer

Modules and parameters carry the names of the published checkpoints. Every step that makes a spike tensor is a module,
so an ordinary forward hook sees it: `attn.kv_mask`, `attn.sdsa_out`, and the pools where there are any. Inside,
tensors are [T, B, C, H, W]; D is `embed_dim`, d = D / heads, N = H * W tokens.

Neurons keep their membrane potential between calls: call `spikingjelly.activation_based.functional.reset_net(model)`
before each batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.compat.spiking import layer, neuron
from spikeattn.compat.timm_names import trunc_normal_
from spikeattn.errors import SpikeattnError
from spikeattn.models.configs import check_arguments, described, of_type
from spikeattn.models.paper_names import PaperName, paper_names

GATE_THRESHOLD = 0.5  # of the neuron that binarises the token sum; every other neuron fires at 1


def spiking_neuron(spike_mode: str, v_threshold: float = 1.0) -> nn.Module:
    """A LIF neuron with time constant 2 and hard reset to 0; "plif" learns the time constant from 2 on."""
    if spike_mode == "plif":
        return neuron.ParametricLIFNode(init_tau=2.0, v_threshold=v_threshold, detach_reset=True, step_mode="m")
    return neuron.LIFNode(tau=2.0, v_threshold=v_threshold, detach_reset=True, step_mode="m")


def conv(in_chans: int, out_chans: int, kernel: int, bias: bool = False) -> nn.Conv2d:
    made: nn.Conv2d = layer.Conv2d(in_chans, out_chans, kernel, padding=kernel // 2, bias=bias, step_mode="m")
    return made


def batch_norm(chans: int) -> nn.Module:
    return layer.BatchNorm2d(chans, step_mode="m")


def max_pool(stride: int) -> nn.Module:
    return layer.MaxPool2d(3, stride=stride, padding=1, step_mode="m")


class Unused(nn.Module):
    """Parameters that published checkpoints hold and the published forward pass never reads."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))


class Erode(nn.Module):
    """3x3 max-pool over the tokens (in raster order) and the channels of each head: [T, B, D, H, W] -> same."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pool = nn.MaxPool3d((1, 3, 3), stride=1, padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        heads = x.flatten(3).unflatten(2, (self.num_heads, -1))  # [T, B, heads, d, N]
        return self.pool(heads.flatten(0, 1)).view_as(x)


class Mask(nn.Module):
    """Element-wise product of two spike tensors, an AND gate; `erode` acts on the result."""

    def __init__(self, erode: nn.Module | None = None) -> None:
        super().__init__()
        self.erode = erode

    def forward(self, spikes: Tensor, mask: Tensor) -> Tensor:
        masked = spikes * mask
        return masked if self.erode is None else self.erode(masked)


class SpikingPatchSplitting(nn.Module):
    """SPS: four convolutions, each with BN and LIF, then a relative position embedding by one more convolution.

    [T, B, in_chans, H, W] -> [T, B, D, H', W']: each "1" in `pooling_stat` halves H and W (rounded up). The fourth
    max-pool acts before its LIF, the others after theirs. The output is real: the sum of both pre-LIF maps.
    """

    def __init__(self, in_chans: int, embed_dim: int, pooling_stat: str, spike_mode: str) -> None:
        super().__init__()
        D, pooled = embed_dim, [stage == "1" for stage in pooling_stat]
        self.proj_conv, self.proj_bn = conv(in_chans, D // 8, 3), batch_norm(D // 8)
        self.proj_lif = spiking_neuron(spike_mode)
        self.maxpool = max_pool(stride=2) if pooled[0] else None
        self.proj_conv1, self.proj_bn1 = conv(D // 8, D // 4, 3), batch_norm(D // 4)
        self.proj_lif1 = spiking_neuron(spike_mode)
        self.maxpool1 = max_pool(stride=2) if pooled[1] else None
        self.proj_conv2, self.proj_bn2 = conv(D // 4, D // 2, 3), batch_norm(D // 2)
        self.proj_lif2 = spiking_neuron(spike_mode)
        self.maxpool2 = max_pool(stride=2) if pooled[2] else None
        self.proj_conv3, self.proj_bn3 = conv(D // 2, D, 3), batch_norm(D)
        self.maxpool3 = max_pool(stride=2) if pooled[3] else None
        self.proj_lif3 = spiking_neuron(spike_mode)
        self.rpe_conv, self.rpe_bn = conv(D, D, 3), batch_norm(D)
        if spike_mode == "plif":
            self.rpe_lif = Unused(w=())

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj_lif(self.proj_bn(self.proj_conv(x)))  # [T, B, D/8, H, W]
        x = x if self.maxpool is None else self.maxpool(x)
        x = self.proj_lif1(self.proj_bn1(self.proj_conv1(x)))  # [T, B, D/4, ...]
        x = x if self.maxpool1 is None else self.maxpool1(x)
        x = self.proj_lif2(self.proj_bn2(self.proj_conv2(x)))  # [T, B, D/2, ...]
        x = x if self.maxpool2 is None else self.maxpool2(x)
        x = self.proj_bn3(self.proj_conv3(x))  # [T, B, D, ...], real
        x = x if self.maxpool3 is None else self.maxpool3(x)
        return x + self.rpe_bn(self.rpe_conv(self.proj_lif3(x)))


class SpikeDrivenSelfAttention(nn.Module):
    """SDSA: the tokens vote per channel, and the channels that win let q through. Additions only.

    g = LIF(sum over tokens of k * v), out = q * g (paper, eq. 13). All of it is element-wise per channel, so heads
    matter only to `dvs`, where Erode pools within a head.
    """

    def __init__(self, dim: int, num_heads: int, dvs: bool, spike_mode: str) -> None:
        super().__init__()
        self.shortcut_lif = spiking_neuron(spike_mode)
        self.q_conv, self.q_bn, self.q_lif = conv(dim, dim, 1), batch_norm(dim), spiking_neuron(spike_mode)
        self.k_conv, self.k_bn, self.k_lif = conv(dim, dim, 1), batch_norm(dim), spiking_neuron(spike_mode)
        self.v_conv, self.v_bn, self.v_lif = conv(dim, dim, 1), batch_norm(dim), spiking_neuron(spike_mode)
        self.k_pool = max_pool(stride=1) if dvs else None
        self.v_pool = max_pool(stride=1) if dvs else None
        self.kv_mask = Mask()
        self.kv_pool = Erode(num_heads) if dvs else None
        self.talking_heads = Unused(weight=(num_heads, num_heads, 1))
        self.talking_heads_lif = spiking_neuron(spike_mode, v_threshold=GATE_THRESHOLD)
        self.sdsa_out = Mask(Erode(num_heads) if dvs else None)
        self.proj_conv, self.proj_bn = conv(dim, dim, 1, bias=True), batch_norm(dim)
        if spike_mode == "plif":
            self.attn_lif = Unused(w=())

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.shortcut_lif(x)  # [T, B, D, H, W], as everything below but the gate
        q = self.q_lif(self.q_bn(self.q_conv(spikes)))
        k = self.k_lif(self.k_bn(self.k_conv(spikes)))
        v = self.v_lif(self.v_bn(self.v_conv(spikes)))
        if self.k_pool is not None and self.v_pool is not None:
            k, v = self.k_pool(k), self.v_pool(v)
        kv = self.kv_mask(k, v)
        if self.kv_pool is not None:
            kv = self.kv_pool(kv)
        gate = self.talking_heads_lif(self.drive(kv))
        out = self.sdsa_out(q, gate)
        return x + self.proj_bn(self.proj_conv(out))

    def drive(self, kv: Tensor) -> Tensor:
        """What the gate's neurons receive: the votes of the tokens, integers up to N, [T, B, D, 1, 1]."""
        return kv.sum(dim=(3, 4), keepdim=True)


class SpikingMLP(nn.Module):
    """Two 1x1 convolutions, each behind a LIF: D -> hidden -> D, with a membrane shortcut.

    With hidden == D a second shortcut spans the first convolution alone.
    """

    def __init__(self, dim: int, hidden: int, spike_mode: str) -> None:
        super().__init__()
        self.inner_shortcut = hidden == dim
        self.fc1_lif = spiking_neuron(spike_mode)
        self.fc1_conv, self.fc1_bn = conv(dim, hidden, 1, bias=True), batch_norm(hidden)
        self.fc2_lif = spiking_neuron(spike_mode)
        self.fc2_conv, self.fc2_bn = conv(hidden, dim, 1, bias=True), batch_norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1_bn(self.fc1_conv(self.fc1_lif(x)))  # [T, B, hidden, H, W]
        if self.inner_shortcut:
            x = hidden = x + hidden
        return x + self.fc2_bn(self.fc2_conv(self.fc2_lif(hidden)))


class Block(nn.Module):
    """Spike-driven self-attention, then the MLP; both add to the membrane potential x."""

    def __init__(self, dim: int, num_heads: int, hidden: int, dvs: bool, spike_mode: str) -> None:
        super().__init__()
        self.attn = SpikeDrivenSelfAttention(dim, num_heads, dvs, spike_mode)
        self.mlp = SpikingMLP(dim, hidden, spike_mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.attn(x))


def init_convolutions(model: nn.Module) -> None:
    """Draw the weights of every convolution anew as published: truncated normal of deviation 0.02, biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:  # a shape alone takes a second to fill
            trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class SpikeDrivenTransformer(nn.Module):
    """The Spike-driven Transformer: images or event frames in, class logits out.

    Args:
        img_size: height and width of the input in pixels.
        in_chans: channels of the input (2 polarities for events).
        num_classes: number of classes.
        embed_dim: channels D of a token; a multiple of 8 and of `num_heads`.
        depth: number of transformer blocks.
        num_heads: heads of the attention; they change the result with `dvs` only.
        mlp_ratio: hidden channels of the MLP over D.
        time_steps: T; a static image is shown T times.
        pooling_stat: four characters; "1" puts a 3x3 max-pool with stride 2 into that stage of the patch splitting.
        dvs: erode (max-pool) k, v, k*v and the attention's output, as published for CIFAR10-DVS.
        tet: return the logits of every time step, for temporal efficient training.
        spike_mode: "lif", or "plif" for a learned time constant.

    Input is [B, C, H, W], or [B, T, C, H, W] for frames. Output is [B, num_classes], the mean over time steps, or
    [T, B, num_classes] with `tet`. Arguments and inputs that do not fit raise `SpikeattnError`.
    """

    default_cfg: dict[str, Any]
    pretrained_cfg: dict[str, Any]

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 512,
        depth: int = 8,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        time_steps: int = 4,
        pooling_stat: str = "1111",
        dvs: bool = False,
        tet: bool = False,
        spike_mode: str = "lif",
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
            "time_steps": time_steps,
            "pooling_stat": pooling_stat,
            "dvs": dvs,
            "tet": tet,
            "spike_mode": spike_mode,
        }
        check_arguments(self.config)
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size = (height, width)
        self.in_chans, self.num_classes, self.time_steps, self.tet = in_chans, num_classes, time_steps, tet
        hidden = int(embed_dim * mlp_ratio)
        self.patch_embed = SpikingPatchSplitting(in_chans, embed_dim, pooling_stat, spike_mode)
        self.block = nn.ModuleList([Block(embed_dim, num_heads, hidden, dvs, spike_mode) for _ in range(depth)])
        self.head_lif = spiking_neuron(spike_mode)
        self.head = nn.Linear(embed_dim, num_classes)
        init_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Membrane potential averaged over tokens: [T, B, D]."""
        x = self.patch_embed(self._over_time(x))
        for block in self.block:
            x = block(x)
        return x.flatten(3).mean(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.head_lif(self.forward_features(x)))  # [T, B, num_classes]
        return x if self.tet else x.mean(0)

    def paper_names(self) -> dict[str, PaperName]:
        """Name in the paper and published hook of every spike tensor and synapse, by dotted module path."""
        return paper_names(self.config["depth"], self.config["pooling_stat"], self.config["dvs"])

    def _over_time(self, x: Tensor) -> Tensor:
        """[B, C, H, W] shown T times, or frames [B, T, C, H, W], as [T, B, C, H, W]."""
        T, image, dtype = self.time_steps, (self.in_chans, *self.img_size), self.head.weight.dtype
        fits = of_type(x, dtype)
        if fits and x.shape[1:] == image:
            return x.expand(T, *x.shape)
        if fits and x.shape[1:] == (T, *image):
            return x.transpose(0, 1)
        size = ", ".join(map(str, image))
        raise SpikeattnError(
            f"the model's input has {described(x)}; it takes images [B, {size}] or frames [B, {T}, {size}] of type "
            f"{dtype} (batch, {T} time steps, channels, height, width). Another size, channel count or number of time "
            "steps is set with img_size, in_chans and time_steps when the model is created"
        )
