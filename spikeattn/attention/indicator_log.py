"""The six indicators over the epochs of a training, as a table and a figure."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from spikeattn.attention.indicators import EPS, FLIPS, INDICATORS, NOISE, measure
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.figures.drawing import PALETTE, RULE, WIDTH, figure_style, finish, short, to_png, to_svg
from spikeattn.storage import csv_text, files

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NARROWEST = 0.02  # span of a vertical axis
TITLES = {
    "spectral_entropy": "spectral entropy (nats)",
    "effective_rank": "effective rank",
    "spectral_sparsity": "spectral sparsity",
    "alignment": "angular alignment",
    "selectivity": "selectivity",
    "robustness": "perturbation robustness",
}


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
        self._settings = {"noise": noise, "flips": flips, "eps": eps, "seed": seed}
        self._epochs: dict[int, pd.DataFrame] = {}

    def record(self, model: nn.Module, epoch: int) -> pd.DataFrame:
        """Measure the model and keep the rows under this number of epochs (0: before training).

        Raises:
            SpikeattnError: the epoch has been recorded, or the model has no attention layer that is known.
        """
        if epoch in self._epochs:
            raise SpikeattnError(f"epoch {epoch} is in the log already; give each epoch once, or start another log")
        rows = measure(model, self.images, **self._settings)
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
        """Write name.csv, name.svg and name.png into a folder, made if need be; `note` stands under the figure."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        figure = indicator_figure(self.frame, note)
        paths = [folder / f"{name}.{kind}" for kind in ("csv", "svg", "png")]
        table = csv_text.write(self.frame, float_format="%.6g")
        for path, content in zip(paths, (table, to_svg(figure), to_png(figure)), strict=True):
            files.write(path, content)
        return paths


def indicator_figure(frame: pd.DataFrame, note: str = "") -> Figure:
    """Six panels, one per indicator: epochs across, one line per layer, the mean of its heads, their range shaded.

    Args:
        frame: of `IndicatorLog.frame`.
        note: a line of warning under the figure.
    """
    with figure_style():
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        panels = figure.subplots(2, 3, sharex=True).flatten()
        for axes, name in zip(panels, INDICATORS, strict=True):
            for i, (layer, rows) in enumerate(frame.groupby("layer", sort=False)):
                heads = rows.groupby("epoch")[name].agg(["mean", "min", "max"])
                colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
                axes.fill_between(heads.index, heads["min"], heads["max"], color=colour, alpha=0.18, linewidth=0)
                axes.plot(
                    heads.index, heads["mean"], color=colour, marker=marker, markersize=3.5, linewidth=1.4,
                    label=short(layer),
                )  # fmt: skip
            axes.set_title(TITLES[name])
            axes.ticklabel_format(axis="y", useOffset=False)
            low, high = axes.get_ylim()
            if high - low < NARROWEST:  # rounding must not look like a curve
                axes.set_ylim((low + high - NARROWEST) / 2, (low + high + NARROWEST) / 2)
            axes.grid(axis="y", color=RULE)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in panels[3:]:
            axes.set_xlabel("epoch")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), 4), fontsize=8)
        return finish(figure, note)
