"""Any iterable of batches in one form: the loaders of this package, torch's, and plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from spikeattn.data.batches import Batch, Batches, make_loader
from spikeattn.errors import SpikeattnError


def batches_of(loader: Iterable[Any], done: set[int]) -> Iterator[Batch]:
    """The batches of a loader that are not done yet, each as a `Batch`.

    Loaders of `make_loader` skip what is done without reading it; any other loader is read through, and its images are
    numbered in the order they come.

    Raises:
        SpikeattnError: a batch that is neither (images, labels) nor images.
    """
    batches = getattr(loader, "dataset", None)
    if isinstance(batches, Batches):
        if done:
            workers = getattr(loader, "num_workers", 0)
            loader = make_loader(batches.dataset, **batches.choice, workers=workers, skip_batches=done)
        try:
            yield from loader
        except SpikeattnError as error:  # of a worker process: torch puts its traceback before the message
            raise SpikeattnError(str(error).rpartition("SpikeattnError: ")[2].strip()) from error
        return
    start = 0
    for number, item in enumerate(loader):
        batch = _as_batch(item, number, start)
        start += len(batch.images)
        if number not in done:
            yield batch


def _as_batch(item: Any, number: int, start: int) -> Batch:
    if isinstance(item, Batch):
        return item
    images, labels = (item[0], item[1]) if isinstance(item, (tuple, list)) and len(item) >= 2 else (item, None)
    if isinstance(images, (tuple, list)) and len(images) == 1:
        images = images[0]
    if not isinstance(images, Tensor) or images.dim() < 2:
        raise SpikeattnError(
            f"batch {number} of the loader is {type(item).__name__}; expected (images, labels) or images, with images "
            "a tensor [B, C, H, W] or [B, T, C, H, W]"
        )
    n = len(images)
    known = torch.as_tensor(labels).reshape(-1) if labels is not None else torch.full((n,), -1)
    if len(known) != n:
        raise SpikeattnError(f"batch {number} of the loader has {n} images and {len(known)} labels")
    index = torch.arange(start, start + n)
    return Batch(images, known.long(), index, [str(i) for i in index.tolist()], [], number)


def n_samples(loader: Iterable[Any]) -> int | None:
    """Number of samples a loader will give, None where it does not say."""
    batches = getattr(loader, "dataset", None)
    if isinstance(batches, Batches):
        return batches.n_samples
    return len(batches) if hasattr(batches, "__len__") else None


def check_finite(batch: Batch) -> None:
    """An image with NaN or infinite values is an error that names it."""
    good = torch.isfinite(batch.images).flatten(1).all(1)
    if not bool(good.all()):
        bad = batch.ids[int((~good).nonzero()[0])]
        raise SpikeattnError(f"image {bad} holds NaN or infinite values after its transform; repair or remove it")
