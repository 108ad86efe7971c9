"""What a batch norm will give, worked out where it is read: in the kernel of the neuron behind it, or at once.

Most batch norms stand in front of a neuron, whose kernel takes them along; their output is never written then. Whatever
else is done with it, by anybody, is done with the output itself, made for that.
"""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from spikeattn.errors import SpikeattnError
from spikeattn.fast import native
from spikeattn.fast.arena import empty

_LEAST = 1 << 16  # elements; below, it takes longer to put the output off than to write it
_VIEWS = {
    Tensor.view, Tensor.reshape, Tensor.flatten, Tensor.unflatten, Tensor.contiguous, Tensor.unsqueeze, Tensor.squeeze,
    torch.reshape, torch.flatten, torch.unflatten, torch.unsqueeze, torch.squeeze,
}  # fmt: skip
# What is said of a tensor without reading it.
_ATTRIBUTES: tuple[Any, ...] = (
    Tensor.shape, Tensor.ndim, Tensor.dtype, Tensor.device, Tensor.layout, Tensor.is_cuda, Tensor.requires_grad,
    Tensor.grad_fn,
)  # fmt: skip
_FACTS = {
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.stride, Tensor.is_contiguous, Tensor.is_floating_point,
    Tensor.__len__, *(attribute.__get__ for attribute in _ATTRIBUTES),
}  # fmt: skip


class _InC(ctypes.Structure):
    """A batch norm as `norm.h` has it."""

    _fields_ = (
        ("scale", ctypes.c_void_p), ("shift", ctypes.c_void_p), ("C", ctypes.c_int64), ("P", ctypes.c_int64),
        ("fused", ctypes.c_int64),
    )  # fmt: skip


class Norm:
    """A batch norm of fixed statistics: x * scale + shift by channel.

    Args:
        fused: with one rounding.

    Attributes:
        channels: so many.
        taken, read: kernels, and somebody else, have read what it gave in the trial. What a network has not been seen
            to leave to kernels alone is not put off.
    """

    def __init__(self, scale: Tensor, shift: Tensor, fused: bool) -> None:
        self._scale, self._shift, self._fused = scale, shift, fused
        self.channels = len(scale)
        self.taken = self.read = self._trying = self._puts_off = False

    def begin_trial(self, puts_off: bool) -> None:
        """In the pass that follows its output is put off, whatever its size, or never."""
        self.taken = self.read = False
        self._trying, self._puts_off = True, puts_off

    def end_trial(self) -> None:
        """The pass has ended."""
        self._trying, self._puts_off = False, self._puts_off and self.taken and not self.read

    def __call__(self, x: Tensor, channels: int) -> Tensor:
        """What it gives for maps, contiguous, with their channels on that axis; perhaps put off."""
        small = x.numel() < _LEAST and not self._trying
        if small or not self._puts_off or x.is_inference():  # of which nobody could tell that it is written into
            return self.apply(x, prod(x.shape[channels + 1 :]))
        return PendingNorm.of(x, _Work(self, x, prod(x.shape[channels + 1 :])))

    def apply(self, x: Tensor, positions: int) -> Tensor:
        """What it gives for maps of so many positions, now."""
        y, C = empty(x.shape), len(self._scale)
        sizes = (x.numel() // (C * positions), C, positions)
        native.call("affine", x, y, *sizes, self._scale, self._shift, ctypes.c_int(self._fused))
        return y

    def in_c(self, positions: int) -> _InC:
        """It as the source takes it, good for as long as this object."""
        return _InC(self._scale.data_ptr(), self._shift.data_ptr(), len(self._scale), positions, self._fused)


class _Work:
    """One call of a batch norm, put off; all views of its output share it."""

    def __init__(self, norm: Norm, x: Tensor, positions: int) -> None:
        self.norm, self.in_c = norm, norm.in_c(positions)
        self._x, self._positions, self._version = x, positions, x._version
        self.made: Tensor | None = None

    def check(self) -> None:
        """Raises:
        SpikeattnError: what the batch norm was given has been written into since.
        """
        if self._x._version != self._version:
            raise SpikeattnError(
                "a network writes into what it has given a batch norm before it reads what the norm has made of it, "
                "which kernels do not follow; use plain=True"
            )

    def done(self) -> Tensor:
        """The output; whoever writes into it changes it for all."""
        if self.made is None:
            self.check()
            self.norm.read = True
            self.made = self.norm.apply(self._x, self._positions)
        return self.made


class PendingNorm(Tensor):
    """The output of a batch norm, of which only shape and the like are known so far.

    Attributes:
        source: what it is to be made of, contiguous and of its shape.
        work: how.
    """

    source: Tensor
    work: _Work

    @staticmethod
    def of(source: Tensor, work: _Work) -> PendingNorm:
        """The output, or a view of it."""
        facts: Any = {"strides": source.stride(), "dtype": source.dtype, "device": source.device}
        made: Any = Tensor._make_wrapper_subclass(PendingNorm, source.shape, **facts)  # without memory of its own
        made.source, made.work = source, work
        return cast("PendingNorm", made)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            x = args[0] if args else None
            if isinstance(x, PendingNorm) and x.work.made is None:
                if func in _FACTS:
                    return func(x.source, *args[1:], **kwargs)
                if func in _VIEWS:
                    view = func(x.source, *args[1:], **kwargs)
                    same = view.data_ptr() == x.source.data_ptr() and view.numel() == x.source.numel()
                    if same and view.is_contiguous():
                        return PendingNorm.of(view, x.work)
            args, kwargs = tree_map_only(PendingNorm, _made, (args, kwargs))
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]  # the base class has none
        """What does not ask the class first, as code that is compiled by `torch.jit.script`."""
        args, kwargs = tree_map_only(PendingNorm, _made, (args, kwargs or {}))
        return func(*args, **kwargs)


def _made(x: PendingNorm) -> Tensor:
    return x.work.done().view(x.source.shape)


def ready(x: Any) -> Any:
    """A tensor as it is, or the output that was put off."""
    if not isinstance(x, PendingNorm):
        return x
    with torch._C.DisableTorchFunctionSubclass():
        return _made(x)


def put_off(x: Any) -> tuple[Any, int]:
    """What a kernel is to read, and the address of the batch norm that it is to run in front; 0 for none."""
    if not isinstance(x, PendingNorm):
        return x, 0
    with torch._C.DisableTorchFunctionSubclass():
        if x.work.made is not None:
            return _made(x), 0
        x.work.check()
        x.work.norm.taken = True
        return x.source, ctypes.addressof(x.work.in_c)
