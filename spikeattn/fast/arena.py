"""Memory of tensors that are gone, for the next ones: new memory costs a page fault per 4 KiB, more than filling it."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 17  # bytes: below, the C library reuses memory by itself
_ALIGNED = 64  # bytes: a line of the cache
_SLACK = 4  # times the bytes that are wanted; a block of more serves larger tensors


_NUMPY = {torch.float32: np.float32, torch.bool: np.bool_, torch.uint8: np.uint8}


class _Lent(weakref.ref[np.ndarray]):
    """A block of memory that is lent for as long as an array is alive."""

    __slots__ = ("block",)
    block: np.ndarray


class Arena:
    """Blocks of memory on the CPU, each lent to one tensor at a time.

    A tensor's storage holds on to the array that it was made of, as do all of the tensor's views. So a block is free
    once nothing holds that array any more, of which a weak reference tells; until then, whoever keeps a tensor, in a
    hook or elsewhere, keeps its content. The blocks themselves live as long as the arena.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes, self._blocks = list[int](), list[np.ndarray]()  # of those that are free, by size
        self._lent: dict[int, _Lent] = {}
        self._ended: deque[Any] = deque()  # an array may end in any thread, even while the lock is held

    def __reduce__(self) -> tuple[type[Arena], tuple[()]]:
        return Arena, ()  # a copy has blocks of its own

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """As `torch.empty`."""
        size = prod(shape) * dtype.itemsize
        if size < _LARGE:
            return torch.empty(shape, dtype=dtype)
        kind = _NUMPY.get(dtype)
        with self._lock:
            block = self._block(size)
            array = block[:size] if kind is None else block[:size].view(kind).reshape(shape)
            lent = _Lent(array, self._ended.append)
            lent.block = block
            self._lent[id(lent)] = lent
        tensor = torch.from_numpy(array)
        return tensor.view(dtype).view(tuple(shape)) if kind is None else tensor

    def _block(self, size: int) -> np.ndarray:
        """The smallest block that is free and large enough, or a new one."""
        while self._ended:
            ended = self._ended.popleft()
            del self._lent[id(ended)]
            place = bisect_left(self._sizes, len(ended.block))
            self._sizes.insert(place, len(ended.block))
            self._blocks.insert(place, ended.block)
        place = bisect_left(self._sizes, size)
        if place < len(self._sizes) and self._sizes[place] <= _SLACK * size:
            del self._sizes[place]
            return self._blocks.pop(place)
        raw = np.empty(size + _ALIGNED, dtype=np.uint8)
        start = -raw.ctypes.data % _ALIGNED
        return raw[start : start + size]


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
