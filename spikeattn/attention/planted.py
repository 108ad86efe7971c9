"""Noise planted in images: a square, or as many pixels in clusters, and the tokens that they cover.

The masks of the evaluation of Chung, Laletin: Attention Regularization, AISTATS 2026, https://arxiv.org/abs/2604.01339.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from spikeattn.attention.nulls import generator

Floats = NDArray[np.float64]

REGION_KEY = 2**32 - 1  # replicate number of the planted regions, which no null draws
CLUSTER = 0.02  # standard deviation of the smoothing over the shorter side: 4.5 pixels of 224, as published


def noise_square(image: Tensor, size: float, *, seed: int = 0, index: int = 0) -> tuple[Tensor, NDArray[np.bool_]]:
    """The image [..., C, H, W] with a square of N(mean, std) of each channel somewhere, and its pixels [H, W]."""
    rng = generator(seed, index, REGION_KEY)
    H, W = image.shape[-2:]
    h, w = max(1, round(size * H)), max(1, round(size * W))
    top, left = int(rng.integers(H - h + 1)), int(rng.integers(W - w + 1))
    mask = np.zeros((H, W), bool)
    mask[top : top + h, left : left + w] = True
    return _with_noise(image, mask, rng), mask


def noise_clusters(image: Tensor, size: float, *, seed: int = 0, index: int = 0) -> tuple[Tensor, NDArray[np.bool_]]:
    """As `noise_square` with as many pixels, those where white noise is highest after smoothing with a Gaussian.

    Its standard deviation is 0.02 of the shorter side and at least one pixel; the field wraps around at the border.
    """
    rng = generator(seed, index, REGION_KEY)
    H, W = image.shape[-2:]
    pixels = max(1, round(size * H)) * max(1, round(size * W))
    field = gaussian_filter(rng.standard_normal((H, W)), max(1.0, CLUSTER * min(H, W)), mode="wrap").ravel()
    mask = np.zeros(H * W, bool)
    mask[np.argsort(field, kind="stable")[-pixels:]] = True
    return _with_noise(image, mask.reshape(H, W), rng), mask.reshape(H, W)


REGIONS: dict[str, Callable[..., tuple[Tensor, NDArray[np.bool_]]]] = {
    "square": noise_square,
    "clusters": noise_clusters,
}


def _with_noise(image: Tensor, mask: NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
    values = image.detach().cpu().double().numpy().copy()
    axes = tuple(axis for axis in range(values.ndim) if axis != values.ndim - 3)
    mean, std = values.mean(axes), values.std(axes)
    noise = rng.standard_normal((*values.shape[:-2], int(mask.sum())))
    values[..., mask] = mean[:, None] + std[:, None] * noise
    return torch.from_numpy(values).to(image.device, image.dtype)


def coverage(pixels: ArrayLike, grid: tuple[int, int]) -> Floats:
    """Share [h, w] of each token's pixels that a mask [H, W] covers."""
    mask = torch.from_numpy(np.asarray(pixels, dtype=np.float64))[None, None]
    return nn.functional.adaptive_avg_pool2d(mask, grid)[0, 0].numpy()


def tokens_of(pixels: ArrayLike, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Tokens [h, w] of which at least half lies on the pixels [H, W] of a mask."""
    return coverage(pixels, grid) >= 0.5
