"""The Spike-driven Transformer prepared for counting: same modules, same spikes, several times faster.

`prepare(model)` returns a copy for inference with the same module names, so a recorder follows it under the plan of the
model itself. Batch norms are folded into the convolutions before them, memory is channels-last, the first convolution
of a still image runs once, and every module that makes spikes also counts them while it has them at hand. Kernels are
`native` on the CPU and `triton_kernels` on CUDA.

Neurons start every call from rest: there is no state to reset.
"""

from __future__ import annotations

import copy
import logging
from types import ModuleType

import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from ..errors import SpikeattnError
from . import native
from .spike_driven import Erode, Mask, SpikeDrivenSelfAttention, SpikeDrivenTransformer

logger = logging.getLogger(__name__)

_MASKED = ("q_lif", "k_lif", "v_lif", "k_pool", "v_pool", "talking_heads_lif")  # what only masks read
PLAIN = "plain"
_PARTS = (nn.BatchNorm2d, nn.ModuleList, nn.Linear, nn.MaxPool3d)
_WORTH = 200_000_000
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def prepare(
    model: SpikeDrivenTransformer, dtype: torch.dtype = torch.float32, count: bool = True
) -> FastTransformer:
    """A fast copy of a Spike-driven Transformer, on its device, for inference.

    On the CPU every sum runs in a fixed order, so spikes depend neither on the number of threads nor on the batch.

    Args:
        model: stays as it is; later changes of its weights do not reach the copy.
        dtype: of the convolutions, on CUDA; potentials are float32 always. The CPU takes float32 alone.
        count: leave counts in the modules that make spikes; without, only for comparisons of speed.

    Raises:
        SpikeattnError: what `unsupported(model)` says.
    """
    if reason := unsupported(model, dtype):
        raise SpikeattnError(f"the fast path cannot run this model: {reason}; use plain=True")
    return FastTransformer(model, dtype, count)


def choose(model: nn.Module, plain: bool | None, usual: bool = True) -> str:
    """What runs in a profile of `model`: PLAIN, "fast (native)" on the CPU, or "fast (triton)" on CUDA.

    Args:
        plain: as of `profile`; None prefers the fast copy for models of at least 0.2 G multiply-accumulates per image,
            below which neither takes long. It depends on the model alone, so shards and ranks of a run agree.
        usual: whether the model is called in the usual way, with SpikingJelly's neurons.

    Raises:
        SpikeattnError: plain=False for a model without a fast copy.
    """
    reason = unsupported(model) if usual else "forward= or neurons= of your own may need the model itself"
    if plain is False and reason:
        raise SpikeattnError(f"plain=False: the fast path cannot run this model: {reason}; leave plain out")
    if plain or reason or (plain is None and work(model) < _WORTH):
        if plain is None and reason and type(model) is SpikeDrivenTransformer and usual:
            logger.warning("the model runs as it is, several times slower than its fast copy would: %s", reason)
        return PLAIN
    return f"fast ({_kernels(model.head.weight.device).__name__.rpartition('.')[2].removesuffix('_kernels')})"


def work(model: SpikeDrivenTransformer) -> int:
    """Multiply-accumulates per image, all time steps: of the convolutions, borders included."""
    (height, width), positions = model.img_size, []
    for stage in range(4):
        positions.append(height * width)
        if model.config["pooling_stat"][stage] == "1":
            height, width = (height - 1) // 2 + 1, (width - 1) // 2 + 1
    sps = [getattr(model.patch_embed, f"proj_conv{k}").weight.numel() for k in ("", "1", "2", "3")]
    rest = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d)) - sum(sps)
    first, *others = (n * weights for n, weights in zip(positions, sps, strict=True))
    return first + model.time_steps * (sum(others) + height * width * rest)


def unsupported(model: nn.Module, dtype: torch.dtype = torch.float32) -> str:
    """Why `prepare` cannot take a model; empty where it can."""
    if type(model) is not SpikeDrivenTransformer:
        return f"it is of class {type(model).__name__}, and only spikeattn's SpikeDrivenTransformer has a fast path"
    weights = {p.dtype for p in model.parameters()} - {torch.float32}
    if weights:
        return f"its weights are {weights.pop()}, and the fast path reads float32"
    for path, module in model.named_modules():
        if reason := _unusual(module):
            return f"{path or 'the model'} {reason}"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"module {path or type(model).__name__} has forward hooks, which a copy would not call"
    device = model.head.weight.device.type
    if device == "cpu":
        return native.build().reason if dtype == torch.float32 else f"{dtype} needs CUDA"
    if device == "cuda":
        return _no_triton() if dtype in _DTYPES else f"{dtype} is none of {', '.join(map(str, _DTYPES))}"
    return f"it is on {device}, and there are kernels for cpu and cuda"


def _no_triton() -> str:
    try:
        from . import triton_kernels  # noqa: F401
    except ImportError as error:
        return f"the package triton cannot be imported ({error})"
    return ""


def _unusual(module: nn.Module) -> str:
    """Why a module is none that `prepare` knows; empty where it is."""
    if isinstance(module, neuron.BaseNode):
        if type(module) not in (neuron.LIFNode, neuron.ParametricLIFNode):
            return f"is a {type(module).__name__}"
        if module.step_mode != "m" or not module.decay_input or module.v_reset != 0.0 or module.store_v_seq:
            return "has a step mode, decay, reset or store_v_seq of its own"
        return "" if getattr(module.surrogate_function, "spiking", False) else "does not spike"
    if isinstance(module, nn.Conv2d):
        kernel, half = module.kernel_size[0], module.kernel_size[0] // 2
        form = (module.kernel_size, module.padding, module.stride, module.dilation, module.groups)
        usual = kernel % 2 and form == ((kernel,) * 2, (half,) * 2, (1, 1), (1, 1), 1)
        return "" if usual else "is a convolution of another form"
    if isinstance(module, nn.MaxPool2d):
        return "" if (module.kernel_size, module.padding) == (3, 1) else "is a pool of another form"
    room = type(module).__module__
    known = room == f"{__package__}.spike_driven" or room.startswith("spikingjelly.activation_based.surrogate")
    return "" if known or isinstance(module, _PARTS) else f"is a {type(module).__name__}"


def _kernels(device: torch.device) -> ModuleType:
    if device.type == "cpu":
        return native
    from . import triton_kernels

    return triton_kernels


class FastLIF(nn.Module):
    """LIF or PLIF from rest, [T, B, C, H, W] or [T, B, C] -> spikes of the same shape.

    Attributes:
        counts: after a call, "nnz" and, with a `fan_out`, "fan_nnz", [T, B] whole numbers each, and "sick": how many
            potentials are NaN or infinite.
        fan_out: [H * W] weights that a spike meets at each position of the convolution behind, or None.
        dtype: of the spikes on CUDA.
    """

    def __init__(self, node: neuron.BaseNode, dtype: torch.dtype, count: bool) -> None:
        super().__init__()
        learned = isinstance(node, neuron.ParametricLIFNode)
        self.tau = float(node.w.detach().float().sigmoid()) if learned else float(node.tau)
        self.multiply, self.threshold = learned, float(node.v_threshold)
        self.dtype, self.count = dtype, count
        self.counts: dict[str, Tensor | int] = {}
        self.fan_out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        flat = x if x.dim() == 5 else x[..., None, None]
        kernels = _kernels(x.device)
        options = {} if kernels is native else {"dtype": self.dtype, "count": self.count}
        spikes, nnz, fans, sick = kernels.lif(
            flat.float() if kernels is native else flat,
            self.tau,
            self.multiply,
            self.threshold,
            self.fan_out,
            **options,
        )
        self.counts = _left(nnz, fans) | {"sick": sick}
        return spikes if x.dim() == 5 else spikes[..., 0, 0]

    def extra_repr(self) -> str:
        return f"{'a' if self.multiply else 'tau'}={self.tau}, threshold={self.threshold}"


class FastPool(nn.Module):
    """3x3 max-pool of spikes, which are counted, or of real numbers; attributes as of `FastLIF`."""

    def __init__(self, stride: int, dtype: torch.dtype, count: bool) -> None:
        super().__init__()
        self.stride, self.dtype, self.count = stride, dtype, count
        self.counts: dict[str, Tensor | int] = {}
        self.fan_out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        kernels = _kernels(x.device)
        if x.dtype != torch.bool:
            return kernels.pool_real(x, self.stride)
        options = {} if kernels is native else {"dtype": self.dtype, "count": self.count}
        spikes, nnz, fans = kernels.pool(x, self.stride, self.fan_out, **options)
        self.counts = _left(nnz, fans)
        return spikes


class FastMask(nn.Module):
    """AND of spikes, counted; `votes` keeps the sum over tokens. With `erode` the result is pooled and not counted."""

    def __init__(self, dtype: torch.dtype, count: bool, votes: bool, erode: Erode | None) -> None:
        super().__init__()
        self.dtype, self.count, self.erode = dtype, count, erode
        self.counts: dict[str, Tensor | int] = {}
        self._wanted, self.votes = votes, None

    def forward(self, spikes: Tensor, mask: Tensor) -> Tensor:
        kernels = _kernels(spikes.device)
        options = {} if kernels is native else {"dtype": self.dtype, "count": self.count}
        masked, nnz, self.votes = kernels.mask(spikes, mask, self._wanted, **options)
        if self.erode is not None:
            return self.erode(masked)
        self.counts = _left(nnz, None)
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

    Attributes:
        source: the module that made its input and left the fan-out-weighted count of it (in a tuple, which does not
            register it here); empty where every position has the same fan-out.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = _fold(conv, norm)
        self.out_channels, self.kernel, self.dtype = conv.out_channels, conv.kernel_size[0], dtype
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
    def counts(self) -> dict[str, Tensor | int]:
        """The fan-out-weighted count of its input, "fan_nnz"."""
        left = self.source[0].counts if self.source else {}
        return {"fan_nnz": left["fan_nnz"]} if "fan_nnz" in left else {}

    def forward(self, x: Tensor) -> Tensor:
        if self._native:
            return native.conv(x, self.weight, self.bias, self.out_channels, self.kernel)
        T, B = x.shape[:2]
        once = x.stride(0) == 0 and T > 1  # a still image
        flat = (x[0] if once else x.flatten(0, 1)).to(self.dtype, memory_format=torch.channels_last)
        y = nn.functional.conv2d(flat, self.weight, self.bias, padding=self.kernel // 2)
        return y.expand(T, *y.shape) if once else y.unflatten(0, (T, B))


class FastHead(nn.Module):
    """The linear classifier of spikes, [T, B, D] -> [T, B, K]."""

    def __init__(self, head: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.features = head.out_features
        self._native = head.weight.device.type == "cpu"
        weight, bias = head.weight.detach(), head.bias.detach()
        packed = native.pack(weight[..., None, None], bias) if self._native else (weight.to(dtype), bias.to(dtype))
        for name, value in zip(("weight", "bias"), packed, strict=True):
            self.register_buffer(name, value.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self._native:
            return native.conv(x[..., None, None], self.weight, self.bias, self.features, 1)[..., 0, 0]
        return nn.functional.linear(x.to(self.weight.dtype), self.weight, self.bias).float()


class FastAttention(SpikeDrivenSelfAttention):
    """Spike-driven self-attention whose votes were summed with the mask."""

    def drive(self, kv: Tensor) -> Tensor:
        if self.kv_pool is None:
            return self.kv_mask.votes
        return kv.float().sum(dim=(3, 4), keepdim=True)


class FastTransformer(SpikeDrivenTransformer):
    """What `prepare` returns; a recorder reads the counts that its modules leave."""

    leaves_counts = True

    def __init__(self, model: SpikeDrivenTransformer, dtype: torch.dtype, count: bool) -> None:
        nn.Module.__init__(self)
        self.config, self.img_size, self.in_chans = model.config, model.img_size, model.in_chans
        self.num_classes, self.time_steps, self.tet = model.num_classes, model.time_steps, model.tet
        for name, child in model.named_children():
            setattr(self, name, _convert(child, dtype, count))
        self.head = FastHead(model.head, dtype)
        self.eval()
        _tell_fan_outs(self.patch_embed, self.img_size)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.patch_embed(self._over_time(x))
        for block in self.block:
            x = block(x)
        return _kernels(x.device).mean(x)

    def _over_time(self, x: Tensor) -> Tensor:
        image, T = (self.in_chans, *self.img_size), self.time_steps
        if x.dtype == torch.float32 and x.shape[1:] == image:
            return x.expand(T, *x.shape)
        if x.dtype == torch.float32 and x.shape[1:] == (T, *image):
            return x.transpose(0, 1)
        raise SpikeattnError(
            f"the model's input has shape {tuple(x.shape)} and type {x.dtype}; it takes float32 images [B, *{image}] "
            f"or frames [B, {T}, *{image}]"
        )


def _convert(module: nn.Module, dtype: torch.dtype, count: bool) -> nn.Module:
    """A module with its neurons, convolutions, pools and masks replaced; containers are copied, weights shared."""
    spikes_as = torch.bool if next(iter(module.parameters()), torch.zeros(())).device.type == "cpu" else dtype
    made = copy.copy(module)
    made._modules = {}
    children = dict(module.named_children())
    for name, child in children.items():
        pooled = name.startswith("proj_lif") and children.get(name.replace("proj_lif", "maxpool")) is not None
        bits = torch.bool if (pooled and name != "proj_lif3") or name in _MASKED else spikes_as
        if isinstance(child, nn.Conv2d):
            made._modules[name] = FastConv(child, children[name.replace("conv", "bn")], dtype)
        elif isinstance(child, nn.BatchNorm2d):
            made._modules[name] = nn.Identity()
        elif isinstance(child, neuron.BaseNode):
            made._modules[name] = FastLIF(child, bits, count)
        elif isinstance(child, layer.MaxPool2d):
            made._modules[name] = FastPool(child.stride, bits, count)
        elif isinstance(child, Mask):
            erode = None if child.erode is None else FastErode(child.erode, spikes_as)
            votes = name == "kv_mask" and module.kv_pool is None
            made._modules[name] = FastMask(torch.bool if erode or name == "kv_mask" else bits, count, votes, erode)
        elif isinstance(child, Erode):
            made._modules[name] = FastErode(child, torch.float32)
        else:
            made._modules[name] = _convert(child, dtype, count)
    for name in module._modules.keys() - children.keys():  # pools that a configuration leaves out
        made._modules[name] = None
    if isinstance(module, SpikeDrivenSelfAttention):
        made.__class__ = FastAttention
    return FastLIF(module, spikes_as, count) if isinstance(module, neuron.BaseNode) else made


def _tell_fan_outs(sps: nn.Module, size: tuple[int, int]) -> None:
    """Tell the module before each 3x3 convolution of spikes how many weights a spike meets there, by position."""
    for stage, name in (("", "proj_conv1"), ("1", "proj_conv2"), ("2", "proj_conv3"), ("3", "rpe_conv")):
        pool, lif, conv = getattr(sps, f"maxpool{stage}"), getattr(sps, f"proj_lif{stage}"), getattr(sps, name)
        size = size if pool is None else tuple((n - 1) // 2 + 1 for n in size)
        maker = lif if pool is None or stage == "3" else pool
        maker.fan_out = fan_out(size, conv.kernel, conv.out_channels).to(conv.weight.device)
        conv.source = (maker,)


def fan_out(size: tuple[int, int], kernel: int, out_channels: int) -> Tensor:
    """Weights that a spike meets at each position under a convolution with stride 1 that keeps the size: [H * W]."""
    half = kernel // 2
    taps = [torch.tensor([min(n - 1, i + half) - max(0, i - half) + 1 for i in range(n)]) for n in size]
    return torch.outer(*taps).flatten() * out_channels


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a convolution and the batch norm behind it."""
    scale = norm.weight.double() / (norm.running_var + norm.eps).double().sqrt()
    bias = -norm.running_mean.double() if conv.bias is None else conv.bias.double() - norm.running_mean.double()
    return conv.weight.detach().double() * scale.detach()[:, None, None, None], (
        bias * scale + norm.bias.double()
    ).detach()


def _left(nnz: Tensor | None, fans: Tensor | None) -> dict[str, Tensor | int]:
    found = {"nnz": nnz, "fan_nnz": fans}
    return {key: value for key, value in found.items() if value is not None}
