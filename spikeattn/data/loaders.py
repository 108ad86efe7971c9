"""Any iterable of batches in one form: the loaders of this package, torch's, and plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from spikeattn.data.batches import Batch, Batches, make_loader
from spikeattn.errors import SpikeattnError

_EXPECTED = "expected (images, labels) or images, with images a tensor [B, C, H, W] or [B, T, C, H, W]"


def batches_of(loader: Iterable[Any], done: set[int]) -> Iterator[Batch]:
    """The batches of a loader that are not done yet, each as a `Batch`.

    Loaders of `make_loader` skip what is done without reading it; any other loader is read through, and its images are
    numbered in the order they come.

    Raises:
        SpikeattnError: no loader, a batch that is neither (images, labels) nor images, or a loader that shuffles where
            batches are already done: its next batches would be other images than those that are missing.
    """
    if not isinstance(loader, Iterable):
        raise SpikeattnError(f"the loader is {type(loader).__name__}; give an iterable of batches: {_EXPECTED}")
    if done and shuffles(loader):
        raise SpikeattnError(
            "resume: the loader shuffles, so the images that are missing cannot be told; give it with shuffle=False"
        )
    batches = getattr(loader, "dataset", None)
    if isinstance(batches, Batches):
        if done:
            skipped = set(range(batches.total)) - {number for number, _ in batches.todo}
            workers = getattr(loader, "num_workers", 0)
            loader = make_loader(batches.dataset, **batches.choice, workers=workers, skip_batches=done | skipped)
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
        given = f"{type(item).__name__} with {type(images).__name__} first" if images is not item else _named(item)
        raise SpikeattnError(f"batch {number} of the loader is {given}; {_EXPECTED}")
    n = len(images)
    known = _labels(labels, number) if labels is not None else torch.full((n,), -1)
    if len(known) != n:
        raise SpikeattnError(f"batch {number} of the loader has {n} images and {len(known)} labels")
    index = torch.arange(start, start + n)
    return Batch(images, known, index, [str(i) for i in index.tolist()], [], number)


def _named(item: Any) -> str:
    keys = ", ".join(map(repr, list(item)[:5])) if isinstance(item, Mapping) else ""
    return f"{type(item).__name__} of {keys}" if keys else type(item).__name__


def _labels(labels: Any, number: int) -> Tensor:
    """int64 [B]; whatever is no whole number is an error, for it would be counted as another class."""
    try:
        known = torch.as_tensor(labels).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpikeattnError(
            f"batch {number} of the loader has labels that are no numbers ({type(labels).__name__}); give each image's "
            "class as a whole number, -1 where it is unknown, or the images alone"
        ) from error
    whole = known.long()
    if not bool((whole == known).all()):
        raise SpikeattnError(
            f"batch {number} of the loader has labels that are no whole numbers, such as "
            f"{known[whole != known][0].item():g}; give the number of each image's class, -1 where it is unknown"
        )
    return whole


def shuffles(loader: Any) -> bool:
    """Whether a loader says that it gives its images in a random order."""
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", getattr(loader, "sampler", None))
    return isinstance(sampler, (RandomSampler, SubsetRandomSampler, WeightedRandomSampler))


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
