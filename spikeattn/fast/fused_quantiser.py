"""Neurons of integers without state (`tracing.quantisers`) as one kernel, which counts what it makes."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.fast import native
from spikeattn.fast.arena import empty
from spikeattn.fast.count import Maker, Read, Reader, Slots
from spikeattn.fast.fused_neuron import takes
from spikeattn.tracing.kinds import is_dense, is_identical
from spikeattn.tracing.quantisers import Quantiser, between, quantiser_of, shown


class _InC(ctypes.Structure):
    """A quantiser as `quantiser.h` has it."""

    _fields_ = (
        ("low", ctypes.c_float), ("high", ctypes.c_float), ("scale", ctypes.c_float), ("multiplies", ctypes.c_int32),
    )  # fmt: skip


class Kernel:
    """What a quantiser makes of a tensor, in its order of memory, as an operation of PyTorch gives it; None for tensors
    that the kernel does not take."""

    def __init__(self, quantiser: Quantiser) -> None:
        self._in_c = _InC(quantiser.low, quantiser.high, quantiser.scale, quantiser.multiplies)

    def __call__(self, x: Tensor, norm: int = 0) -> Tensor | None:
        """Args:
        norm: address of the batch norm whose output x, contiguous, is still to become; 0 for none.
        """
        if not _takes(x):
            return None
        y = empty((x.numel(),)).as_strided(x.shape, x.stride())
        addresses = map(ctypes.c_void_p, (ctypes.addressof(self._in_c), norm))
        native.call("quantise", x, y, x.numel(), *addresses)
        return y

    def counted(self, x: Tensor, reader: Reader, slots: Slots, norm: int = 0) -> tuple[Tensor, Read | None] | None:
        """The same, and what a reader of its output finds in it, block by block as it is made."""
        if not _takes(x):
            return None
        y = empty((x.numel(),)).as_strided(x.shape, x.stride())
        return y, reader(y, slots, Maker(x.data_ptr(), ctypes.addressof(self._in_c), norm))


def kernel_of(neuron: nn.Module) -> Kernel | None:
    """A kernel that does what a neuron does; None for a neuron that does anything else."""
    found = quantiser_of(neuron)
    if found is None:
        return None
    kernel = Kernel(found)
    with torch.no_grad():
        alike = all(is_identical(kernel(x), found(x)) for x in (shown(), between()))
    return kernel if alike else None


def _takes(x: Any) -> bool:
    return takes(x) and _is_dense(x.shape, x.stride())


@lru_cache(maxsize=1024)  # shapes and strides of the tensors of a few networks
def _is_dense(shape: torch.Size, strides: tuple[int, ...]) -> bool:
    return is_dense(torch.empty_strided(shape, strides, device="meta"))
