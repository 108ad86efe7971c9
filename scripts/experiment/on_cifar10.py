"""Part (c) on the CIFAR-10 networks of reports/cifar10: accuracy and faithfulness with q and k randomised.

There are no boxes: deletion and insertion are the scores that a map can have here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

import spikeattn as sa

from . import stored
from .controls import NORM_IMAGES, accuracy, randomised
from .faithful import curves
from .scores import kinds_of, tested

WEIGHTS = Path(__file__).resolve().parents[2] / "reports" / "cifar10"
NETWORKS = {"sdt": "sdt_2_256", "ann": "ann_2_256"}
DATA = "CIFAR-10"


@dataclass(frozen=True)
class Extent:
    """Test images for the accuracy, images with maps, replicates, redraws of q and k, steps of a curve, null."""

    images: int
    shown: int
    replicates: int
    redraws: int
    steps: int
    null: str


def run(folder: Path, extent: Extent, work: Path) -> dict[str, pd.DataFrame]:
    """Tables "accuracy" and "curves" (of the default map of the last block)."""
    accuracies, areas = [], []
    for which in NETWORKS:
        trained, images, labels, train = _opened(folder, which, extent.images)
        shown = images[:: max(1, len(images) // extent.shown)][: extent.shown]
        for redraw in (None, *range(extent.redraws)):
            weights = "trained" if redraw is None else f"q, k randomised {redraw}"
            model = trained if redraw is None else randomised(trained, train, redraw)
            files = work / "scores" / f"cifar10-{which}-{extent.images}-{weights.replace(' ', '_')}"
            about: dict[str, object] = {"data": DATA, "network": which, "weights": weights}
            accuracies.append(accuracy(files / "accuracy.csv", about, model, images, labels))
            if not redraw:
                areas.append(_areas(model, about, shown, extent, files))
            print(f"{DATA}: {which}, {weights}", flush=True)
    return {"accuracy": pd.concat(accuracies, ignore_index=True), "curves": pd.concat(areas, ignore_index=True)}


def _areas(model: nn.Module, about: dict[str, object], images: Tensor, extent: Extent, files: Path) -> pd.DataFrame:
    kind = kinds_of(model)[0]
    name = f"{kind}-{extent.null}-{extent.replicates}-{len(images)}"
    found = tested(model, images, kind, extent.null, extent.replicates, files / f"{name}.npz")[-1]
    file = files / f"{name}-curves-{extent.steps}.csv"
    return stored.table(file, lambda: curves(model, about | {"kind": kind}, images, found, extent.steps))


def _opened(folder: Path, which: str, number: int) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A network, `number` test images evenly over the split with their labels, and training images for its norms."""
    name = NETWORKS[which]
    model = sa.load_model(name, checkpoint=WEIGHTS / f"{name}.safetensors", img_size=32, num_classes=10)
    test, train = (
        [dataset[i * len(dataset) // n] for i in range(n)]
        for split, n in (("test", number), ("train", min(number, NORM_IMAGES)))
        for dataset in (sa.open_dataset(f"cifar10:{folder}", model, split=split),)
    )
    labels = torch.tensor([label for _, label in test])
    return model, torch.stack([x for x, _ in test]), labels, torch.stack([x for x, _ in train])
