"""What is known of every tensor that is alive in a traced forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from spikeattn.recording.counting import value_flags, whole
from spikeattn.tracing.origins import Origin, View, overwritten


class OriginBook:
    """The origin of each tensor; forgotten with it.

    Args:
        batch: number of images that will be shown.

    Attributes:
        muted: above 0 while operations of our own run, which are no part of the model.
    """

    def __init__(self, batch: int) -> None:
        self.muted = 0
        self._batch = batch
        self._origins: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __getitem__(self, tensor: Tensor) -> Origin:
        """The origin of a tensor; one never seen was there before the pass, so it is a constant like a parameter."""
        found = self._origins.get(tensor)
        if found is None:
            found = self._origins[tensor] = Origin(stateless=True, weight=True)
        return found

    def __setitem__(self, tensor: Tensor, origin: Origin) -> None:
        self._origins[tensor] = origin

    def observe(self, tensor: Tensor) -> Origin:
        """The tensor's origin, with its value flags extended by what the tensor holds."""
        origin = self[tensor]
        with self._muting():
            flags = value_flags(whole(tensor, origin.unit or 1.0)).cpu()
            origin.flags = flags if origin.flags is None else origin.flags | flags
        return origin

    def overwrite(self, tensor: Tensor, result: Origin) -> None:
        """An operation in place also changes every other tensor that looks at the same memory."""
        memory = tensor.untyped_storage()._cdata
        for other, origin in list(self._origins.items()):
            if other is not tensor and other.untyped_storage()._cdata == memory:
                self._origins[other] = overwritten(origin, result, other.numel() == tensor.numel())

    def view(self, tensor: Tensor) -> View:
        """The shape of a tensor, and its row sums where several rows belong to one image."""
        shape = tuple(tensor.shape)
        if tensor.dim() < 2 or shape[0] <= self._batch or shape[0] % self._batch or tensor.is_complex():
            return View(shape)
        with self._muting(), torch.no_grad():
            rows = torch.linalg.vector_norm(tensor.detach().flatten(1).float(), 1, dim=1)
            return View(shape, rows.double().cpu())

    @contextmanager
    def _muting(self) -> Iterator[None]:
        self.muted += 1
        try:
            yield
        finally:
            self.muted -= 1
