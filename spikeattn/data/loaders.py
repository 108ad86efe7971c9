"""Any iterable of batches in one form: the loaders of this package, torch's, and plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from spikeattn.data.batches import Batch, Batches, make_loader
from spikeattn.data.division import EVERYTHING, Take
from spikeattn.errors import SpikeattnError, failing
from spikeattn.tracing.kinds import UNORDERED
from spikeattn.tracing.targets import form_of_targets, shares

_EXPECTED = "expected (images, labels) or images, with images a tensor [B, C, H, W] or [B, T, C, H, W]"


def batches_of(loader: Iterable[Any], take: Take = EVERYTHING) -> Iterator[tuple[Batch, bool]]:
    """The batches of a loader that this process takes, each as a `Batch`, and True.

    The first batch with an image in it comes with False where it is another's: every rank, shard and resumed run must
    learn the structure of the model from the same images. Loaders of `make_loader` read nothing else; any other loader
    is read through, and its images are numbered in the order they come.

    Raises:
        SpikeattnError: no loader, a batch that is neither (images, labels) nor images, or a loader that shuffles where
            batches are already done or another rank's: nobody could tell which images are missing.
    """
    _check_loader(loader)
    if shuffles(loader) and (take.done or take.ranks > 1 or take.shard.of > 1):
        raise SpikeattnError(
            "resume, ranks and shards: the loader shuffles, so the images that are missing cannot be told; give it "
            "with shuffle=False"
        )
    batches = getattr(loader, "dataset", None)
    try:
        if isinstance(batches, Batches):
            yield from _of_plan(loader, batches, take)
        else:
            yield from _in_order(loader, take)
    except SpikeattnError as error:  # of a worker process: torch puts its traceback before the message
        raise SpikeattnError(str(error).rpartition("SpikeattnError: ")[2].strip()) from error


def _check_loader(loader: Any) -> None:
    """Refuse what holds images but gives no batches of them."""
    kind, advice = type(loader).__name__, f"give an iterable of batches: {_EXPECTED}"
    array = isinstance(loader, Tensor | np.ndarray)
    if array:
        kind, advice = f"one {kind} of shape {tuple(loader.shape)}", "give a list of batches, such as [images]"
    elif isinstance(loader, Mapping):
        kind, advice = _named(loader), "give a list of batches, such as [(images, labels)]"
    elif isinstance(loader, str | bytes):
        kind, advice = f"the text {loader!r}", "spikeattn.make_loader(spikeattn.open_dataset(...)) reads data by name"
    elif isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        advice = "it is a data set, which has no batches: give torch.utils.data.DataLoader(dataset, batch_size=...)"
    elif isinstance(loader, (tuple, list)) and _is_pair(loader):
        kind, advice = f"the images and labels of one batch, in a {kind}", "give a list of batches: [(images, labels)]"
    elif isinstance(loader, Iterable) and not isinstance(loader, type):
        return
    raise SpikeattnError(f"the loader is {kind}; {advice}")


def _is_pair(loader: Sequence[Any]) -> bool:
    """Whether what should be a list of batches is one batch: images, and as many labels."""
    if len(loader) != 2 or not isinstance(loader[0], Tensor) or loader[0].dim() < 2:
        return False
    labels = loader[1]
    if isinstance(labels, (tuple, list)):
        return len(labels) == len(loader[0]) and not any(isinstance(label, Tensor) for label in labels)
    return isinstance(labels, Tensor | np.ndarray) and labels.ndim < 2


def _of_plan(loader: Any, batches: Batches, take: Take) -> Iterator[tuple[Batch, bool]]:
    """Batches of a `make_loader` loader; its own `skip_batches` stay skipped."""
    left_out = set(range(batches.total)) - {number for number, _ in batches.todo}
    mine = [number for number in take.of_plan(batches.total) if number not in left_out]
    if len(mine) < len(batches.todo):
        others = set(range(batches.total)) - set(mine)
        workers, pinned = getattr(loader, "num_workers", 0), getattr(loader, "pin_memory", False)
        loader = make_loader(batches.dataset, **batches.choice, workers=workers, skip_batches=others, pin_memory=pinned)
    led, ahead = False, 0
    for batch in _read(loader) if mine else ():
        while not led and ahead < batch.number:
            first = batches.read(ahead)
            led, ahead = len(first.images) > 0, ahead + 1
            if led:
                yield first, False
        led, ahead = led or len(batch.images) > 0, batch.number + 1
        yield batch, True
    while mine and not led and ahead < batches.total:
        first = batches.read(ahead)
        led, ahead = len(first.images) > 0, ahead + 1
        if led:
            yield first, False


def _in_order(loader: Iterable[Any], take: Take) -> Iterator[tuple[Batch, bool]]:
    start, led = 0, False
    for number, item in enumerate(_read(loader)):
        batch = _as_batch(item, number, start)
        start += len(batch.images)
        mine = number in take
        if mine or (not led and len(batch.images)):
            yield batch, mine
        led = led or len(batch.images) > 0


def _read(loader: Iterable[Any]) -> Iterator[Any]:
    """What a loader gives; what its own code raises is one sentence that names the batch."""
    advice = "; every batch must be readable, so repair the data set or leave the sample out"
    with failing("the loader cannot be read from", advice):
        items = iter(loader)
    for number in count():
        with failing(f"batch {number} of the loader cannot be read", advice):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _as_batch(item: Any, number: int, start: int) -> Batch:
    if isinstance(item, Batch):
        return item
    images, labels = (item[0], item[1]) if isinstance(item, (tuple, list)) and len(item) >= 2 else (item, None)
    if isinstance(images, (tuple, list)) and len(images) == 1:
        images = images[0]
    if isinstance(images, Tensor) and images.is_nested:
        raise SpikeattnError(
            f"batch {number} of the loader is a nested tensor of images of several sizes; give images of one size"
        )
    if not isinstance(images, Tensor) or images.dim() < 2:
        shape = f" of shape {tuple(images.shape)}" if isinstance(images, Tensor) else ""
        given = f"{type(item).__name__} with {type(images).__name__}{shape} first"
        raise SpikeattnError(
            f"batch {number} of the loader is {given if images is not item else _named(item) + shape}; {_EXPECTED}"
        )
    if isinstance(labels, Tensor) and labels.shape == images.shape and not _tells(labels, images):
        raise SpikeattnError(
            f"batch {number} of the loader is a {type(item).__name__} of {len(item)} tensors of one shape, "
            f"{tuple(images.shape)}, where (images, labels) or images are expected: join images by torch.stack, and "
            "leave out what the network shall give, by (batch[0] for batch in loader)"
        )
    _check_images(images, number)
    n = len(images)
    targets = form_of_targets(labels, n)
    known = _labels(labels, number) if labels is not None and targets is None else torch.full((n,), -1)
    if len(known) != n:
        raise SpikeattnError(
            f"batch {number} of the loader has {n} images and {len(known)} labels; give one whole number per image, "
            "-1 where its class is unknown, or the images alone"
        )
    index = torch.arange(start, start + n)
    return Batch(images, known, index, [str(i) for i in index.tolist()], [], number, targets)


def _tells(labels: Tensor, images: Tensor) -> bool:
    """Whether a second tensor of the images' shape is none of images: classes of pixels, the next tokens of tokens."""
    tokens = images.dim() == 2 and not images.is_floating_point()
    return not labels.is_floating_point() and (images.is_floating_point() or tokens)


def _check_images(images: Tensor, number: int) -> None:
    """Refuse tensors that hold no values, or hold them in a way in which nobody can look for NaN or cut out images."""
    form = None
    if images.is_meta:
        form = "on the meta device, without values"
    elif images.layout != torch.strided:
        form = f"sparse ({images.layout})"
    elif images.is_quantized or images.dtype in UNORDERED:
        form = f"of type {images.dtype}"
    if form is not None:
        raise SpikeattnError(
            f"batch {number} of the loader has images {form}; give them dense, as numbers that can be compared, such "
            "as float32 or uint8, and convert them in forward= where the model takes others"
        )
    if len(images) and not images.numel():
        raise SpikeattnError(
            f"batch {number} of the loader has images of shape {tuple(images.shape)}, without a single value in them; "
            f"{_EXPECTED}"
        )


def _named(item: Any) -> str:
    keys = ", ".join(map(repr, list(item)[:5])) if isinstance(item, Mapping) else ""
    return f"{type(item).__name__} of {keys}" if keys else type(item).__name__


def _labels(labels: Any, number: int) -> Tensor:
    """int64 [B]; whatever is no whole number is an error, for it would be counted as another class."""
    reason = type(labels).__name__
    known: Tensor | None
    if shares(labels):
        raise SpikeattnError(
            f"batch {number} of the loader has labels of shape {tuple(labels.shape)}, which share every image among "
            "classes; give one whole number per image, which of one-hot labels is labels.argmax(1), or the images alone"
        )
    try:
        known = torch.as_tensor(labels).reshape(-1)
        if known.is_complex() or known.is_meta:
            reason = "complex" if known.is_complex() else "on the meta device"
            known = None
    except (TypeError, ValueError, RuntimeError):
        known = None
    if known is None:
        raise SpikeattnError(
            f"batch {number} of the loader has labels that are no numbers ({reason}); give each image's class as a "
            "whole number, -1 where it is unknown, or the images alone"
        )
    whole = known.long()
    if known.is_floating_point() and not bool((whole == known).all()):
        raise SpikeattnError(
            f"batch {number} of the loader has labels that are no whole numbers, such as "
            f"{known[whole != known][0].item():g}; give the number of each image's class, -1 where it is unknown"
        )
    return whole


def shuffles(loader: Any) -> bool:
    """Whether a loader says that it gives its images in a random order."""
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", getattr(loader, "sampler", None))
    return isinstance(sampler, (RandomSampler, SubsetRandomSampler, WeightedRandomSampler))


def n_samples(loader: Iterable[Any], take: Take = EVERYTHING) -> int | None:
    """Number of samples of a loader that this process takes; the loader's own where that is all it says, or None."""
    batches = getattr(loader, "dataset", None)
    if isinstance(batches, Batches):
        return batches.samples_in(take.of_plan(batches.total))
    return len(batches) if isinstance(batches, Sized) else None


def check_finite(batch: Batch) -> None:
    """An image with NaN or infinite values is an error that names it."""
    good = torch.isfinite(batch.images).flatten(1).all(1)
    if not bool(good.all()):
        bad = batch.ids[int((~good).nonzero()[0])]
        raise SpikeattnError(f"image {bad} holds NaN or infinite values after its transform; repair or remove it")
