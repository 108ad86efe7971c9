"""Batches whose composition depends on the data set, the choice of samples and the batch size, and on nothing else.

The batch is the unit of work: another batch sums in another order, and in a deep spiking net one flipped rounding
flips thousands of spikes. So workers, ranks and resumed runs all take whole batches of one fixed plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
import torch.utils.data
from torch import Tensor

from spikeattn.boundary.arguments import shown, whole_number
from spikeattn.data.dataset import Dataset, Skipped
from spikeattn.data.workers import workers_for
from spikeattn.errors import SpikeattnError


class Batch(NamedTuple):
    """Samples that go through the model together.

    images: float32 [B,C,H,W], or [B,T,C,H,W] for events; shape [0] when every sample was skipped.
    labels: int64 [B], -1 where unknown. index: int64 [B], ascending. ids: one per image.
    skipped: samples of this batch that could not be read; they are in none of the above.
    number: position in the plan of `batch_indices`, the same in every run.
    time_first: whether the loader gave [T, B, ...], of which `images` is a view with the images first; None where a
    loader of others told nothing, and the images were taken to come first.
    targets: the labels in words, where they are those of another task than classification, and all `labels` are -1.
    """

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which a batch has no use for
    ids: list[str]
    skipped: list[Skipped]
    number: int
    time_first: bool | None = False
    targets: str | None = None


def batch_indices(
    n: int, batch_size: int = 32, limit: int | None = None, sample: int | None = None, seed: int = 0
) -> list[np.ndarray]:
    """Indices of every batch, ascending: batch `number` is element `number` of the list.

    Args:
        n: samples in the data set.
        batch_size: samples per batch (the last one may be smaller).
        limit: only the first `limit` samples; all where there are fewer.
        sample: only `sample` samples drawn without replacement by `seed`; a smaller one is a subset of a larger one.
        seed: 0 to 2**32 - 1, used with `sample` only.

    Raises:
        SpikeattnError: a number that is not positive, `limit` and `sample` together, a sample of more than there are.
    """
    whole_number("batch_size", batch_size, 1, why=": images per batch")
    for name, value in (("limit", limit), ("sample", sample)):
        if value is not None:
            whole_number(name, value, 1, why=": images, or None for all")
    if limit is not None and sample is not None:
        raise SpikeattnError(f"limit={limit} and sample={sample}: give one of them (first images, or random images)")
    whole_number("seed", seed, 0, 2**32 - 1)
    if n < 1:
        raise SpikeattnError("the data set holds no samples")
    if sample is not None and sample > n:
        raise SpikeattnError(f"sample={sample}: there are {n} images; give at most {n}, or leave it out for all")
    if sample is not None:
        # RandomState's stream is frozen by numpy, so the choice is the same under every numpy version.
        chosen = np.sort(np.random.RandomState(seed).permutation(n)[:sample])
    else:
        chosen = np.arange(min(n, limit) if limit is not None else n)
    return [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]


def collate(dataset: Dataset, indices: Collection[int], number: int) -> Batch:
    """Read the samples `indices` of a data set into batch `number`.

    Raises:
        SpikeattnError: samples of different shapes.
    """
    images: list[Tensor] = []
    labels: list[int] = []
    index: list[int] = []
    ids: list[str] = []
    skipped: list[Skipped] = []
    for i in map(int, indices):
        sample = dataset[i]
        if isinstance(sample, Skipped):
            skipped.append(sample)
            continue
        image, label = sample
        if images and image.shape != images[0].shape:
            raise SpikeattnError(
                f"{dataset.id(i)} has shape {list(image.shape)} and {ids[0]} has {list(images[0].shape)}: "
                "a batch needs one shape, so the data set must resize its samples"
            )
        images.append(image)
        labels.append(label)
        index.append(i)
        ids.append(dataset.id(i))
    return Batch(
        images=torch.stack(images) if images else torch.empty(0),
        labels=torch.tensor(labels, dtype=torch.int64),
        index=torch.tensor(index, dtype=torch.int64),
        ids=ids,
        skipped=skipped,
        number=number,
    )


class Choice(TypedDict):
    """Which samples of a data set make which batches; the arguments of `batch_indices`."""

    batch_size: int
    limit: int | None
    sample: int | None
    seed: int


class Batches(torch.utils.data.Dataset):
    """The planned batches that are still to be done, as a map-style data set of whole `Batch`es.

    `total` counts the batches of the whole plan, `n_samples` their samples; `first` holds the indices of its first one.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 32,
        *,
        limit: int | None = None,
        sample: int | None = None,
        seed: int = 0,
        skip_batches: Collection[int] = (),
    ) -> None:
        plan = batch_indices(len(dataset), batch_size, limit, sample, seed)
        self.dataset = dataset
        self.choice: Choice = {"batch_size": batch_size, "limit": limit, "sample": sample, "seed": seed}
        self.first = plan[0]
        self.total = len(plan)
        self.n_samples = sum(len(indices) for indices in plan)
        self.plan = plan
        done = set(skip_batches)
        self.todo = [(number, indices) for number, indices in enumerate(plan) if number not in done]

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, i: int) -> Batch:
        number, indices = self.todo[i]
        return collate(self.dataset, indices, number)

    def read(self, number: int) -> Batch:
        """Any batch of the plan, also one that is not to be done."""
        return collate(self.dataset, self.plan[number], number)

    def samples_in(self, numbers: Iterable[int]) -> int:
        """Samples of the planned batches with these numbers."""
        return sum(len(self.plan[number]) for number in numbers)

    def provenance(self) -> dict[str, Any]:
        """The data set's provenance and the choice of samples: two runs may share batches only if these are equal."""
        return {**self.dataset.provenance(), "chosen": self.n_samples, **self.choice}


def _unchanged(batch: Batch) -> Batch:
    return batch


def make_loader(
    dataset: Dataset,
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    *,
    skip_batches: Collection[int] = (),
    pin_memory: bool = False,
) -> torch.utils.data.DataLoader:
    """A torch DataLoader that yields `Batch`es in the order of their number; its `.dataset` is a `Batches`.

    Args:
        dataset: any `Dataset`.
        batch_size, limit, sample, seed: the composition, see `batch_indices`.
        workers: processes that read ahead, one whole batch each; they change the speed only. By default as many as
            reading needs not to hold the pass back: none on a small CPU, most cores beside a GPU; see `workers_for`.
        skip_batches: numbers of batches not to read (already done, or another rank's).
        pin_memory: page-locked images for asynchronous copies to a GPU.

    Raises:
        SpikeattnError: a number that is not positive, `limit` and `sample` together, negative workers.
    """
    if workers is not None:
        whole_number("workers", workers, why=": processes that read ahead, 0 to read in this one; or None")
    if not all(hasattr(dataset, name) for name in ("__len__", "__getitem__", "id", "provenance")):
        raise SpikeattnError(
            f"dataset is {shown(dataset)}; give what spikeattn.open_dataset opens, or a subclass of "
            "spikeattn.data.Dataset (torch's own data sets go into torch.utils.data.DataLoader)"
        )
    if not isinstance(skip_batches, Collection) or isinstance(skip_batches, str):
        raise SpikeattnError(f"skip_batches is {shown(skip_batches)}; give the numbers of the batches in a list")
    batches = Batches(dataset, batch_size, limit=limit, sample=sample, seed=seed, skip_batches=skip_batches)
    if workers is None:
        gpu = pin_memory or torch.cuda.is_available()
        workers = workers_for(getattr(dataset, "slow", False), len(batches), gpu)
    # Without automatic batching torch calls collate_fn on a batch, where its annotation says a list of samples.
    unchanged: Any = _unchanged
    return torch.utils.data.DataLoader(
        batches, batch_size=None, collate_fn=unchanged, num_workers=workers, pin_memory=pin_memory
    )
