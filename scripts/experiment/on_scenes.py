"""Part (a): digit scenes with planted noise, several training seeds: does the test beat the map it is made from?

With part (c), the same networks with q and k randomised.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.nulls import draw_inputs
from spikeattn.data.digit_scenes import CANVAS

from .choices import choices
from .controls import NORM_IMAGES, accuracy, randomised
from .measures import Values, as_table, auc, per_image, share_of
from .scenes import CONTRASTS, NOISES, digits, scenes
from .scores import Flags, Floats, Tested, random_scores, tested

NAME = "sdt_digits_scenes"
TRAINING = Path(__file__).resolve().parents[1] / "train_scenes.py"
TRAINED, RANDOMISED = "trained", "q, k randomised"
FIXED = (NOISES[0], 1.0, True, "train")  # the cell that fixes thresholds: noise as in training, on training digits


@dataclass(frozen=True)
class Extent:
    """How large the part is: seeds of training, scenes per cell, replicates, epochs, pairs of a map and a null.

    With q and k randomised only the first pair is measured.
    """

    seeds: int
    scenes: int
    replicates: int
    epochs: int
    maps: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Network:
    """A network of a training seed and what its tables and files are called."""

    model: nn.Module
    seed: int
    weights: str
    files: Path
    extent: Extent

    def of(self, kind: str, null: str) -> dict[str, object]:
        return {"weights": self.weights, "seed": self.seed, "kind": kind, "null": null}

    def tested(self, kind: str, null: str, name: str, images: Tensor, seed: int = 0) -> list[Tested]:
        """The map of every layer and its test on these images, which `name` stands for."""
        number, replicates = self.extent.scenes, self.extent.replicates
        file = self.files / f"{kind}-{null}-{name}-{number}-{replicates}.npz"
        return tested(self.model, images, kind, null, replicates, file, seed)

    def cell(
        self, kind: str, null: str, noise: str, contrast: float, with_digit: bool, split: str
    ) -> tuple[list[Tested], Flags, Flags]:
        """The same on scenes of one kind, and what is digit and noise on their tokens."""
        grid = sa.attention_map(self.model, torch.zeros(1, 1, 32, 32), kind).values.shape[-2:]
        shown = scenes(self.extent.scenes, noise, contrast, with_digit, (int(grid[0]), int(grid[1])), split)
        name = f"{split}-{noise.replace(' ', '_')}-{contrast:g}-{'digit' if with_digit else 'none'}"
        return self.tested(kind, null, name, shown.images), shown.digit, shown.noise


def trained(seed: int, epochs: int, work: Path) -> nn.Module:
    """The network of a training seed; trained where its weights are not there. Seed 0 is the shipped one."""
    if seed == 0:
        return sa.load_model(NAME, pretrained=True)
    weights = work / f"scenes-{seed}-{epochs}.safetensors"
    if not weights.is_file():
        command = [sys.executable, str(TRAINING), "--epochs", str(epochs), "--seed", str(seed), "--out", str(weights)]
        subprocess.run(command, check=True)
    return sa.load_model(NAME, checkpoint=weights)


def run(extent: Extent, work: Path, parts: str) -> dict[str, pd.DataFrame]:
    """Tables: "scenes" (per image, what every score and rule does with digit and noise), "alarms", "accuracy"."""
    rows: list[Values] = []
    alarms: list[Values] = []
    accuracies = []
    for seed in range(extent.seeds):
        for network in _networks(seed, extent, work, parts):
            for kind, null in extent.maps if network.weights == TRAINED else extent.maps[:1]:
                fixed, _, _ = network.cell(kind, null, *FIXED)
                rows += _rows(network, kind, null, fixed)
                alarms += _alarms(network, kind, null, fixed)
            accuracies.append(_accuracy(network))
            print(f"scenes: seed {seed} of {extent.seeds}, {network.weights}", flush=True)
    accuracy_table = pd.concat(accuracies, ignore_index=True)
    return {"scenes": as_table(rows), "alarms": as_table(alarms), "accuracy": accuracy_table}


def _networks(seed: int, extent: Extent, work: Path, parts: str) -> Iterator[Network]:
    model = trained(seed, extent.epochs, work)
    network = Network(model, seed, TRAINED, work / "scores" / f"scenes-{seed}-{extent.epochs}", extent)
    if "a" in parts:
        yield network
    if "c" in parts:
        images = digits("train").images[:NORM_IMAGES]
        files = work / "scores" / f"scenes-{seed}-{extent.epochs}-randomised"
        yield replace(network, model=randomised(model, images, seed), weights=RANDOMISED, files=files)


def _accuracy(network: Network) -> pd.DataFrame:
    dataset = digits("test")
    about = {"data": "scenes", "network": f"{NAME}, seed {network.seed}", "weights": network.weights}
    labels = torch.as_tensor(dataset.labels)
    return accuracy(network.files / "accuracy.csv", about, network.model, dataset.images, labels)


def _rows(network: Network, kind: str, null: str, fixed: list[Tested]) -> list[Values]:
    rows: list[Values] = []
    for noise in NOISES:
        for contrast in CONTRASTS:
            found, digit, planted = network.cell(kind, null, noise, contrast, True, "test")
            about = network.of(kind, null) | {"noise": noise, "contrast": contrast}
            for layer, one in enumerate(found):
                scores = one.scores | {"random": random_scores(digit.shape, network.seed)}
                for way, values in scores.items():
                    measured = {"auc": auc(values, digit, planted)}
                    rows += per_image(about | {"layer": layer, "way": way}, measured)
                for way, chosen in choices(fixed[layer], one, network.seed).items():
                    rows += per_image(about | {"layer": layer, "way": way}, _kept(chosen, digit, planted))
    return rows


def _kept(chosen: Flags, digit: Flags, noise: Flags) -> dict[str, Floats]:
    kept = {"digit kept": share_of(chosen, digit), "noise kept": share_of(chosen, noise)}
    return kept | {
        "digit - noise": kept["digit kept"] - kept["noise kept"],
        "elsewhere": share_of(chosen, ~digit & ~noise),
    }


def _alarms(network: Network, kind: str, null: str, fixed: list[Tested]) -> list[Values]:
    """Whether anything is called: with a digit, with noise alone, and in images drawn from the null of a scene."""
    plain = digits("test").images[: network.extent.scenes]
    side = CANVAS // fixed[0].scores["raw"].shape[-1]  # pixels of a token
    drawn = torch.cat(
        [draw_inputs(null, image, [0], seed=99, index=i, patch=(side, side)) for i, image in enumerate(plain)]
    )
    shown = {
        "a digit and noise": network.cell(kind, null, NOISES[0], 1.0, True, "test")[0],
        "noise alone": network.cell(kind, null, NOISES[0], 1.0, False, "test")[0],
        "a draw of the null": network.tested(kind, null, "nothing", drawn, seed=7),
    }
    rows: list[Values] = []
    for what, found in shown.items():
        for layer, one in enumerate(found):
            for way, chosen in choices(fixed[layer], one, network.seed).items():
                about = network.of(kind, null) | {"shown": what, "layer": layer, "way": way}
                measured = {"any": chosen.any((1, 2)).astype(float), "share": chosen.mean((1, 2))}
                rows += per_image(about, measured)
    return rows
