"""The networks whose levels are measured, each with as many real images as are tested and the nulls that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.data.dataset import Skipped
from spikeattn.errors import SpikeattnError, unknown

CIFAR = Path(__file__).parents[2] / "reports" / "cifar10"
NULLS = ("normal", "pixel", "patch")
DIGITS = {
    "sdt_digits": "digits",
    "sdt_digits_scenes": "digits-scenes",
    "sdt_digits_events": "digits-events",
    "vit_digits": "digits",
}
TRAINED = ("sdt_2_256", "ann_2_256")  # on CIFAR-10, in reports/cifar10
RANDOM = "vit_small_patch16_224"  # with random weights, on photos
MODELS = (*DIGITS, *TRAINED, RANDOM)
# Real images: every one takes 201 passes for each null, of 6 ms for the digits and up to 100 for the others.
REAL = {**dict.fromkeys(DIGITS, 60), **dict.fromkeys(TRAINED, 4), RANDOM: 4}


@dataclass(frozen=True)
class Network:
    """A model, its images [n, ...] spread evenly over the test split, and the nulls to draw.

    `images` real ones are tested; of the replicates of `exchangeable` of them, every one in turn is tested as well.
    """

    name: str
    model: nn.Module
    images: Tensor
    nulls: tuple[str, ...]


def networks(names: list[str] | None, most: int | None, cifar10: Path | None, photos: Path | None) -> Iterator[Network]:
    """The networks of these names, by default all whose data are there, of at most so many images each.

    Raises:
        SpikeattnError: a name that is none of `MODELS`, or one whose data are not given.
    """
    for name in names or [name for name in MODELS if data_of(name, cifar10, photos) is not None]:
        if name not in MODELS:
            raise unknown("model", name, MODELS)
        data = data_of(name, cifar10, photos)
        if data is None:
            option = "--photos" if name == RANDOM else "--cifar10"
            raise SpikeattnError(f"{name} needs images: give their folder with {option} DIR, or leave the model out")
        model = network(name)
        dataset = sa.open_dataset(data, model)
        count = min(REAL[name], len(dataset), most or len(dataset))
        images = torch.stack([image_of(dataset, i * len(dataset) // count) for i in range(count)])
        yield Network(name, model, images, ("events",) if "events" in name else NULLS)


def image_of(dataset: sa.data.Dataset, number: int) -> Tensor:
    """One image.

    Raises:
        SpikeattnError: its file is damaged.
    """
    sample = dataset[number]
    if isinstance(sample, Skipped):
        raise SpikeattnError(f"image {number} ({sample.id}) cannot be read: {sample.reason}; repair or remove its file")
    return sample[0]


def data_of(name: str, cifar10: Path | None, photos: Path | None) -> str | None:
    """What `open_dataset` takes for a model; None where its folder is not given."""
    folder = photos if name == RANDOM else cifar10
    if name in DIGITS:
        return DIGITS[name]
    return None if folder is None else f"{'imagenet' if name == RANDOM else 'cifar10'}:{folder}"


def network(name: str) -> nn.Module:
    """A model with its weights; those of the ViT on photos are random, from seed 0."""
    if name in DIGITS:
        return sa.load_model(name, pretrained=True)
    if name in TRAINED:
        return sa.load_model(name, checkpoint=CIFAR / f"{name}.safetensors", img_size=32, num_classes=10)
    torch.manual_seed(0)
    return timm.create_model("vit_small_patch16_224").eval()
