"""The Spike-driven Transformer prepared for counting: same modules, same spikes, several times faster.

`prepare(model)` returns a copy for inference with the same module names, so a recorder follows it under the plan of the
model itself. Batch norms are folded into the convolutions before them, memory is channels-last, the first convolution
of a still image runs once, and every module that makes spikes also counts them while it has them at hand. Kernels are
`native` on the CPU and `cuda` on CUDA.

Neurons start every call from rest: there is no state to reset.
"""

from __future__ import annotations

import copy
import logging
from math import prod
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from spikeattn.compat.spiking import layer, neuron
from spikeattn.errors import SpikeattnError
from spikeattn.fast import native
from spikeattn.fast.arena import Arena, using
from spikeattn.fast.layers import FastConv, FastErode, FastHead, FastLIF, FastMask, FastPool, Sums, kernels_for
from spikeattn.models import spike_driven
from spikeattn.models.spike_driven import Erode, Mask, SpikeDrivenSelfAttention, SpikeDrivenTransformer

logger = logging.getLogger(__name__)

_MASKED = ("q_lif", "k_lif", "v_lif", "k_pool", "v_pool", "talking_heads_lif")  # what only masks read
PLAIN = "plain"
_PARTS = (nn.BatchNorm2d, nn.ModuleList, nn.Linear, nn.MaxPool3d)
_WORTH = 200_000_000  # multiply-accumulates per image: below, preparing takes as long as it saves
_SURROGATES = ("spikingjelly.activation_based.surrogate", "spikeattn.compat.lif")
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def prepare(model: nn.Module, dtype: torch.dtype = torch.float32, count: bool = True) -> FastTransformer:
    """A fast copy of a Spike-driven Transformer, on its device, for inference.

    On the CPU every sum runs in a fixed order, so spikes depend neither on the number of threads nor on the batch.

    Args:
        model: stays as it is; later changes of its weights do not reach the copy.
        dtype: of the convolutions, on CUDA; membrane potentials and shortcuts are float32 all the same. The CPU takes
            float32 alone.
        count: leave counts in the modules that make spikes; without, only for comparisons of speed.

    Raises:
        SpikeattnError: what `unsupported(model)` says.
    """
    if reason := unsupported(model, dtype):
        raise SpikeattnError(f"the fast path cannot run this model: {reason}; use plain=True")
    assert isinstance(model, SpikeDrivenTransformer)  # `unsupported` names every other class
    return FastTransformer(model, dtype, count)


def choose(model: nn.Module, plain: bool | None, usual: bool = True) -> str:
    """What runs in a profile of `model`: PLAIN, "fast (native)" on the CPU, or "fast (triton)" on CUDA.

    Args:
        plain: as of `profile`; None prefers the fast copy for models of at least 0.2 G multiply-accumulates per image,
            below which neither takes long. It depends on the model alone, so shards and ranks of a run agree.
        usual: whether the model is called in the usual way, with SpikingJelly's neurons.

    Raises:
        SpikeattnError: plain=False for a model of the class that has fast copies, and yet none.
    """
    own = model if usual and is_original(model) else None
    if plain or own is None or (plain is None and work(own) < _WORTH):
        return PLAIN  # its neurons may run by kernels all the same, see `foreign`
    reason = unsupported(own)
    if reason and plain is None:
        logger.warning("the model runs as it is, several times slower than its fast copy would: %s", reason)
        return PLAIN
    if reason:
        raise SpikeattnError(f"plain=False: the fast path cannot run this model: {reason}; leave plain out")
    return f"fast ({kernels_for(own.head.weight.device).__name__.rpartition('.')[2].removesuffix('_kernels')})"


def is_original(model: nn.Module) -> TypeGuard[SpikeDrivenTransformer]:
    """Whether a model is the Spike-driven Transformer itself; a class derived from it may compute other things."""
    return type(model) is SpikeDrivenTransformer


def work(model: SpikeDrivenTransformer) -> int:
    """Multiply-accumulates per image of the convolutions at all time steps, borders included; the first one once."""
    sps, size, total = model.patch_embed, model.img_size, 0
    for stage in ("", "1", "2", "3"):
        times = model.time_steps if stage else 1
        total += times * prod(size) * getattr(sps, f"proj_conv{stage}").weight.numel()
        size = _after(getattr(sps, f"maxpool{stage}"), size)
    rest = [sps.rpe_conv, *(m for block in model.block for m in block.modules() if isinstance(m, nn.Conv2d))]
    return total + model.time_steps * prod(size) * sum(m.weight.numel() for m in rest)


def _after(pool: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width behind a 3x3 pool with padding 1, or where there is none."""
    if pool is None:
        return size
    height, width = size
    return (height - 1) // pool.stride + 1, (width - 1) // pool.stride + 1


def unsupported(model: nn.Module, dtype: torch.dtype = torch.float32) -> str:
    """Why `prepare` cannot take a model; empty where it can."""
    if is_original(model):
        return _unsupported(model, dtype)
    return f"it is of class {type(model).__name__}, and only spikeattn's SpikeDrivenTransformer has a fast path"


def _unsupported(model: SpikeDrivenTransformer, dtype: torch.dtype) -> str:
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
        from spikeattn.fast import cuda  # noqa: F401
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
    known = room == spike_driven.__name__ or room.startswith(_SURROGATES)
    return "" if known or isinstance(module, _PARTS) else f"is a {type(module).__name__}"


class FastAttention(SpikeDrivenSelfAttention):
    """Spike-driven self-attention whose votes were summed with the mask."""

    def drive(self, kv: Tensor) -> Tensor:
        mask = self.kv_mask
        if self.kv_pool is None and isinstance(mask, FastMask) and mask.votes is not None:
            return mask.votes
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
        self.add_module("head", FastHead(model.head, dtype))
        self.eval()
        self._arena = Arena()  # of the CPU's kernels; its memory is freed with this network
        _tell_fan_outs(self.patch_embed, self.img_size)

    def forward(self, x: Tensor) -> Tensor:
        with using(self._arena):
            return super().forward(x)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.patch_embed(self._over_time(x))
        for block in self.block:
            x = block(x)
        x = x.tensor() if isinstance(x, Sums) else x
        return kernels_for(x.device).mean(x)

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
            norm = children[name.replace("conv", "bn")]
            assert isinstance(norm, nn.BatchNorm2d)
            branches = name == "proj_conv3"  # a pool or two modules read it, and shortcuts begin there
            made._modules[name] = FastConv(child, norm, dtype, now=branches, wide=branches)
        elif isinstance(child, nn.BatchNorm2d):
            made._modules[name] = nn.Identity()
        elif isinstance(child, neuron.BaseNode):
            made._modules[name] = FastLIF(child, bits, count)
        elif isinstance(child, layer.MaxPool2d):
            made._modules[name] = FastPool(child.stride, bits, count)
        elif isinstance(child, Mask):
            erode = FastErode(child.erode, spikes_as) if isinstance(child.erode, Erode) else None
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
        size = _after(pool, size)
        maker = lif if pool is None or stage == "3" else pool
        maker.fan_out = fan_out(size, conv.kernel, conv.out_channels).to(conv.weight.device)
        conv.source = (maker,)


def fan_out(size: tuple[int, int], kernel: int, out_channels: int) -> Tensor:
    """Weights that a spike meets at each position under a convolution with stride 1 that keeps the size: [H * W]."""
    half = kernel // 2
    taps = [torch.tensor([min(n - 1, i + half) - max(0, i - half) + 1 for i in range(n)]) for n in size]
    return torch.outer(*taps).flatten() * out_channels
