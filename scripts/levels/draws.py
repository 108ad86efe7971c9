"""Maps of a network's images and of their replicates under one null."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import spikeattn as sa
from levels.networks import Network
from levels.questions import Floats
from spikeattn.storage import files

SEED = 1  # of the replicates; the images' own numbers are 0, 1, ...


@dataclass(frozen=True)
class Draw:
    """Scores of every block: of the images [n, layers, m], and of their replicates [n, R, layers, m].

    `unit` is the value of one spike; None of a softmax.
    """

    maps: Floats
    replicates: Floats
    unit: float | None


def draw(network: Network, null: str, replicates: int, folder: Path | None) -> Draw:
    """As many replicates of every image; from a file of `folder`, if there is one of the same settings."""
    name = f"{network.name}-{null}-{len(network.images)}-{replicates}-{SEED}.npz"
    if folder is not None and (folder / name).is_file():
        with np.load(folder / name, allow_pickle=False) as stored:
            return _draw(stored["maps"], stored["null"], float(stored["unit"]) or None)
    found = sa.attend(network.model, network.images, null, replicates, layer="all", seed=SEED, estimator="standardised")
    assert found.null_maps is not None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(content, maps=found.maps, null=found.null_maps, unit=np.array(found.unit or 0.0))
        files.write(folder / name, content.getvalue())
    return _draw(found.maps, found.null_maps, found.unit)


def _draw(maps: Floats, replicates: Floats, unit: float | None) -> Draw:
    """Tokens on one axis."""
    return Draw(maps.reshape(*maps.shape[:2], -1), replicates.reshape(*replicates.shape[:3], -1), unit)
