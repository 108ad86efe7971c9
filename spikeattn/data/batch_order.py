"""On which axis the images of a loader's batches lie: the same in all, so one that tells it tells the others."""

from __future__ import annotations

from dataclasses import dataclass

from spikeattn.data.batches import Batch
from spikeattn.errors import SpikeattnError

_FRAMES = {True: "[T, B, ...]", False: "[B, T, ...]"}


@dataclass
class BatchOrder:
    """What the batches of a loader have told so far, in the order they come.

    Attributes:
        time_first: whether time comes first; None until a batch tells it.
        told_by: the number of the first batch that did.
        assumed: number and shape of the first batch that was taken as [B, ...] though it might be either.
    """

    time_first: bool | None = None
    told_by: int = 0
    assumed: tuple[int, tuple[int, ...]] | None = None

    def settle(self, batch: Batch) -> Batch:
        """The batch, in the order that earlier ones have told where it does not tell one itself.

        Raises:
            SpikeattnError: it contradicts an earlier batch.
        """
        own = batch.time_first
        if own == self.time_first or not len(batch.images):
            if own is None and len(batch.images) and self.assumed is None:
                self.assumed = batch.number, tuple(batch.images.shape)
            return batch
        if own is None:
            turns = self.time_first and batch.images.dim() > 2
            images = batch.images.transpose(0, 1) if turns else batch.images
            return batch._replace(images=images, time_first=bool(turns))
        if self.time_first is None and (self.assumed is None or not own):
            self.time_first, self.told_by = own, batch.number
            return batch
        if self.time_first is None and self.assumed is not None:
            number, shape = self.assumed
            earlier = f"batch {number}, of shape {shape}, fits both orders and was taken as [B, T, ...]"
        else:
            earlier = f"batch {self.told_by} is {_FRAMES[not own]} by its own"
        raise SpikeattnError(
            f"batch {batch.number} of the loader is {_FRAMES[own]} by its labels, and {earlier}; say "
            'layout="TB" where the loader gives [T, B, ...], layout="BT" where it gives [B, T, ...]'
        )
