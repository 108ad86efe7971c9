"""Part (a): digit scenes with planted noise, several training seeds: does the test beat the map it is made from?"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

import spikeattn as sa
from spikeattn.attention.nulls import draw_inputs

from .choices import choices
from .measures import auc, share_of
from .scenes import CONTRASTS, NOISES, scenes
from .scores import Tested, kinds_of, random_scores, tested

NAME = "sdt_digits_scenes"
TRAINING = Path(__file__).resolve().parents[1] / "train_scenes.py"


@dataclass(frozen=True)
class Extent:
    """How large the part is: seeds of training, scenes per cell, replicates, epochs of training, nulls."""

    seeds: int
    scenes: int
    replicates: int
    epochs: int
    nulls: tuple[str, ...]


def network(seed: int, epochs: int, work: Path) -> nn.Module:
    """The network of a training seed; trained where its weights are not there."""
    weights = work / f"scenes-{seed}-{epochs}.safetensors"
    if not weights.is_file():
        command = [sys.executable, str(TRAINING), "--epochs", str(epochs), "--seed", str(seed), "--out", str(weights)]
        subprocess.run(command, check=True)
    return sa.load_model(NAME, checkpoint=weights)


def run(extent: Extent, work: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per image: what every score and every rule does with digit and noise; and what is called where nothing is."""
    rows: list[pd.DataFrame] = []
    alarms: list[pd.DataFrame] = []
    for seed in range(extent.seeds):
        model = network(seed, extent.epochs, work)
        for kind in kinds_of(model):
            for null in extent.nulls:
                rows += _rows(model, kind, null, seed, extent, work)
                alarms += _alarms(model, kind, null, seed, extent, work)
        print(f"scenes: seed {seed} of {extent.seeds}", flush=True)
    return pd.concat(rows, ignore_index=True), pd.concat(alarms, ignore_index=True)


def _maps(
    model: nn.Module, kind: str, null: str, seed: int, extent: Extent, work: Path, cell: tuple[str, float, bool, str]
) -> tuple[list[Tested], np.ndarray, np.ndarray]:
    """The tested maps of a cell, by layer, and what is digit and noise on their tokens."""
    noise, contrast, with_digit, split = cell
    there = "digit" if with_digit else "none"
    name = f"{kind}-{null}-{split}-{noise.replace(' ', '_')}-{contrast:g}-{there}-{extent.scenes}-{extent.replicates}"
    grid = sa.attention_map(model, torch.zeros(1, 1, 32, 32), kind).values.shape[-2:]
    shown = scenes(extent.scenes, noise, contrast, with_digit, (int(grid[0]), int(grid[1])), split)
    file = work / "scores" / f"scenes-{seed}-{extent.epochs}" / f"{name}.npz"
    return tested(model, shown.images, kind, null, extent.replicates, file), shown.digit, shown.noise


def _rows(model: nn.Module, kind: str, null: str, seed: int, extent: Extent, work: Path) -> list[pd.DataFrame]:
    train, _, _ = _maps(model, kind, null, seed, extent, work, (NOISES[0], 1.0, True, "train"))
    tables = []
    for noise in NOISES:
        for contrast in CONTRASTS:
            found, digit, planted = _maps(model, kind, null, seed, extent, work, (noise, contrast, True, "test"))
            for layer, one in enumerate(found):
                about = {"seed": seed, "kind": kind, "null": null, "layer": layer, "noise": noise, "contrast": contrast}
                scores = one.scores | {"random": random_scores(digit.shape, seed)}
                for way, values in scores.items():
                    measured = {"image": np.arange(len(digit)), "measure": "auc", "way": way}
                    tables.append(pd.DataFrame(about | measured | {"value": auc(values, digit, planted)}))
                for way, chosen in choices(train[layer], one, seed).items():
                    for measure, value in _kept(chosen, digit, planted).items():
                        measured = {"image": np.arange(len(digit)), "measure": measure, "way": way}
                        tables.append(pd.DataFrame(about | measured | {"value": value}))
    return tables


def _kept(chosen: np.ndarray, digit: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    kept = {"digit kept": share_of(chosen, digit), "noise kept": share_of(chosen, noise)}
    return kept | {
        "digit - noise": kept["digit kept"] - kept["noise kept"],
        "elsewhere": share_of(chosen, ~digit & ~noise),
    }


def _alarms(model: nn.Module, kind: str, null: str, seed: int, extent: Extent, work: Path) -> list[pd.DataFrame]:
    """Whether anything is called: with a digit, with noise alone, and in images drawn from the null of a scene."""
    train, _, _ = _maps(model, kind, null, seed, extent, work, (NOISES[0], 1.0, True, "train"))
    tables = []
    for there, cell in {
        "digit": (NOISES[0], 1.0, True, "test"),
        "noise alone": (NOISES[0], 1.0, False, "test"),
    }.items():
        found, _, _ = _maps(model, kind, null, seed, extent, work, cell)
        tables += _any_called(found, train, {"seed": seed, "kind": kind, "null": null, "shown": there}, seed)
    digits = sa.open_dataset("digits-scenes", split="test").images[: extent.scenes]
    drawn = torch.cat([draw_inputs(null, image, [0], seed=99, index=i) for i, image in enumerate(digits)])
    name = f"{kind}-{null}-nothing-{extent.scenes}-{extent.replicates}"
    file = work / "scores" / f"scenes-{seed}-{extent.epochs}" / f"{name}.npz"
    found = tested(model, drawn, kind, null, extent.replicates, file, seed=7)
    about = {"seed": seed, "kind": kind, "null": null, "shown": "a draw of the null"}
    return tables + _any_called(found, train, about, seed)


def _any_called(found: list[Tested], train: list[Tested], about: dict[str, object], seed: int) -> list[pd.DataFrame]:
    tables = []
    for layer, one in enumerate(found):
        for way, chosen in choices(train[layer], one, seed).items():
            values = {"any": chosen.any((1, 2)).astype(float), "share": chosen.mean((1, 2))}
            for measure, value in values.items():
                at = {"layer": layer, "image": np.arange(len(chosen)), "measure": measure, "way": way}
                tables.append(pd.DataFrame(about | at | {"value": value}))
    return tables
