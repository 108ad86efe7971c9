"""Training images through timm's augmentation, and test images as they are.

Whatever is random about a sample follows from (seed, epoch, its index) alone: not from the number of worker processes,
and not from whether the run was interrupted.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import Mixup, create_transform
from torch import Tensor
from torchvision.transforms import RandomCrop

import spikeattn as sa
from spikeattn.data import Dataset, Skipped
from spikeattn.data.images import ImageDataset


class Training(torch.utils.data.Dataset):
    """Samples by (epoch, index): pictures through timm's training transform, digits and events shifted at random."""

    def __init__(self, dataset: Dataset, args: argparse.Namespace) -> None:
        self.stored, self.labels = _stored(dataset, args.limit)
        self.seed = args.seed
        size = tuple(dataset.preparation()["input_size"])
        self.transform: Callable[[Any], Tensor] = RandomCrop(size[1:], padding=args.shift)
        if isinstance(dataset, ImageDataset):
            config = dataset.preparation()
            self.transform = create_transform(
                size,
                is_training=True,
                hflip=args.hflip,
                color_jitter=None,
                auto_augment=args.auto_augment,
                interpolation="bicubic",
                mean=config["mean"],
                std=config["std"],
                re_prob=args.reprob,
            )
            # timm starts with a resized crop of 8 % to 100 %; small pictures are padded and cropped instead, as usual.
            self.transform.transforms[0] = RandomCrop(size[1:], padding=args.shift)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, i = key
        seed_of(self.seed, epoch, i)
        stored = self.stored[i]
        return self.transform(Image.fromarray(stored) if isinstance(stored, np.ndarray) else stored), self.labels[i]


class Order(torch.utils.data.Sampler):
    """Batches of (epoch, index) in an order that follows from seed and epoch; an incomplete last batch is left out."""

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        self.n, self.batch_size, self.seed, self.epoch = n, batch_size, seed, 0

    def __len__(self) -> int:
        return self.n // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.RandomState([self.seed, self.epoch, 1]).permutation(self.n).tolist()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield [(self.epoch, i) for i in order[start : start + self.batch_size]]


def loader_of(training: Training, args: argparse.Namespace) -> torch.utils.data.DataLoader:
    """The batches of an epoch; set `.batch_sampler.epoch` before each."""
    return torch.utils.data.DataLoader(
        training,
        batch_sampler=Order(len(training), args.batch_size, args.seed),
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        pin_memory=args.device.startswith("cuda"),
        prefetch_factor=4 if args.workers else None,
        worker_init_fn=_one_thread,
    )


def mixup_of(args: argparse.Namespace, classes: int) -> Mixup | None:
    """timm's Mixup and CutMix of whole batches, or None where neither is asked for."""
    if not (args.mixup or args.cutmix):
        return None
    return Mixup(args.mixup, args.cutmix, prob=args.mixup_prob, label_smoothing=args.smoothing, num_classes=classes)


def test_tensors(data: str, model: Any, limit: int | None) -> tuple[Tensor, Tensor]:
    """The test split as the model takes it: images [N, ...] and labels [N]; `limit` of them at random."""
    loader = sa.make_loader(sa.open_dataset(data, model, split="test"), batch_size=256, sample=limit)
    batches = [batch for batch in loader if len(batch.labels)]
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])


def seed_of(*key: int) -> None:
    """Seed the generators that timm's and torchvision's transforms draw from."""
    word = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(word)
    np.random.seed(word)
    torch.default_generator.manual_seed(word)


def _stored(dataset: Dataset, limit: int | None) -> tuple[Any, list[int]]:
    """All samples in memory: pictures as uint8 [N, H, W, C], others as float32 [N, ...]; and their labels."""
    chosen = np.sort(np.random.RandomState(0).permutation(len(dataset))[:limit]).tolist()
    if isinstance(dataset, ImageDataset):
        with ThreadPoolExecutor() as pool:
            pictures = list(pool.map(dataset.picture, chosen))
        return np.stack([np.asarray(picture) for picture, _ in pictures]), [label for _, label in pictures]
    samples = [dataset[i] for i in chosen]
    if lost := [sample for sample in samples if isinstance(sample, Skipped)]:
        raise sa.SpikeattnError(f"{len(lost)} training samples cannot be read, first {lost[0].id}: {lost[0].reason}")
    return torch.stack([image for image, _ in samples]), [label for _, label in samples]


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
