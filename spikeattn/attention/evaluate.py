"""Does regularisation take attention from where there is nothing? Noise planted in images, scores before and after.

The evaluation of Chung, Laletin: Attention Regularization, AISTATS 2026, https://arxiv.org/abs/2604.01339: a square of
noise, or as many pixels in clusters. Scores are taken on tokens, each weighted by the share of its pixels in the
region, which is what the paper's pixel maps give. What becomes of an object beside the noise is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from spikeattn.attention.bootstrap_test import Attention, attend
from spikeattn.attention.capture import check_images
from spikeattn.attention.planted import REGIONS, coverage
from spikeattn.attention.regularize import THRESHOLD, WITH_THRESHOLD
from spikeattn.errors import SpikeattnError, unknown

EVALUATED = ("q", "p", "lfdr", "pi0", "soft")  # methods of regularisation
PERCENTILES = ["percentile_before", "percentile_after"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a region of noise, and of an object where it was given, before and after regularisation.

    Attributes:
        frame: one row per image and method. image, method; percentile_before, percentile_after: mean percentile of the
            region's scores among the rest, 0 to 100; share_before, share_after: the region's part of the map's total
            (0 where nothing is left); nonzero_after: share of the region that keeps attention, in %; mass_after: share
            of the region's attention that is left, in %; kept_outside: share of the rest that keeps attention, in %;
            srmsd: signed root mean square deviation of the rest's p-values from uniform. With objects also
            object_kept: share of the object's tokens that keep attention, in %; object_mass: share of the object's
            attention that is left, in %; object_share_before, object_share_after: the object's part of the total.
        D: by method, sum of percentiles after over sum before: 0 where all attention on noise is gone, 1 where none is.
        D_error: standard error of D over the images, NaN for one image.
        attention: of the images with noise.
        coverage: share of every token's pixels that is noise [image, h, w].
        images: those that were attended.
    """

    frame: pd.DataFrame
    D: dict[str, float]
    D_error: dict[str, float]
    attention: Attention
    coverage: Floats
    images: Tensor

    @property
    def region(self) -> NDArray[np.bool_]:
        """Tokens of which at least half is noise [image, h, w]."""
        return self.coverage >= 0.5

    def summary(self) -> pd.DataFrame:
        """One row per method: D, its error, and the mean and standard error of every column over the images."""
        groups = self.frame.drop(columns="image").groupby("method", sort=False)
        means, errors = groups.mean(), groups.sem().add_suffix("_se")
        table = pd.concat([means, errors], axis=1)[[x for name in means for x in (name, f"{name}_se")]]
        table.insert(0, "D", pd.Series(self.D))
        table.insert(1, "D_se", pd.Series(self.D_error))
        return table.reset_index()


def evaluate_regularization(
    model: nn.Module,
    images: Tensor,
    null: str = "normal",
    replicates: int = 100,
    *,
    region: str = "square",
    size: float = 0.375,
    objects: ArrayLike | Tensor | None = None,
    threshold: float = THRESHOLD,
    seed: int = 0,
    **options: Any,
) -> Evaluation:
    """Put noise into a part of every image, attend, and see what attention that part keeps.

    Args:
        model, images, null, replicates, seed: as in `attend`.
        region: "square", or "clusters": as many pixels, where a smooth random field is highest.
        size: side of the square over the side of the image, in (0, 1); its place is drawn.
        objects: pixels [B, H, W] that belong to the object of each image, booleans; what noise covers is left out.
        threshold: of q, p and lfdr.
        **options: further ones of `attend`, such as statistic or estimator.

    Returns:
        Evaluation: percentiles and shares of the noise before and after regularisation, per image and method.

    Raises:
        SpikeattnError: a size that leaves nothing outside the region, objects that do not fit; and what `attend`
            raises.
    """
    images = check_images(model, images)
    if region not in REGIONS:
        raise unknown("region of noise", region, tuple(REGIONS))
    if not 0 < size < 1:
        raise SpikeattnError(f"size is {size}; it is the side of the square over the side of the image, in (0, 1)")
    several = [
        f"{name}={options[name]!r}" for name in ("layer", "heads", "steps") if options.get(name) in ("all", "each")
    ]
    if several:
        raise SpikeattnError(
            f"{', '.join(several)}: noise is evaluated on one map per image; give one layer, head or step"
        )
    pixels = None if objects is None else _checked_objects(objects, images)
    planted = [REGIONS[region](image, size, seed=seed, index=number) for number, image in enumerate(images)]
    noisy = torch.stack([image for image, _ in planted])
    found = attend(model, noisy, null, replicates, seed=seed, **options)
    if found.maps.ndim != 3:
        raise SpikeattnError(f"the statistic gives maps {list(found.maps.shape[1:])}; noise is evaluated on one [h, w]")
    grid = found.maps.shape[1:]
    covered = np.stack([coverage(mask, grid) for _, mask in planted])
    if (covered == 1).all((1, 2)).any():
        raise SpikeattnError(f"noise of size {size:g} covers the whole image; take a smaller size")
    rest = np.rint((1 - covered) * (images.shape[-2] * images.shape[-1] / (grid[0] * grid[1]))).astype(int)  # pixels
    things: list[Floats] | None = None
    if pixels is not None:
        things = [coverage(thing & ~mask, grid) for thing, (_, mask) in zip(pixels, planted, strict=True)]
    rows = []
    methods = [name for name in EVALUATED if name != "q" or all(one.q is not None for one in found.significance)]
    for method in methods:
        maps = found.regularized(method, threshold if method in WITH_THRESHOLD else None)
        for number, (before, after) in enumerate(zip(found.maps, maps, strict=True)):
            row = {"image": number, "method": method} | region_scores(before, after, covered[number])
            row["srmsd"] = signed_rmsd(np.repeat(found.p[number].ravel(), rest[number].ravel()))
            if things is not None:
                row |= object_scores(before, after, things[number])
            rows.append(row)
    frame = pd.DataFrame(rows)
    ratios = {method: ratio(*frame.loc[frame["method"] == method, PERCENTILES].to_numpy().T) for method in methods}
    values, errors = ({method: pair[i] for method, pair in ratios.items()} for i in (0, 1))
    return Evaluation(frame, values, errors, found, covered, noisy)


def region_scores(before: ArrayLike, after: ArrayLike, region: ArrayLike) -> dict[str, float]:
    """Columns of `Evaluation.frame` from one map [h, w] and its regularised form; region: share of each token."""
    a, b, inside = np.asarray(before), np.asarray(after), np.asarray(region, dtype=np.float64)
    return {
        "percentile_before": region_percentile(a, inside),
        "percentile_after": region_percentile(b, inside),
        "share_before": _share(a, inside),
        "share_after": _share(b, inside),
        "nonzero_after": 100 * float((inside * (b > 0)).sum() / inside.sum()),
        "mass_after": _left(a, b, inside),
        "kept_outside": 100 * float(((1 - inside) * (b > 0)).sum() / (1 - inside).sum()),
    }


def object_scores(before: ArrayLike, after: ArrayLike, thing: ArrayLike) -> dict[str, float]:
    """What the object keeps: `thing` is the share of each token's pixels that show it; NaN where nothing is seen."""
    a, b, inside = np.asarray(before), np.asarray(after), np.asarray(thing, dtype=np.float64)
    if not inside.any():
        return dict.fromkeys(("object_kept", "object_mass", "object_share_before", "object_share_after"), np.nan)
    return {
        "object_kept": 100 * float((inside * (b > 0)).sum() / inside.sum()),
        "object_mass": _left(a, b, inside),
        "object_share_before": _share(a, inside),
        "object_share_after": _share(b, inside),
    }


def region_percentile(scores: ArrayLike, region: ArrayLike) -> float:
    """Mean over a region of the share, in %, of scores outside that are smaller.

    Args:
        scores: any shape.
        region: booleans, or shares in [0, 1] with which a score counts inside, and with the rest outside.
    """
    values, inside = np.ravel(scores), np.ravel(region).astype(np.float64)
    order = np.argsort(values, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(1 - inside[order])])
    smaller = below[np.searchsorted(values[order], values, side="left")]
    return 100 * float((inside * smaller).sum() / (inside.sum() * below[-1]))


def ratio(before: Floats, after: Floats) -> tuple[float, float]:
    """Sum after over sum before, and its standard error over the pairs (delta method); NaN where it is undefined."""
    total = before.sum()
    if not total > 0:
        return np.nan, np.nan
    value = float(after.sum() / total)
    if len(before) < 2:
        return value, np.nan
    return value, float((after - value * before).std(ddof=1) * np.sqrt(len(before)) / total)


def signed_rmsd(p: ArrayLike) -> float:
    """Root mean square distance of sorted p-values from (i - 1/2) / m; negative where their median exceeds 1/2."""
    values = np.sort(np.ravel(p))
    away = (np.arange(values.size) + 0.5) / values.size - values
    return float(np.sqrt((away**2).mean())) * (-1.0 if np.median(values) > 0.5 else 1.0)


def _left(before: Floats, after: Floats, inside: Floats) -> float:
    mass = (inside * before).sum()
    return 100 * float((inside * after).sum() / mass) if mass > 0 else np.nan


def _share(scores: Floats, inside: Floats) -> float:
    total = scores.sum()
    return float((scores * inside).sum() / total) if total > 0 else 0.0


def _checked_objects(objects: ArrayLike | Tensor, images: Tensor) -> list[NDArray[np.bool_]]:
    masks = np.asarray(objects.cpu() if isinstance(objects, Tensor) else objects)
    wanted = (len(images), *images.shape[-2:])
    if masks.dtype != bool or masks.shape != wanted:
        raise SpikeattnError(
            f"objects are {masks.dtype} {list(masks.shape)}; give booleans {list(wanted)}, the object's pixels of each "
            "image"
        )
    return list(masks)
