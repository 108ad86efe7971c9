"""Memory of tensors that are gone, for the next ones: new memory costs a page fault per 4 KiB, more than filling it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 17  # bytes: below, the C library reuses memory by itself
_ALIGNED = 64  # bytes: a line of the cache
_SLACK = 4  # times the bytes that are wanted; a block of more serves larger tensors


class Arena:
    """Blocks of memory on the CPU, each lent to one tensor at a time.

    A tensor's storage holds on to the array that it was made of, as do all of the tensor's views. So a block is free
    once nothing holds that array any more, which a weak reference tells; until then, whoever keeps a tensor, in a hook
    or elsewhere, keeps its content. The blocks themselves live as long as the arena.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []  # by size

    def __reduce__(self) -> tuple[type[Arena], tuple[()]]:
        return Arena, ()  # a copy has blocks of its own

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """As `torch.empty`."""
        size = prod(shape) * dtype.itemsize
        if size < _LARGE:
            return torch.empty(shape, dtype=dtype)
        with self._lock:
            number = self._free(size)
            if number is None:
                raw = np.empty(size + _ALIGNED, dtype=np.uint8)
                start = -raw.ctypes.data % _ALIGNED
                block = raw[start : start + size]
            else:
                block = self._blocks.pop(number)[0]
            lent = block[:size]
            self._blocks.append((block, weakref.ref(lent)))
            self._blocks.sort(key=lambda pair: len(pair[0]))
        return torch.from_numpy(lent).view(dtype).view(tuple(shape))

    def _free(self, size: int) -> int | None:
        """The smallest block that is free and large enough."""
        for number, (block, lent) in enumerate(self._blocks):
            if size <= len(block) <= _SLACK * size and lent() is None:
                return number
        return None


_arena: ContextVar[Arena | None] = ContextVar("arena", default=None)


@contextmanager
def using(arena: Arena) -> Iterator[None]:
    """What `empty` gives inside lies in the memory of an arena."""
    token = _arena.set(arena)
    try:
        yield
    finally:
        _arena.reset(token)


def empty(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """As `torch.empty`, on the CPU, in the arena that is used."""
    arena = _arena.get()
    return torch.empty(shape, dtype=dtype) if arena is None else arena.empty(shape, dtype)
