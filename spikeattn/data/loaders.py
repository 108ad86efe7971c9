"""Any iterable of batches in one form: the loaders of this package, torch's, and plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from spikeattn.data.batch_order import BatchOrder
from spikeattn.data.batches import Batch, Batches, make_loader
from spikeattn.data.division import EVERYTHING, Take
from spikeattn.errors import SpikeattnError, failing
from spikeattn.tracing.batch_parts import EXPECTED, kind_of, parts_of
from spikeattn.tracing.named_parts import Called

_BATCHED = 'torch.utils.data.DataLoader(dataset.with_format("torch"), batch_size=...)'
_DATASETS = {"Dataset", "IterableDataset"}  # of Hugging Face; known by name, for they are not imported here


def images_first(loader: Iterable[Any]) -> Iterator[Batch]:
    """The batches of a loader, for what takes images as [B, ...] alone.

    Raises:
        SpikeattnError: what `batches_of` raises; a loader that gives [T, B, ...].
    """
    for batch, _ in batches_of(loader):
        if batch.time_first:
            raise SpikeattnError(
                f"batch {batch.number} of the loader is [T, B, ...] by its {len(batch.labels)} labels, and images must "
                "come first here; give a generator: ((images.transpose(0, 1), labels) for images, labels in loader)"
            )
        yield batch


def batches_of(
    loader: Iterable[Any], take: Take = EVERYTHING, layout: str | None = None, called: Called | None = None
) -> Iterator[tuple[Batch, bool]]:
    """The batches of a loader that this process takes, each as a `Batch`, and True.

    The first batch with an image in it comes with False where it is another's: every rank, shard and resumed run must
    learn the structure of the model from the same images. Loaders of `make_loader` read nothing else; any other loader
    is read through, and its images are numbered in the order they come. Images lie along the first axis of a `Batch`,
    also where the loader gives [T, B, ...], which `time_first` says.

    Args:
        layout: "TB" or "BT", where the user says in which order the loader has time and images.
        called: how the model is called, where no `forward=` of the user's says it.

    Raises:
        SpikeattnError: no loader; a batch that is neither (images, labels) nor images nor a dict of them; one in
            another order than the others; or a loader that shuffles where batches are already done or another rank's:
            nobody could tell which images are missing.
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
            _check_own(layout)
            yield from _of_plan(loader, batches, take)
        else:
            yield from _in_order(loader, take, layout, called)
    except SpikeattnError as error:  # of a worker process: torch puts its traceback before the message
        raise SpikeattnError(str(error).rpartition("SpikeattnError: ")[2].strip()) from error


def _check_loader(loader: Any) -> None:
    """Refuse what holds images but gives no batches of them."""
    kind, advice = type(loader).__name__, f"give an iterable of batches: {EXPECTED}"
    array = isinstance(loader, Tensor | np.ndarray)
    if array:
        kind, advice = f"one {kind} of shape {tuple(loader.shape)}", f"give a list of batches: {_line(loader)}"
    elif kind == "DatasetDict" or kind == "IterableDatasetDict":
        kind, advice = kind_of(loader), f"give one of these splits: {_BATCHED}"
    elif isinstance(loader, Mapping):
        kind, advice = kind_of(loader), "give a list of batches, such as [batch]"
    elif isinstance(loader, str | bytes):
        kind, advice = f"the text {loader!r}", "spikeattn.make_loader(spikeattn.open_dataset(...)) reads data by name"
    elif _of_datasets(loader):
        advice = f"it is a data set, which has rows and no batches: give {_BATCHED}"
    elif isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        advice = "it is a data set, which has no batches: give torch.utils.data.DataLoader(dataset, batch_size=...)"
    elif isinstance(loader, (tuple, list)) and _is_pair(loader):
        kind, advice = f"the images and labels of one batch, in a {kind}", "give a list of batches: [(images, labels)]"
    elif isinstance(loader, Iterable) and not isinstance(loader, type):
        return
    raise SpikeattnError(f"the loader is {kind}; {advice}")


def _line(images: Tensor | np.ndarray) -> str:
    """What to write where the images themselves were given; three axes may be one image."""
    if images.ndim == 3:
        return "sa.profile(model, [images]), or [images[None]] where it is one image [C, H, W]"
    return "sa.profile(model, [images])"


def single_images(loader: Any) -> str | None:
    """What to say where a network fails on the entries of a list: they may be images [C, H, W], no batches of them."""
    if not isinstance(loader, list | tuple) or not all(isinstance(x, Tensor | np.ndarray) for x in loader):
        return None
    shapes = {tuple(x.shape) for x in loader}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        return None
    kind = f"{kind_of(loader[0])}{'s' * (len(loader) > 1)}"
    joined = "torch.stack(images)" if isinstance(loader[0], Tensor) else "numpy.stack(images)"
    return (
        f"the loader is a {type(loader).__name__} of {len(loader)} {kind} of shape {shapes.pop()}, each of "
        f"which is taken for a batch; where they are single images [C, H, W], write sa.profile(model, [{joined}])"
    )


def _of_datasets(loader: Any) -> bool:
    """Whether it is a data set of Hugging Face's `datasets`, of which a loop gives rows."""
    return any(c.__name__ in _DATASETS and c.__module__.startswith("datasets.") for c in type(loader).__mro__)


def _check_own(layout: str | None) -> None:
    if layout == "TB":
        raise SpikeattnError(
            'layout="TB" says that the loader gives [T, B, ...], and that of make_loader [B, T, ...]; leave it out'
        )


def _is_pair(loader: Sequence[Any]) -> bool:
    """Whether what should be a list of batches is one batch: images, and as many labels."""
    if len(loader) != 2 or not isinstance(loader[0], Tensor) or loader[0].dim() < 2:
        return False
    labels = loader[1]
    if isinstance(labels, (tuple, list)):
        return len(labels) in loader[0].shape[:2] and not any(isinstance(label, Tensor) for label in labels)
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


def _in_order(
    loader: Iterable[Any], take: Take, layout: str | None, called: Called | None
) -> Iterator[tuple[Batch, bool]]:
    start, led, order = 0, False, BatchOrder()
    for number, item in enumerate(_read(loader)):
        batch = order.settle(_as_batch(item, number, start, layout, called))
        start += len(batch.images)
        mine = number in take
        if mine or (not led and len(batch.images)):
            yield batch, mine
        led = led or len(batch.images) > 0


def _read(loader: Iterable[Any]) -> Iterator[Any]:
    """What a loader gives; what its own code raises is one sentence that names the batch."""
    with failing("the loader cannot be read from", _unread):
        items = iter(loader)
    for number in count():
        with failing(f"batch {number} of the loader cannot be read", _unread):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _unread(error: BaseException) -> str:
    """What to do where a loader's own code fails; torch says in its message that it cannot collate what."""
    text = str(error)
    if "default_collate" in text:
        return (
            '; convert the images to tensors, by a transform of the data set\'s or by dataset.with_format("torch") of '
            "Hugging Face's, or give the DataLoader a collate_fn"
        )
    if "equal size" in text:
        return (
            "; the images of a batch must have one size: resize them, and cut recordings of events into one number of "
            "frames, as tonic's ToFrame(n_time_bins=T) does"
        )
    return "; every batch must be readable, so repair the data set or leave the sample out"


def _as_batch(item: Any, number: int, start: int, layout: str | None, called: Called | None) -> Batch:
    if isinstance(item, Batch):
        _check_own(layout)
        return item
    parts = parts_of(item, f"batch {number} of the loader", layout, called)
    n = len(parts.images)
    labels = torch.full((n,), -1) if parts.labels is None else parts.labels
    index = torch.arange(start, start + n)
    ids = [str(i) for i in index.tolist()]
    return Batch(parts.images, labels, index, ids, [], number, parts.time_first, parts.targets)


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
