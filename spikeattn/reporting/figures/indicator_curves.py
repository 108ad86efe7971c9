"""The six indicators of attention over the epochs of a training: a figure, and the files of an `IndicatorLog`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spikeattn.attention.indicators import INDICATORS
from spikeattn.reporting.figures.drawing import PALETTE, RULE, WIDTH, figure_style, finish, short, to_png, to_svg
from spikeattn.storage import csv_text, files

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NARROWEST = 0.02  # span of a vertical axis: less than that is rounding, which must not look like a curve
TITLES = {
    "spectral_entropy": "spectral entropy (nats)",
    "effective_rank": "effective rank",
    "spectral_sparsity": "spectral sparsity",
    "alignment": "angular alignment",
    "selectivity": "selectivity",
    "robustness": "perturbation robustness",
}


def save_indicators(frame: pd.DataFrame, folder: str | Path, name: str = "indicators", note: str = "") -> list[Path]:
    """Write name.csv, name.svg and name.png into a folder, made if need be.

    Args:
        frame: of `IndicatorLog.frame`.
        note: a line of warning under the figure.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figure = indicator_figure(frame, note)
    paths = [folder / f"{name}.{kind}" for kind in ("csv", "svg", "png")]
    table = csv_text.write(frame, float_format="%.6g")
    contents: tuple[str | bytes, ...] = (table, to_svg(figure), to_png(figure))
    for path, content in zip(paths, contents, strict=True):
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
            if high - low < NARROWEST:
                axes.set_ylim((low + high - NARROWEST) / 2, (low + high + NARROWEST) / 2)
            axes.grid(axis="y", color=RULE)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in panels[3:]:
            axes.set_xlabel("epoch")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), 4), fontsize=8)
        return finish(figure, note)
