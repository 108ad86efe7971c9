"""The modules of the fast path: each makes what the module of its name makes, and counts the spikes it makes.

Spikes are bools on the CPU; on CUDA they are bools where only pools and masks read them, and numbers elsewhere.
"""

from __future__ import annotations

from math import frexp
from types import ModuleType

import torch
from torch import Tensor, nn

from spikeattn.compat.spiking import neuron
from spikeattn.fast import native
from spikeattn.models.spike_driven import Erode


def kernels_for(device: torch.device) -> ModuleType:
    if device.type == "cpu":
        return native
    from spikeattn.fast import cuda

    return cuda


class Sums:
    """What a convolution of spikes gives, [T, B, O, H, W] float32, once somebody reads it.

    Where a neuron is the first to read, one kernel makes the sums and the spikes; where it is the only one, the sums
    are never stored. A shortcut that is added meanwhile joins in: `x + sums` is such a promise too.
    """

    def __init__(self, conv: FastConv, x: Tensor, shortcut: Tensor | None = None) -> None:
        self._conv, self._x, self._shortcut = conv, x, shortcut
        self._made: Tensor | None = None

    def tensor(self) -> Tensor:
        """The sums."""
        if self._made is None:
            self._made = native.conv(self._x, *self._conv.packed, self._shortcut)
        return self._made

    def __radd__(self, shortcut: Tensor) -> Sums:
        assert self._shortcut is None and self._made is None  # the network adds before anybody reads
        return Sums(self._conv, self._x, shortcut)

    def __add__(self, other: Sums) -> Sums:
        return self.tensor() + other

    def fire(
        self, tau: float, multiply: bool, threshold: float, fan_out: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, int]:
        """What `native.lif` makes of them. Where a shortcut begins at the sums they are kept."""
        neuron = (tau, multiply, threshold, fan_out)
        if self._made is not None:
            return native.lif(self._made, *neuron)
        keep = self._shortcut is not None
        self._made, fired = native.conv_lif(self._x, *self._conv.packed, self._shortcut, keep, *neuron)
        return fired


class FastLIF(nn.Module):
    """LIF or PLIF from rest, [T, B, C, H, W], [T, B, C] or sums still to be made -> spikes of the same shape.

    Attributes:
        counts: after a call, "nnz" and, with a `fan_out`, "fan_nnz", [T, B] whole numbers each, and "nonfinite": how
            many potentials are NaN or infinite.
        fan_out: [H * W] weights that a spike meets at each position of the convolution behind, or None.
        dtype: of the spikes on CUDA.
    """

    def __init__(self, node: neuron.BaseNode, dtype: torch.dtype, count: bool) -> None:
        super().__init__()
        learned = isinstance(node, neuron.ParametricLIFNode)
        self.tau = float(node.w.detach().float().sigmoid()) if learned else float(node.tau)
        self.multiply, self.threshold = learned, float(node.v_threshold)
        if not learned and frexp(self.tau)[0] == 0.5:  # dividing by a power of two is multiplying, to the bit
            self.tau, self.multiply = 1 / self.tau, True
        self.dtype, self.count = dtype, count
        self.counts: dict[str, Tensor] = {}
        self.fan_out: Tensor | None = None

    def forward(self, x: Tensor | Sums) -> Tensor:
        if isinstance(x, Sums):
            spikes, nnz, fans, nonfinite = x.fire(self.tau, self.multiply, self.threshold, self.fan_out)
            self.counts = _counts(nnz, fans) | {"nonfinite": torch.as_tensor(nonfinite)}
            return spikes
        flat = x if x.dim() == 5 else x[..., None, None]
        kernels = kernels_for(x.device)
        options = {} if kernels is native else {"dtype": self.dtype, "count": self.count}
        spikes, nnz, fans, nonfinite = kernels.lif(
            flat.float() if kernels is native else flat,
            self.tau,
            self.multiply,
            self.threshold,
            self.fan_out,
            **options,
        )
        self.counts = _counts(nnz, fans) | {"nonfinite": torch.as_tensor(nonfinite)}
        return spikes if x.dim() == 5 else spikes[..., 0, 0]

    def extra_repr(self) -> str:
        return f"{'1 / ' if self.multiply else ''}tau={self.tau}, threshold={self.threshold}"


class FastPool(nn.Module):
    """3x3 max-pool of spikes, which are counted, or of real numbers; attributes as of `FastLIF`."""

    def __init__(self, stride: int, dtype: torch.dtype, count: bool) -> None:
        super().__init__()
        self.stride, self.dtype, self.count = stride, dtype, count
        self.counts: dict[str, Tensor] = {}
        self.fan_out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        kernels = kernels_for(x.device)
        if x.dtype != torch.bool:
            return kernels.pool_real(x, self.stride)
        options = {} if kernels is native else {"dtype": self.dtype, "count": self.count}
        spikes, nnz, fans = kernels.pool(x, self.stride, self.fan_out, **options)
        self.counts = _counts(nnz, fans)
        return spikes


class FastMask(nn.Module):
    """AND of spikes, counted; `votes` keeps the sum over tokens. With `erode` the result is pooled and not counted."""

    def __init__(self, dtype: torch.dtype, count: bool, votes: bool, erode: FastErode | None) -> None:
        super().__init__()
        self.dtype, self.count, self.erode = dtype, count, erode
        self.counts: dict[str, Tensor] = {}
        self._wanted = votes
        self.votes: Tensor | None = None

    def forward(self, spikes: Tensor, mask: Tensor) -> Tensor:
        kernels = kernels_for(spikes.device)
        options = {} if kernels is native else {"dtype": self.dtype, "count": self.count}
        masked, nnz, self.votes = kernels.mask(spikes, mask, self._wanted, **options)
        if self.erode is not None:
            return self.erode(masked)
        self.counts = _counts(nnz, None)
        return masked


class FastErode(nn.Module):
    """Erode of spikes: SpikingJelly's order of axes, then channels-last again; not counted here."""

    def __init__(self, erode: Erode, dtype: torch.dtype) -> None:
        super().__init__()
        self.erode, self.dtype = erode, dtype

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.erode(x.float().contiguous())
        return pooled.to(torch.bool if x.device.type == "cpu" else self.dtype)


class FastConv(nn.Module):
    """A convolution with the batch norm behind it, [T, B, I, H, W] -> [T, B, O, H, W].

    On the CPU, spikes give `Sums`, which whoever reads them makes.

    Args:
        now: give a tensor also on the CPU: what reads it is neither a neuron nor a shortcut alone.
        wide: give float32 whatever the convolution's type: the shortcuts that begin here are float32.

    Attributes:
        source: the module that made its input and left the fan-out-weighted count of it (in a tuple, which does not
            register it here); empty where every position has the same fan-out.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype, now: bool, wide: bool) -> None:
        super().__init__()
        weight, bias = _fold(conv, norm)
        self.now = now
        self.out_channels, self.kernel, self.dtype, self.wide = conv.out_channels, conv.kernel_size[0], dtype, wide
        self.weight: Tensor
        self.bias: Tensor
        self.source: tuple[FastLIF | FastPool, ...] = ()
        self._native = conv.weight.device.type == "cpu"
        if self._native:
            weight, bias = native.pack(weight.float(), bias.float())
        else:
            weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
            bias = bias.to(dtype)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    @property
    def counts(self) -> dict[str, Tensor]:
        """The fan-out-weighted count of its input, "fan_nnz"."""
        left = self.source[0].counts if self.source else {}
        return {"fan_nnz": left["fan_nnz"]} if "fan_nnz" in left else {}

    @property
    def packed(self) -> tuple[Tensor, Tensor, int, int]:
        """Weights as `native` reads them, output channels and the size of the kernel."""
        return self.weight, self.bias, self.out_channels, self.kernel

    def forward(self, x: Tensor) -> Tensor | Sums:
        if self._native:
            return native.conv(x, *self.packed) if self.now or x.dtype != torch.bool else Sums(self, x)
        T, B = x.shape[:2]
        once = x.stride(0) == 0 and T > 1  # a still image
        flat = (x[0] if once else x.flatten(0, 1)).to(self.dtype, memory_format=torch.channels_last)
        y = nn.functional.conv2d(flat, self.weight, self.bias, padding=self.kernel // 2)
        y = y.float() if self.wide else y
        return y.expand(T, *y.shape) if once else y.unflatten(0, (T, B))


class FastHead(nn.Module):
    """The linear classifier of spikes, [T, B, D] -> [T, B, K]."""

    def __init__(self, head: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.features = head.out_features
        self.weight: Tensor
        self.bias: Tensor
        self._native = head.weight.device.type == "cpu"
        weight, bias = head.weight.detach(), head.bias.detach()
        packed = native.pack(weight[..., None, None], bias) if self._native else (weight.to(dtype), bias.to(dtype))
        for name, value in zip(("weight", "bias"), packed, strict=True):
            self.register_buffer(name, value.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self._native:
            return native.conv(x[..., None, None], self.weight, self.bias, self.features, 1)[..., 0, 0]
        return nn.functional.linear(x.to(self.weight.dtype), self.weight, self.bias).float()


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a convolution and the batch norm behind it."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None  # as `spike_driven.batch_norm` makes them
    scale = norm.weight.double() / (variance + norm.eps).double().sqrt()
    bias = -mean.double() if conv.bias is None else conv.bias.double() - mean.double()
    return conv.weight.detach().double() * scale.detach()[:, None, None, None], (
        bias * scale + norm.bias.double()
    ).detach()


def _counts(nnz: Tensor | None, fans: Tensor | None) -> dict[str, Tensor]:
    both = {"nnz": nnz, "fan_nnz": fans}
    return {key: value for key, value in both.items() if value is not None}
