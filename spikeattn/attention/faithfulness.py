"""Does a map show what the model used? Deletion and insertion curves, and how sparse and how well placed a map is.

Maps are plain arrays [B, h, w], one per image, from any method: numpy arrays or tensors, at the grid of the model's
tokens or at the size of the image. Deletion removes the image cell by cell, the most salient first, and insertion
reveals it; the area under the probability of the predicted class over the share of the image is DAUC (low is good) or
IAUC (high is good): Petsiuk, Das, Saenko, RISE, BMVC 2018, https://arxiv.org/abs/1806.07421. Cells that tie go in
raster order, so the curve of a constant map is that of raster order and means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.functional import pad

from spikeattn.errors import SpikeattnError, unknown
from spikeattn.tracing.modes import in_eval
from spikeattn.tracing.neurons import reset

Array = np.ndarray | Tensor
FILLS = ("zero", "mean", "blur")


@dataclass(frozen=True)
class Curves:
    """Probability of one class per image while its image is deleted or inserted.

    Attributes:
        share: [S + 1], share of the cells that are deleted or inserted, from 0 to 1.
        scores: [B, S + 1], probability of the class.
        targets: [B], that class.
        fill: what stands where the image does not.
    """

    share: np.ndarray
    scores: np.ndarray
    targets: np.ndarray
    fill: str

    @property
    def auc(self) -> np.ndarray:
        """Area under each curve by the trapezoid rule: [B], in [0, 1]."""
        return np.trapezoid(self.scores, self.share, axis=1)


def deletion(model: nn.Module, images: Tensor, maps: Array, fill: str = "zero", **options: Any) -> Curves:
    """Curves while the most salient cells are replaced by `fill`; `auc` is DAUC. Options: see `insertion`."""
    return _curves(model, images, maps, fill, inserting=False, **options)


def insertion(model: nn.Module, images: Tensor, maps: Array, fill: str = "blur", **options: Any) -> Curves:
    """Curves while the most salient cells of the image appear on `fill`; `auc` is IAUC.

    The model runs in eval mode without gradients, its neurons are reset before every chunk, and its modes are as before
    afterwards. Many steps and images share one forward pass.

    Args:
        model: logits [B, classes], or [T, B, classes], which are averaged.
        images: [B, C, H, W], or frames [B, T, C, H, W]: a cell is deleted in all of them.
        maps: [B, h, w], not larger than the images; a cell of the map is a rectangle of pixels.
        fill: "zero"; "mean", of each image and channel; or "blur", Gaussian with sigma 1/16 of the shorter side.
        steps: points after the first; default every cell, at most 100.
        targets: classes [B]; default what the model predicts on the whole image.
        memory_mb: bound on what one forward pass may hold, from the largest input and output of a layer for one image.

    Raises:
        SpikeattnError: maps that do not fit the images or are not finite, no logits, an unknown fill, steps below 1.
    """
    return _curves(model, images, maps, fill, inserting=True, **options)


@torch.no_grad()
def _curves(
    model: nn.Module,
    images: Tensor,
    maps: Array,
    fill: str,
    inserting: bool,
    steps: int | None = None,
    targets: Array | None = None,
    memory_mb: float = 256,
) -> Curves:
    grid = check_maps(maps)
    if fill not in FILLS:
        raise unknown("fill", fill, FILLS)
    B, (h, w), (H, W) = len(images), grid.shape[1:], images.shape[-2:]
    if len(grid) != B or h > H or w > W:
        raise SpikeattnError(
            f"maps {grid.shape} do not fit images {tuple(images.shape)}: one map per image, not finer than it"
        )
    steps = min(h * w, 100) if steps is None else steps
    if steps < 1 or memory_mb <= 0:
        raise SpikeattnError(f"steps is {steps} and memory_mb {memory_mb}; give at least 1 step and a bound above 0")
    order = np.argsort(-grid.reshape(B, -1), axis=1, kind="stable")
    rank = torch.from_numpy(np.argsort(order, axis=1).reshape(grid.shape))  # [B, h, w], 0 = most salient
    rank = rank[:, torch.arange(H) * h // H][:, :, torch.arange(W) * w // W].to(images.device)  # [B, H, W]
    cells = np.round(np.linspace(0, h * w, steps + 1)).astype(np.int64)
    with _evaluation(model):
        whole, per_image = _probabilities(model, images[:1], measure=True)
        chunk = max(1, int(memory_mb * 2**20 / max(per_image, 1)))
        if targets is None:
            parts = [_probabilities(model, part)[0].argmax(1) for part in images.split(chunk)]
            target = torch.cat(parts)
        else:
            target = torch.as_tensor(targets, device=images.device).long()
        if target.shape != (B,) or target.min() < 0 or target.max() >= whole.shape[1]:
            raise SpikeattnError(f"targets must be {B} classes from 0 to {whole.shape[1] - 1}, one per image")
        base = _filled(images, fill)
        scores = torch.empty(B * len(cells), dtype=torch.float64)
        for flat in torch.arange(B * len(cells)).split(chunk):
            image, step = (flat // len(cells)).to(images.device), flat % len(cells)
            touched = rank[image] < torch.from_numpy(cells)[step].to(images.device).view(-1, 1, 1)  # [n, H, W]
            shown = (touched if inserting else ~touched).view(len(flat), *[1] * (images.ndim - 3), H, W)
            probability = _probabilities(model, torch.where(shown, images[image], base[image]))[0]
            scores[flat] = probability.gather(1, target[image].unsqueeze(1)).squeeze(1).double().cpu()
    return Curves(cells / (h * w), scores.view(B, -1).numpy(), target.cpu().numpy(), fill)


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """The model in eval mode for a while; modes come back and neurons are reset afterwards."""
    try:
        with in_eval(model):
            yield
    finally:
        reset(model)


def _probabilities(model: nn.Module, images: Tensor, measure: bool = False) -> tuple[Tensor, int]:
    """Softmax of the logits [B, classes], and the bytes of the largest layer (its input and output) if asked."""
    sizes = [images.numel() * images.element_size()]

    def note(_: nn.Module, given: Any, out: Any) -> None:
        sizes.append(sum(x.numel() * x.element_size() for x in (*given, out) if isinstance(x, Tensor)))

    handles = [m.register_forward_hook(note) for m in model.modules() if measure and not list(m.children())]
    try:
        reset(model)
        logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    if isinstance(logits, Tensor) and logits.ndim == 3:
        logits = logits.mean(0)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        raise SpikeattnError("the model must give logits [B, classes], or [T, B, classes], for images [B, ...]")
    return logits.float().softmax(1), 2 * max(sizes)


def _filled(images: Tensor, fill: str) -> Tensor:
    if fill == "zero":
        return torch.zeros_like(images)
    if fill == "mean":
        return images.mean((-2, -1), keepdim=True).expand_as(images)
    sigma = min(images.shape[-2:]) / 16
    reach = min(math.ceil(2 * sigma), min(images.shape[-2:]) - 1)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device) / sigma) ** 2).to(images.dtype)
    bell = bell / bell.sum()
    planes = pad(images.reshape(-1, 1, *images.shape[-2:]), [reach] * 4, mode="reflect")
    blurred = torch.nn.functional.conv2d(planes, bell.view(1, 1, -1, 1))
    return torch.nn.functional.conv2d(blurred, bell.view(1, 1, 1, -1)).view_as(images)


def check_maps(maps: Array) -> np.ndarray:
    """The maps as float64 [B, h, w]; another shape, no cell, or NaN and infinity are errors."""
    grid = maps.detach().cpu().double().numpy() if isinstance(maps, Tensor) else np.asarray(maps, dtype=np.float64)
    if grid.ndim != 3 or grid.size == 0:
        raise SpikeattnError(f"maps have shape {grid.shape}; they are [B, h, w], one map per image")
    if not np.isfinite(grid).all():
        bad = int(np.flatnonzero(~np.isfinite(grid).all((1, 2)))[0])
        raise SpikeattnError(f"map {bad} holds NaN or infinity; check the method that made it")
    return grid


def pointing(maps: Array, roi: Array) -> np.ndarray:
    """Whether the highest cell lies in the region of interest: [B] in [0, 1]; of maxima that tie, the share inside.

    Args:
        roi: booleans [B, H, W], at the grid of the maps or finer; the map is enlarged to it without smoothing.
    """
    grid, inside = _with_roi(maps, roi)
    highest = grid == grid.max((1, 2), keepdims=True)
    return (highest & inside).sum((1, 2)) / highest.sum((1, 2))


def roi_share(maps: Array, roi: Array) -> np.ndarray:
    """Share of a map's total that lies in the region of interest: [B]; 0 for an empty map. No value may be negative."""
    grid, inside = _with_roi(maps, roi)
    if grid.min() < 0:
        raise SpikeattnError("roi_share is a share of a total: it takes maps without negative values")
    total = grid.sum((1, 2))
    return np.divide((grid * inside).sum((1, 2)), total, out=np.zeros_like(total), where=total > 0)


def roi_percentile(maps: Array, roi: Array) -> np.ndarray:
    """Mean percentile in [0, 100] of the region's scores among the scores outside it, ties half: [B]; chance is 50."""
    grid, inside = _with_roi(maps, roi)
    result = np.empty(len(grid))
    for b, (scores, mask) in enumerate(zip(grid, inside, strict=True)):
        region, rest = scores[mask], np.sort(scores[~mask])
        if not len(region) or not len(rest):
            raise SpikeattnError(
                f"region {b} covers {len(region)} of {scores.size} cells; some, not all, must lie in it"
            )
        below = np.searchsorted(rest, region, "left") + np.searchsorted(rest, region, "right")
        result[b] = 50 * below.mean() / len(rest)
    return result


def _with_roi(maps: Array, roi: Array) -> tuple[np.ndarray, np.ndarray]:
    grid, inside = check_maps(maps), np.asarray(roi.cpu() if isinstance(roi, Tensor) else roi)
    if inside.dtype != bool or inside.ndim != 3 or len(inside) != len(grid):
        raise SpikeattnError(f"the region is {inside.dtype} {inside.shape}; it is boolean [{len(grid)}, H, W]")
    (h, w), (H, W) = grid.shape[1:], inside.shape[1:]
    if H < h or W < w:
        raise SpikeattnError(f"the region ({H}x{W}) is coarser than the maps ({h}x{w}); give it at their grid or finer")
    return grid[:, np.arange(H) * h // H][:, :, np.arange(W) * w // W], inside


def gini(maps: Array) -> np.ndarray:
    """Gini index of |map|: [B], 0 for a constant or empty map, 1 - 1/N for a single cell of N."""
    values = np.sort(np.abs(check_maps(maps)).reshape(len(maps), -1), axis=1)
    N, total = values.shape[1], values.sum(1)
    weighted = (values * (2 * np.arange(1, N + 1) - N - 1)).sum(1)
    return np.divide(weighted, N * total, out=np.zeros_like(total), where=total > 0)


def entropy_sparseness(maps: Array) -> np.ndarray:
    """1 - H / ln N of |map| as a distribution over its N cells: [B], 0 for uniform or empty, 1 for one cell (N > 1)."""
    values = np.abs(check_maps(maps)).reshape(len(maps), -1)
    N, total = values.shape[1], values.sum(1, keepdims=True)
    if N == 1:
        return np.zeros(len(values))
    p = np.divide(values, total, out=np.full_like(values, 1 / N), where=total > 0)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
    return np.clip(1 - entropy / math.log(N), 0, 1)


def br_npa_sparsity(maps: Array, norms: Array) -> np.ndarray:
    """BR-NPA's sparsity, [B] in [0, 1], LOWER is sparser: the mean of weight * norm, each map over its maximum.

    Args:
        maps: weights [B, K, h, w] of K maps per image.
        norms: lengths of the token vectors [B, h, w].
    """
    weights, lengths = (np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, np.float64) for x in (maps, norms))
    if weights.ndim != 4 or lengths.shape != (len(weights), *weights.shape[2:]):
        raise SpikeattnError(
            f"sparsity takes maps [B, K, h, w] and norms [B, h, w], not {weights.shape}, {lengths.shape}"
        )
    longest = np.maximum(lengths.max((1, 2), keepdims=True), np.finfo(float).tiny)
    pictures = weights * (lengths / longest)[:, None]
    return (pictures / (pictures.max((2, 3), keepdims=True) + 1e-5)).mean((1, 2, 3))


def rank_correlation(a: Array, b: Array) -> np.ndarray:
    """Spearman's correlation of two maps per image: [B], ties at their mean rank; 0 where either map is constant."""
    first, second = check_maps(a), check_maps(b)
    if first.shape != second.shape:
        raise SpikeattnError(f"maps of shapes {first.shape} and {second.shape} cannot be compared")
    x, y = (rankdata(m.reshape(len(m), -1), axis=1) for m in (first, second))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), scale, out=np.zeros_like(scale), where=scale > 0)
