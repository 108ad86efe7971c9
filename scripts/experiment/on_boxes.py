"""Parts (b) and (d): photos with object boxes. Which score finds the object, per map, layer and question?

With part (c), the same networks with q and k randomised.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.faithfulness import pointing
from spikeattn.attention.planted import coverage

from . import stored
from .boxes import photos, unpack
from .choices import choices
from .controls import NORM_IMAGES, accuracy, randomised
from .faithful import curves, sanity
from .measures import Values, as_table, auc, energy_inside, iou, per_image, share_of, top
from .scores import Flags, Floats, Tested, centre_scores, kinds_of, random_scores, tested

TRAINING = Path(__file__).resolve().parents[1] / "train.py"
SHAPE = {"img_size": 64, "embed_dim": 128, "num_classes": 20, "pooling_stat": "1110"}  # 8 x 8 tokens, .65 M parameters
NETWORKS = {"sdt": ("sdt_2_256", {"time_steps": 2}), "ann": ("ann_2_256", {})}
RECIPE = ["--batch-size", "64", "--lr", "1.5e-3", "--weight-decay", "0.05", "--warmup-epochs", "2", "--shift", "4"]
DATA = "photos"
HALF = 0.5  # of a token's pixels: from here on it lies in the box


@dataclass(frozen=True)
class Extent:
    """How large the parts are.

    Attributes:
        photos, training_photos: with maps; the latter fix thresholds.
        test: photos of the test split that measure accuracy.
        curves, steps: photos with deletion and insertion, and steps of a curve.
        checked, check_replicates: photos and replicates of the check by randomised weights.
        redraws: of q and k; maps are measured on the first of them.
        limit: of photos for training, at random; None takes all.
    """

    photos: int
    training_photos: int
    test: int
    curves: int
    steps: int
    checked: int
    check_replicates: int
    replicates: int
    redraws: int
    epochs: int
    null: str
    limit: int | None = None


@dataclass(frozen=True)
class Photos:
    """Images [B, 3, 64, 64], labels [B], and of every token the share of its pixels in the box, [B, h, w]."""

    images: Tensor
    labels: Tensor
    share: Floats

    @property
    def inside(self) -> Flags:
        return self.share >= HALF


@dataclass(frozen=True)
class Data:
    """Photos for the accuracy, photos with maps, and training photos: for thresholds, and for batch norms."""

    test: Photos
    shown: Photos
    fixing: Photos
    norms: Photos


@dataclass(frozen=True)
class Network:
    """A network, what its tables call it, and where its files are."""

    model: nn.Module
    about: dict[str, object]
    files: Path
    extent: Extent

    def tested(self, kind: str, photos: Photos, split: str) -> list[Tested]:
        """The map of every layer and its test."""
        null, replicates = self.extent.null, self.extent.replicates
        file = self.files / f"{kind}-{null}-{replicates}-{split}-{len(photos.images)}.npz"
        return tested(self.model, photos.images, kind, null, replicates, file)


def run(source: Path, extent: Extent, work: Path, parts: str) -> dict[str, pd.DataFrame]:
    """Tables "photos" (per photo, what every score and rule does with the box), "accuracy", "curves", "sanity"."""
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in ("photos", "accuracy", "curves", "sanity")}
    folder = unpack(source, work / "boxes")
    for which in NETWORKS:
        trained = network(which, extent, folder, work)
        data = _data(folder, trained, extent)
        for redraw in (None, *range(extent.redraws if "c" in parts else 0)):
            weights = "trained" if redraw is None else f"q, k randomised {redraw}"
            model = trained if redraw is None else randomised(trained, data.norms.images, redraw)
            files = work / "scores" / f"boxes-{which}-{extent.epochs}-{weights.replace(' ', '_')}"
            one = Network(model, {"data": DATA, "network": which, "weights": weights}, files, extent)
            file = files / f"accuracy-{extent.test}.csv"
            found["accuracy"].append(accuracy(file, one.about, model, data.test.images, data.test.labels))
            if not redraw and "b" in parts:
                found["photos"].append(_maps(one, data))
            if not redraw and "d" in parts:
                found["curves"].append(_curves(one, data))
            if redraw is None and "d" in parts:
                found["sanity"].append(_sanity(one, data))
            print(f"{DATA}: {which}, {weights}", flush=True)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items() if tables}


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


def _data(folder: Path, model: nn.Module, extent: Extent) -> Data:
    def evenly(split: str, n: int) -> Photos:
        images, labels, masks = photos(folder, model, split, n)
        height, width = sa.attention_map(model, images[:1]).values.shape[-2:]
        return Photos(images, labels, np.stack([coverage(mask, (int(height), int(width))) for mask in masks]))

    return Data(
        evenly("test", extent.test),
        evenly("test", extent.photos),
        evenly("train", extent.training_photos),
        evenly("train", min(NORM_IMAGES, extent.limit or NORM_IMAGES)),
    )


def _maps(one: Network, data: Data) -> pd.DataFrame:
    """Per photo, map, layer, way of scoring and rule: the measures."""
    shown = data.shown
    rows: list[Values] = []
    area = round(float(data.fixing.inside.mean()) * shown.inside[0].size)  # tokens of a box, on training photos
    priors = {"random": random_scores(shown.share.shape), "centre": centre_scores(shown.share.shape)}
    for kind in kinds_of(one.model):
        test, fixing = one.tested(kind, shown, "test"), one.tested(kind, data.fixing, "train")
        for layer, found in enumerate(test):
            about = one.about | {"kind": kind, "layer": layer}
            for way, scores in (found.scores | priors).items():
                rows += per_image(about | {"way": way}, _ranked(scores, shown, area))
            for way, chosen in choices(fixing[layer], found).items():
                rows += per_image(about | {"way": way}, _chosen(chosen, shown))
    return as_table(rows)


def _some(n: int, wanted: int) -> slice:
    """`wanted` of `n`, evenly: photos are sorted by class."""
    step = max(1, n // wanted)
    return slice(0, step * wanted, step)


def _curves(one: Network, data: Data) -> pd.DataFrame:
    """Of the default map of the last block."""
    extent, kind = one.extent, kinds_of(one.model)[0]
    rows = _some(extent.photos, extent.curves)
    found = one.tested(kind, data.shown, "test")[-1].chosen(rows)
    file = one.files / f"{kind}-{extent.null}-{extent.replicates}-curves-{extent.curves}-{extent.steps}.csv"
    images, about = data.shown.images[rows], one.about | {"kind": kind}
    return stored.table(file, lambda: curves(one.model, about, images, found, extent.steps))


def _sanity(one: Network, data: Data) -> pd.DataFrame:
    kind, extent = kinds_of(one.model)[0], one.extent
    images = data.shown.images[_some(extent.photos, extent.checked)]
    file = one.files / f"{kind}-{extent.null}-{extent.check_replicates}-sanity-{extent.checked}.csv"
    return stored.table(file, lambda: sanity(one.model, one.about, images, kind, extent.null, extent.check_replicates))


def _ranked(scores: Floats, shown: Photos, area: int) -> dict[str, Floats]:
    return {
        "auc": auc(scores, shown.inside, ~shown.inside),
        "pointing": pointing(scores, shown.inside),
        "energy inside": energy_inside(scores, shown.share),
        "iou": iou(top(scores, area), shown.inside),
    }


def _chosen(chosen: Flags, shown: Photos) -> dict[str, Floats]:
    kept, inside = chosen.sum((1, 2)), (chosen & shown.inside).sum((1, 2))
    values = {
        "kept": chosen.mean((1, 2)),
        "kept in the box": share_of(chosen, shown.inside),
        "kept outside": share_of(chosen, ~shown.inside),
        "precision": np.where(kept > 0, inside / np.maximum(kept, 1), np.nan),
    }
    return values | {"in - outside": values["kept in the box"] - values["kept outside"]}
