"""Part (b): photos with object boxes. Which score finds the object, per map, layer and question, and beside a prior?"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.planted import coverage

from .boxes import photos, unpack
from .choices import choices
from .measures import auc, energy_inside, iou, pointing, share_of, top
from .scores import Flags, Floats, centre_scores, kinds_of, random_scores, tested

TRAINING = Path(__file__).resolve().parents[1] / "train.py"
SHAPE = {"img_size": 64, "embed_dim": 128, "num_classes": 20, "pooling_stat": "1110"}  # 8 x 8 tokens, .65 M parameters
NETWORKS = {"sdt": ("sdt_2_256", {"time_steps": 2}), "ann": ("ann_2_256", {})}
RECIPE = ["--batch-size", "64", "--lr", "1.5e-3", "--weight-decay", "0.05", "--warmup-epochs", "2", "--shift", "4"]
HALF = 0.5  # of a token's pixels: from here on it lies in the box


@dataclass(frozen=True)
class Extent:
    """How large the part is: photos, replicates, epochs of training, nulls, photos that fix thresholds.

    `limit` takes so many photos for training, at random; None takes all.
    """

    photos: int
    replicates: int
    epochs: int
    nulls: tuple[str, ...]
    training_photos: int
    limit: int | None = None


@dataclass(frozen=True)
class Photos:
    """Images [B, 3, 64, 64], labels [B], and of every token the share of its pixels in the box, [B, h, w]."""

    images: Tensor
    labels: Tensor
    share: Floats
    inside: Flags

    def head(self, n: int) -> Photos:
        return Photos(self.images[:n], self.labels[:n], self.share[:n], self.inside[:n])


def network(which: str, extent: Extent, folder: Path, work: Path, seed: int = 0) -> nn.Module:
    """The spiking network or its twin, trained on the photos where its weights are not there."""
    name, extra = NETWORKS[which]
    weights = work / f"boxes-{which}-{seed}-{extent.epochs}.safetensors"
    arguments = SHAPE | extra
    if not weights.is_file():
        command = [sys.executable, str(TRAINING), "--model", name, "--data", f"folder:{folder}", "--out", str(weights)]
        command += ["--epochs", str(extent.epochs), "--seed", str(seed), "--test-every", "2", *RECIPE]
        command += [word for pair in arguments.items() for word in ("--model-arg", f"{pair[0]}={pair[1]}")]
        command += [] if extent.limit is None else ["--limit", str(extent.limit)]
        state = weights.with_suffix(".state.pt")
        subprocess.run([*command, *(["--resume", str(state)] if state.is_file() else [])], check=True)
    return sa.load_model(name, checkpoint=weights, **arguments)


def data(source: Path, work: Path, model: nn.Module, n: int, split: str) -> Photos:
    """`n` photos, evenly over the split."""
    images, labels, masks = photos(unpack(source, work / "boxes"), model, split)
    rows = np.arange(n) * len(images) // n
    grid = sa.attention_map(model, images[:1]).values.shape[-2:]
    share = np.stack([coverage(masks[row], (int(grid[0]), int(grid[1]))) for row in rows])
    return Photos(images[torch.from_numpy(rows)], labels[torch.from_numpy(rows)], share, share >= HALF)


def run(model: nn.Module, name: str, shown: Photos, train: Photos, extent: Extent, work: Path) -> pd.DataFrame:
    """Per photo: what every map, layer, way of scoring and rule does with the box."""
    tables: list[pd.DataFrame] = []
    area = round(float(train.inside.mean()) * train.inside[0].size)  # tokens of a box, on training photos
    for kind in kinds_of(model):
        for null in extent.nulls:
            key = f"{kind}-{null}-{extent.replicates}"
            test = tested(
                model, shown.images, kind, null, extent.replicates,
                work / "scores" / name / f"{key}-test-{len(shown.images)}.npz",
            )  # fmt: skip
            fixed = tested(
                model, train.images, kind, null, extent.replicates,
                work / "scores" / name / f"{key}-train-{len(train.images)}.npz",
            )  # fmt: skip
            for layer, one in enumerate(test):
                about = {"network": name, "kind": kind, "layer": layer, "null": null}
                for way, scores in one.scores.items():
                    tables += _ranked(scores, shown, area, about | {"way": way})
                for way, chosen in choices(fixed[layer], one).items():
                    tables += _chosen(chosen, shown, about | {"way": way})
            print(f"{name}: {kind}, {null}", flush=True)
    about = {"network": name, "kind": "none", "layer": -1, "null": "none"}
    shape = shown.inside.shape
    for way, scores in {"random": random_scores(shape), "centre": centre_scores(shape)}.items():
        tables += _ranked(scores, shown, area, about | {"way": way})
    return pd.concat(tables, ignore_index=True)


def _ranked(scores: Floats, shown: Photos, area: int, about: dict[str, object]) -> list[pd.DataFrame]:
    values = {
        "auc": auc(scores, shown.inside, ~shown.inside),
        "pointing": pointing(scores, shown.inside),
        "iou": iou(top(scores, area), shown.inside),
    }
    if scores.min() >= 0:
        values["energy inside"] = energy_inside(scores, shown.share)
    return [_table(about, measure, value) for measure, value in values.items()]


def _chosen(chosen: Flags, shown: Photos, about: dict[str, object]) -> list[pd.DataFrame]:
    kept, inside = chosen.sum((1, 2)), (chosen & shown.inside).sum((1, 2))
    values = {
        "kept": chosen.mean((1, 2)),
        "kept in the box": share_of(chosen, shown.inside),
        "kept outside": share_of(chosen, ~shown.inside),
        "precision": np.where(kept > 0, inside / np.maximum(kept, 1), np.nan),
    }
    values["in - outside"] = values["kept in the box"] - values["kept outside"]
    return [_table(about, measure, value) for measure, value in values.items()]


def _table(about: dict[str, object], measure: str, value: Floats) -> pd.DataFrame:
    return pd.DataFrame(about | {"measure": measure, "image": np.arange(len(value)), "value": value})
