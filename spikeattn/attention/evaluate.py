"""Does regularisation take attention from where there is nothing? Noise squares in images, scores before and after.

The evaluation of Chung, Laletin: Attention Regularization, AISTATS 2026, https://arxiv.org/abs/2604.01339.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from spikeattn.attention.attend import Attention, attend
from spikeattn.attention.families import check_images
from spikeattn.attention.nulls import generator
from spikeattn.errors import SpikeattnError

METHODS = ("p", "lfdr", "pi0", "soft")
SQUARE_KEY = 2**32 - 1  # replicate number of the squares, which no null draws


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a region of noise before and after regularisation.

    Attributes:
        frame: one row per image and method: image, method, percentile_before, percentile_after (mean percentile of the
            region's scores among the rest, 0 to 100), nonzero_after (share of the region's tokens that keep attention,
            in %), srmsd (signed root mean square deviation of the rest's p-values from uniform).
        D: by method, sum of percentiles after over sum before: 0 where all attention on noise is gone, 1 where none is.
        attention: of the images with squares.
        region: tokens of the square [image, h, w].
    """

    frame: pd.DataFrame
    D: dict[str, float]
    attention: Attention
    region: NDArray[np.bool_]


def evaluate_regularization(
    model: nn.Module,
    images: Tensor,
    null: str = "normal",
    replicates: int = 100,
    *,
    size: float = 0.375,
    threshold: float = 0.1,
    seed: int = 0,
    **options: Any,
) -> Evaluation:
    """Put a square of noise into every image, attend, and see what attention the square keeps.

    Args:
        model, images, null, replicates, seed: as in `attend`.
        size: side of the square over the side of the image, in (0, 1); its place is drawn.
        threshold: of p and lfdr.
        **options: further ones of `attend`, such as statistic or estimator.

    Raises:
        SpikeattnError: a size that leaves no token in the square or none outside; and what `attend` raises.
    """
    images = check_images(model, images)
    if not 0 < size < 1:
        raise SpikeattnError(f"size is {size}; it is the side of the square over the side of the image, in (0, 1)")
    planted = [noise_square(image, size, seed=seed, index=number) for number, image in enumerate(images)]
    found = attend(model, torch.stack([image for image, _ in planted]), null, replicates, seed=seed, **options)
    region = np.stack([tokens_of(mask, found.maps.shape[1:]) for _, mask in planted])
    if not region.any((1, 2)).all() or region.all((1, 2)).any():
        raise SpikeattnError(
            f"a square of {size:g} of the image covers no token or all of {found.maps.shape[1]}x{found.maps.shape[2]} "
            "tokens; take another size"
        )
    rows = []
    for method in METHODS:
        maps = found.regularized(method, threshold if method in ("p", "lfdr") else None)
        for number, (before, after, roi) in enumerate(zip(found.maps, maps, region, strict=True)):
            rows.append(
                {
                    "image": number,
                    "method": method,
                    "percentile_before": region_percentile(before, roi),
                    "percentile_after": region_percentile(after, roi),
                    "nonzero_after": 100 * float((after[roi] > 0).mean()),
                    "srmsd": signed_rmsd(found.p[number][~roi]),
                }
            )
    frame = pd.DataFrame(rows)
    sums = frame.groupby("method")[["percentile_before", "percentile_after"]].sum()
    ratio = sums["percentile_after"] / sums["percentile_before"].where(sums["percentile_before"] > 0)
    return Evaluation(frame, {method: float(ratio[method]) for method in METHODS}, found, region)


def noise_square(image: Tensor, size: float, *, seed: int = 0, index: int = 0) -> tuple[Tensor, NDArray[np.bool_]]:
    """The image [..., C, H, W] with a square of N(mean, std) of each channel somewhere, and its pixels [H, W]."""
    rng = generator(seed, index, SQUARE_KEY)
    H, W = image.shape[-2:]
    h, w = max(1, round(size * H)), max(1, round(size * W))
    top, left = int(rng.integers(H - h + 1)), int(rng.integers(W - w + 1))
    values = image.detach().cpu().double().numpy().copy()
    axes = tuple(axis for axis in range(values.ndim) if axis != values.ndim - 3)
    mean, std = values.mean(axes, keepdims=True), values.std(axes, keepdims=True)
    patch = mean + std * rng.standard_normal((*values.shape[:-2], h, w))
    values[..., top : top + h, left : left + w] = patch
    mask = np.zeros((H, W), bool)
    mask[top : top + h, left : left + w] = True
    return torch.from_numpy(values).to(image.device, image.dtype), mask


def tokens_of(pixels: ArrayLike, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Tokens [h, w] of which at least half lies on the pixels [H, W] of a mask."""
    mask = torch.from_numpy(np.asarray(pixels, dtype=np.float32))[None, None]
    return (nn.functional.adaptive_avg_pool2d(mask, grid)[0, 0] >= 0.5).numpy()


def region_percentile(scores: ArrayLike, region: ArrayLike) -> float:
    """Mean over a region of the share, in %, of scores outside that are smaller."""
    values, inside = np.asarray(scores), np.asarray(region, dtype=bool)
    rest = np.sort(values[~inside])
    return 100 * float((np.searchsorted(rest, values[inside], side="left") / rest.size).mean())


def signed_rmsd(p: ArrayLike) -> float:
    """Root mean square distance of sorted p-values from (i - 1/2) / m; positive where p-values are too small."""
    values = np.sort(np.ravel(p))
    away = (np.arange(values.size) + 0.5) / values.size - values
    return float(np.sign(away.mean()) * np.sqrt((away**2).mean()))
