"""Scenes to test a map on: a digit somewhere or none, its contrast, and noise of kinds that no training picture had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeattn.attention.planted import coverage, noise_clusters, noise_square
from spikeattn.data.digit_scenes import CANVAS, DigitScenes

from .scores import Flags

INK = 0.5  # of a pixel of a digit at full contrast: from here on it belongs to the object
SIZE = 0.375  # side of the noise over that of the picture; pictures of clusters have as many pixels
HALF = 0.5  # of a token's pixels: from here on it is of the object, or of noise
CONTRASTS = (1.0, 0.5)
Rng = np.random.Generator
Values = NDArray[np.float64]


def _uniform(rng: Rng, n: int) -> Values:
    return rng.uniform(0, 1, n)


def _salt(rng: Rng, n: int) -> Values:
    return (rng.random(n) < 0.25).astype(float)


def _smooth(rng: Rng, n: int) -> Values:
    """A grey ramp in a random direction over the pixels in raster order: structure, but no digit."""
    ramp = np.linspace(0, 1, n)
    return ramp if rng.random() < 0.5 else ramp[::-1].copy()


OTHER: dict[str, Callable[[Rng, int], Values]] = {"uniform": _uniform, "salt": _salt, "ramp": _smooth}
NOISES = ("normal square", "normal clusters", *OTHER)  # the first is that of the training


@dataclass(frozen=True)
class Scenes:
    """Pictures [B, 1, 32, 32] with, on the tokens [B, h, w], what is the digit and what is noise."""

    images: Tensor
    labels: Tensor
    digit: Flags
    noise: Flags


@cache
def digits(split: str) -> DigitScenes:
    return DigitScenes(split)


def scenes(
    number: int,
    noise: str,
    contrast: float,
    with_digit: bool,
    grid: tuple[int, int],
    split: str = "test",
    seed: int = 5,
) -> Scenes:
    """Scenes of the first digits of a split; without a digit they are black but for the noise."""
    originals, labels = digits(split).images[:number], digits(split).labels[:number]
    if with_digit:
        canvas, ink = originals * contrast, originals[:, 0].numpy() >= INK
    else:
        canvas, ink = torch.zeros_like(originals), np.zeros((len(originals), CANVAS, CANVAS), bool)
    pictures, masks = [], []
    for i, picture in enumerate(canvas):
        changed, mask = _planted(picture, originals[i], noise, seed, i)
        pictures.append(changed)
        masks.append(mask)
    return Scenes(
        torch.stack(pictures),
        labels,
        np.stack([coverage(thing & ~mask, grid) >= HALF for thing, mask in zip(ink, masks, strict=True)]),
        np.stack([coverage(mask, grid) >= HALF for mask in masks]),
    )


def _planted(picture: Tensor, original: Tensor, noise: str, seed: int, index: int) -> tuple[Tensor, Flags]:
    """Noise over a part of a picture; its brightness is that of noise on the digit at full contrast."""
    region = noise_clusters if noise == "normal clusters" else noise_square
    drawn, mask = region(original, SIZE, seed=seed, index=index)
    values = drawn[0].numpy()[mask]
    if noise in OTHER:
        values = OTHER[noise](np.random.default_rng([seed, index]), int(mask.sum()))
    changed = picture.clone()
    changed[0, torch.from_numpy(mask)] = torch.from_numpy(np.asarray(values)).to(changed)
    return changed, mask
