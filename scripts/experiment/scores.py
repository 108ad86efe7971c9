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

from . import gradients

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CHUNK = 25  # images of one call of `attend`: its memory, and what an interruption costs
SPIKING, SOFTMAX = ("Vhat_S", "V_S", "gate", "drive"), ("received", "rollout")
CALLED, LARGEST = "called ", "null largest"  # arrays of the files
NO_GRADIENT = ("gate", "rollout")  # see `attention_map`


@dataclass(frozen=True)
class Tested:
    """One map of some images and its test; the null is that of the images themselves.

    Attributes:
        scores: by the way of scoring: "raw", "how much" (z), where there are two questions "where" (z of the map over
            its mean), and where the map has one "gradient" (raw times the gradient of the predicted class).
        called: tokens with q <= .1 by question.
        null_largest: highest raw score of every replicate, [image, replicate].
    """

    scores: dict[str, Floats]
    called: dict[str, Flags]
    null_largest: Floats

    def chosen(self, rows: Flags | slice) -> Tested:
        """Of some images."""
        return Tested(
            {name: values[rows] for name, values in self.scores.items()},
            {name: values[rows] for name, values in self.called.items()},
            self.null_largest[rows],
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
    return [_of_layer(table, layer) for layer in range(table["raw"].shape[1])]


def _of_layer(table: dict[str, NDArray[np.float32] | Flags], layer: int) -> Tested:
    values = {name: array[:, layer] for name, array in table.items()}
    largest = values.pop(LARGEST)
    called = {name.removeprefix(CALLED): array for name, array in values.items() if name.startswith(CALLED)}
    return Tested({name: array for name, array in values.items() if not name.startswith(CALLED)}, called, largest)


def _measured(
    model: nn.Module, images: Tensor, kind: str, null: str, replicates: int, seed: int
) -> dict[str, NDArray[np.float32] | Flags]:
    """Arrays [image, layer, h, w]; of the replicates [image, layer, replicate]."""
    parts: dict[str, list[Floats]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttentionWarning)
        for start in range(0, len(images), CHUNK):
            some = images[start : start + CHUNK]
            numbers = range(start, start + len(some))
            found = sa.attend(model, some, null, replicates, kind, layer="all", seed=seed, indices=numbers)
            assert found.null_maps is not None
            rows = {"raw": found.maps, LARGEST: found.null_maps.max((-2, -1)).swapaxes(1, 2)}
            for question, answer in {"how much": found, "where": found.where}.items():
                if answer is not None:
                    rows |= {question: answer.z, f"{CALLED}{question}": answer.regularized() > 0}
            if kind == "received":
                rows["gradient"] = gradients.received(model, some).numpy()
            elif kind not in NO_GRADIENT:
                rows["gradient"] = sa.attention_map(model, some, kind, layer="all", weight="gradient").values.numpy()
            for name, values in rows.items():
                parts.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return {name: values if values.dtype == bool else values.astype(np.float32) for name, values in joined.items()}


def random_scores(shape: tuple[int, ...], seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random(shape)


def centre_scores(shape: tuple[int, ...]) -> Floats:
    """How much nearer than the corner a token is to the middle of the grid, the same for every image."""
    n, h, w = shape
    row, column = np.mgrid[:h, :w]
    distance = np.hypot(row - (h - 1) / 2, (column - (w - 1) / 2) * h / w)
    return np.broadcast_to(distance.max() - distance, (n, h, w)).copy()
