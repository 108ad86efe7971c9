"""The six indicators over the epochs of a training, as a table; `reporting.figures.indicator_curves` draws it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from spikeattn.attention.indicators import EPS, FLIPS, NOISE, measure
from spikeattn.compat.moved import moved_name
from spikeattn.errors import SpikeattnError


class IndicatorLog:
    """Indicators of a model after each epoch, always on the same images with the same perturbations.

    Args:
        images: the batch they are measured on; keep it small, every map of it is formed.
        noise, flips, eps, seed: see `indicators.measure`.
    """

    def __init__(
        self, images: Tensor, *, noise: float = NOISE, flips: float = FLIPS, eps: float = EPS, seed: int = 0
    ) -> None:
        self.images = images
        self._measure = partial(measure, noise=noise, flips=flips, eps=eps, seed=seed)
        self._epochs: dict[int, pd.DataFrame] = {}

    def record(self, model: nn.Module, epoch: int) -> pd.DataFrame:
        """Measure the model and keep the rows under this number of epochs (0: before training).

        Raises:
            SpikeattnError: the epoch has been recorded, or the model has no attention layer that is known.
        """
        if epoch in self._epochs:
            raise SpikeattnError(f"epoch {epoch} is in the log already; give each epoch once, or start another log")
        rows = self._measure(model, self.images)
        rows.insert(0, "epoch", epoch)
        self._epochs[epoch] = rows
        return rows

    @property
    def frame(self) -> pd.DataFrame:
        """One row per epoch, layer and head; columns as of `indicators.measure`, epoch in front."""
        if not self._epochs:
            raise SpikeattnError("the log is empty; call record(model, epoch) first")
        return pd.concat([self._epochs[epoch] for epoch in sorted(self._epochs)], ignore_index=True)

    def save(self, folder: str | Path, name: str = "indicators", note: str = "") -> list[Path]:
        """Deprecated: `spikeattn.reporting.figures.indicator_curves.save_indicators(log.frame, folder)` does it."""
        return moved_name(__name__, "IndicatorLog.save")(self.frame, folder, name, note)


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
