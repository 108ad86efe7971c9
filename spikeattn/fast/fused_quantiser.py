"""Neurons of integers without state (`round(clamp(x, 0, D)) / D`, as an I-LIF neuron runs in a pass) as one kernel.

Every publication brings a class of its own for it. So nothing is read off a name: the neuron is run once, its
operations are read off that run with their constants, and the kernel is taken where it gives the neuron's own bits.
"""

from __future__ import annotations

import copy
import ctypes
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.fast import native
from spikeattn.fast.arena import empty
from spikeattn.fast.count import Maker, Read, Reader, Slots
from spikeattn.fast.fused_neuron import is_identical, takes
from spikeattn.tracing.kinds import is_dense

_TRIED = (3, 5, 1371)  # a neuron is tried on so many elements: vectors and a rest


class _InC(ctypes.Structure):
    """A quantiser as `quantiser.h` has it."""

    _fields_ = (
        ("low", ctypes.c_float), ("high", ctypes.c_float), ("scale", ctypes.c_float), ("multiplies", ctypes.c_int32),
    )  # fmt: skip


class Quantiser:
    """round(clamp(x, low, high)), divided by `scale` or multiplied with it, in the order of memory of x, as an
    operation of PyTorch gives it; None for tensors that the kernel does not take."""

    def __init__(self, low: float, high: float, scale: float, multiplies: bool) -> None:
        self._in_c = _InC(low, high, scale, multiplies)

    def __call__(self, x: Tensor) -> Tensor | None:
        if not _takes(x):
            return None
        y = empty((x.numel(),)).as_strided(x.shape, x.stride())
        native.call("quantise", x, y, x.numel(), ctypes.c_void_p(ctypes.addressof(self._in_c)))
        return y

    def counted(self, x: Tensor, reader: Reader, slots: Slots) -> tuple[Tensor, Read | None] | None:
        """The same, and what a reader of its output finds in it, block by block as it is made."""
        if not _takes(x):
            return None
        y = empty((x.numel(),)).as_strided(x.shape, x.stride())
        return y, reader(y, slots, Maker(x.data_ptr(), ctypes.addressof(self._in_c)))


def quantiser_of(neuron: nn.Module) -> Quantiser | None:
    """A kernel that does what a neuron does; None for a neuron that does anything else.

    Args:
        neuron: stays as it is; a copy is called twice.
    """
    if any(neuron.parameters()) or any(neuron.buffers()) or any(neuron.children()) or _is_watched(neuron):
        return None
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(_TRIED, generator=drawn) * 10.0 ** torch.empty(_TRIED).uniform_(-3, 2, generator=drawn)
    x[:, :, :8] = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 0.5, 1.5, 1e-42])
    halves = (torch.arange(-64, 4096).float() / 8).view(1, -1)  # what lies between two levels exactly, too
    ran = _Operations(x)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            own = copy.deepcopy(neuron)
            with ran:
                expected = own(x)
            between = own(halves)
            changed = vars(own) != vars(neuron)
        except Exception:  # of a neuron that takes other tensors, of whatever kind; it stays as it is
            return None
        quantiser = ran.quantiser(expected)
        if quantiser is None or changed:
            return None
        pairs = ((quantiser(x), expected), (quantiser(halves), between))
        return quantiser if all(made is not None and is_identical(made, its) for made, its in pairs) else None


def _is_watched(neuron: Any) -> bool:
    return bool(neuron._forward_hooks or neuron._forward_pre_hooks or "forward" in vars(neuron))


@dataclass
class _Ran:
    name: str
    constants: tuple[float | None, ...]


@dataclass
class _Chain:
    """Operations each of which takes what the last one has made, and numbers."""

    last: Tensor | None
    ran: list[_Ran] = field(default_factory=list)


class _Operations(TorchDispatchMode):
    """Notes the operations that a neuron runs on `x`, as long as each takes the last one's result."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self._chain = _Chain(x)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        chain = self._chain
        constants = tuple(each.item() if isinstance(each, Tensor) and each.dim() == 0 else each for each in args[1:])
        numbers = all(each is None or isinstance(each, (int, float)) for each in constants)
        if not args or args[0] is not chain.last or not numbers or kwargs or func._schema.is_mutable:
            chain.last = None  # and nothing is the next one
        else:
            chain.last = out
            chain.ran.append(_Ran(func._schema.name.split("::")[1], constants))
        return out

    def quantiser(self, made: Any) -> Quantiser | None:
        """What the operations were, if they were those of a quantiser and gave what the neuron has."""
        if made is not self._chain.last:
            return None
        ran = self._chain.ran
        if [each.name for each in ran[:2]] != ["clamp", "round"] or len(ran) > 3 or ran[1].constants:
            return None
        bounds = (*ran[0].constants, None)[:2]
        last = ran[2] if len(ran) == 3 else _Ran("div", (1.0,))
        if None in bounds or last.name not in ("div", "mul") or len(last.constants) != 1:
            return None
        low, high, scale = (float(each) for each in (*bounds, last.constants[0]) if each is not None)
        return Quantiser(low, high, scale, last.name == "mul")


def _takes(x: Any) -> bool:
    return takes(x) and _is_dense(x.shape, x.stride())


@lru_cache(maxsize=1024)  # shapes and strides of the tensors of a few networks
def _is_dense(shape: torch.Size, strides: tuple[int, ...]) -> bool:
    return is_dense(torch.empty_strided(shape, strides, device="meta"))
