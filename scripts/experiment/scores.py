"""Every way to score the tokens of images: the raw map, its test, its gradient, and what costs nothing to do.

All arrays are [image, h, w]; a higher score means that the token matters more. What a network says of some images is
kept in one file per map and null, so that an interrupted experiment goes on from there.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention.significance import AttentionWarning

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CHUNK = 25  # images of one call of `attend`: its memory, and what an interruption costs
SPIKING, SOFTMAX = ("Vhat_S", "V_S", "gate", "drive"), ("received", "rollout")
NO_GRADIENT = ("gate", "rollout")  # see `attention_map`


@dataclass(frozen=True)
class Tested:
    """One map of some images and its test; the null is that of the images themselves.

    Attributes:
        scores: by the way of scoring: "raw", "how much" (z), where there are two questions "where" (z of the map over
            its mean), and where the map has one "gradient" (raw times the gradient of the predicted class).
        called: tokens with q <= .1 by question.
    """

    scores: dict[str, Floats]
    called: dict[str, Flags]

    def chosen(self, rows: Flags | slice) -> Tested:
        """Of some images."""
        return Tested(
            {name: values[rows] for name, values in self.scores.items()},
            {name: values[rows] for name, values in self.called.items()},
        )


def kinds_of(model: nn.Module) -> tuple[str, ...]:
    return SPIKING if hasattr(model, "time_steps") and model.time_steps else SOFTMAX


def tested(
    model: nn.Module, images: Tensor, kind: str, null: str, replicates: int, file: Path, seed: int = 0
) -> list[Tested]:
    """A map of every block, tested; from `file` where it is there."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial.npz")
        np.savez_compressed(partial, **_measured(model, images, kind, null, replicates, seed))
        os.replace(partial, file)
    with np.load(file) as arrays:
        table = {name: arrays[name] for name in arrays.files}
    if len(table["raw"]) != len(images):
        raise sa.SpikeattnError(
            f"{file} holds {len(table['raw'])} images, and {len(images)} are asked for; delete it, or give --work DIR"
        )
    layers = range(table["raw"].shape[1])
    return [
        Tested(
            {name: values[:, layer] for name, values in table.items() if not name.startswith("called ")},
            {name[7:]: values[:, layer] for name, values in table.items() if name.startswith("called ")},
        )
        for layer in layers
    ]


def _measured(
    model: nn.Module, images: Tensor, kind: str, null: str, replicates: int, seed: int
) -> dict[str, NDArray[np.float32] | Flags]:
    """Arrays [image, layer, h, w]."""
    parts: dict[str, list[Floats]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttentionWarning)
        for start in range(0, len(images), CHUNK):
            some = images[start : start + CHUNK]
            numbers = range(start, start + len(some))
            found = sa.attend(model, some, null, replicates, kind, layer="all", seed=seed, indices=numbers)
            rows = {"raw": found.maps, "how much": found.z, "called how much": found.regularized() > 0}
            if found.where is not None:
                rows |= {"where": found.where.z, "called where": found.where.regularized() > 0}
            if kind not in NO_GRADIENT:
                rows["gradient"] = sa.attention_map(model, some, kind, layer="all", weight="gradient").values.numpy()
            for name, values in rows.items():
                parts.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return {name: values if values.dtype == bool else values.astype(np.float32) for name, values in joined.items()}


def random_scores(shape: tuple[int, ...], seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random(shape)


def centre_scores(shape: tuple[int, ...]) -> Floats:
    """Minus the distance from the middle of the grid, the same for every image."""
    n, h, w = shape
    row, column = np.mgrid[:h, :w]
    distance = np.hypot(row - (h - 1) / 2, (column - (w - 1) / 2) * h / w)
    return np.broadcast_to(-distance, (n, h, w)).copy()
