"""Part (d): does the prediction rest on what a score shows? Deletion, insertion, the check by randomised weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.faithfulness import deletion, insertion
from spikeattn.attention.sanity import randomisation_check

from .scores import Tested, centre_scores, kinds_of, random_scores, tested

STEPS = 16  # of a curve
CHECKED = 8  # photos of the check by randomised weights


def curves(model: nn.Module, name: str, images: Tensor, null: str, replicates: int, work: Path) -> pd.DataFrame:
    """Per photo the areas under deletion (to its mean) and insertion (from its blur), by the default map."""
    kind = kinds_of(model)[0]
    file = work / "scores" / name / f"{kind}-{null}-{replicates}-test-{len(images)}.npz"
    found: Tested = tested(model, images, kind, null, replicates, file)[-1]
    shape = found.scores["raw"].shape
    ways = found.scores | {"random": random_scores(shape), "centre": centre_scores(shape)}
    tables = []
    for way, scores in ways.items():
        # Ties in raster order would be a map of their own: they are broken at random, alike for every way.
        broken = scores + 1e-9 * np.abs(scores).max() * random_scores(shape, seed=3)
        for measure, value in {
            "deletion": deletion(model, images, broken, "mean", steps=STEPS).auc,
            "insertion": insertion(model, images, broken, "blur", steps=STEPS).auc,
        }.items():
            about = {"network": name, "kind": kind, "null": null, "way": way, "measure": measure}
            tables.append(pd.DataFrame(about | {"image": np.arange(len(value)), "value": value}))
    return pd.concat(tables, ignore_index=True)


def sanity(model: nn.Module, name: str, images: Tensor, null: str, replicates: int) -> pd.DataFrame:
    """Rank correlation of the raw map, and Jaccard index of what is called, while weights are permuted from the end."""
    kind = kinds_of(model)[0]

    def called(network: nn.Module, batch: Tensor) -> np.ndarray:
        return sa.attend(network, batch, null, replicates, kind).regularized() > 0

    def raw(network: nn.Module, batch: Tensor) -> Tensor:
        return sa.attention_map(network, batch, kind).values

    table = randomisation_check(model, images[:CHECKED], raw, called, seed=1)
    means = table.groupby("layer", sort=False)[["spearman", "jaccard", "constant"]].mean().reset_index()
    return means.assign(network=name, kind=kind, images=min(CHECKED, len(images)))


def cifar10(folder: Path, which: str, number: int) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A network of reports/cifar10, test images with labels, and training images for its norms."""
    weights = Path(__file__).resolve().parents[2] / "reports" / "cifar10"
    name = {"sdt": "sdt_2_256", "ann": "ann_2_256"}[which]
    model = sa.load_model(name, checkpoint=weights / f"{name}.safetensors", img_size=32, num_classes=10)
    parts = []
    for split in ("test", "train"):
        dataset = sa.open_dataset(f"cifar10:{folder}", model, split=split)
        rows = [i * len(dataset) // number for i in range(number)]
        parts.append([dataset[i] for i in rows])
    test, train = parts
    labels = torch.tensor([label for _, label in test])
    return model, torch.stack([x for x, _ in test]), labels, torch.stack([x for x, _ in train])
