"""Part (d): does the prediction rest on what a score shows? Deletion, insertion, the check by randomised weights."""

from __future__ import annotations

import pandas as pd
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.faithfulness import deletion, insertion
from spikeattn.attention.sanity import randomisation_check

from .measures import Values, as_table, per_image, places
from .scores import Flags, Tested, centre_scores, random_scores


def curves(model: nn.Module, about: dict[str, object], images: Tensor, found: Tested, steps: int) -> pd.DataFrame:
    """Per image the areas under deletion (cells become the image's mean) and insertion (cells appear on its blur)."""
    shape = found.scores["raw"].shape
    ways = found.scores | {"random": random_scores(shape), "centre": centre_scores(shape)}
    rows: list[Values] = []
    for way, scores in ways.items():
        # Ties in raster order would be a map of their own: they are broken at random, alike for every way.
        broken = -places(scores, seed=3).astype(float)
        areas = {
            "deletion": deletion(model, images, broken, "mean", steps=steps).auc,
            "insertion": insertion(model, images, broken, "blur", steps=steps).auc,
        }
        rows += per_image(about | {"way": way}, areas)
    return as_table(rows)


def sanity(
    model: nn.Module, about: dict[str, object], images: Tensor, kind: str, null: str, replicates: int
) -> pd.DataFrame:
    """Rank correlation of the raw map, and Jaccard index of what is called, while weights are permuted from the end.

    Means over the images.
    """

    def called(network: nn.Module, batch: Tensor) -> Flags:
        found: Flags = sa.attend(network, batch, null, replicates, kind).regularized() > 0
        return found

    def raw(network: nn.Module, batch: Tensor) -> Tensor:
        return sa.attention_map(network, batch, kind).values

    table = randomisation_check(model, images, raw, called, seed=1)
    means = table.groupby("layer", sort=False)[["spearman", "jaccard", "constant"]].mean().reset_index()
    columns = about | {"kind": kind, "images": len(images)}
    return pd.concat([pd.DataFrame(columns, index=means.index), means], axis=1)
