"""How energy and synaptic operations differ from image to image: histograms, and a row of images for every class."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from spikeattn.boundary.number_format import count_unit, energy_unit, significant
from spikeattn.reporting.figures.drawing import INK, MUTED, PALETTE, WIDTH, figure_style, finish, set_layout
from spikeattn.reporting.figures.tips import tip
from spikeattn.reporting.tables.image_tables import classes_shown

MOST_DOTS = 100  # of a class: more make the page heavy; a line from the 5th to the 95th percentile stands for them
MOST_BINS = 40  # more are thinner than their outline at half the width of a page
SAME = 1e-9  # of the largest: images closer than that differ by the rounding of sums alone


def image_histograms(images: pd.DataFrame, note: str = "") -> Figure:
    """Histograms of energy and of SOPs per image; below them, where images have labels, every image by its class.

    The line is the mean. A box holds the middle half of a class, its bar is the median, a dot is an image; in classes
    of more than 100 images a line from the 5th to the 95th percentile stands for the dots. Of more than 20 classes
    those of the lowest and of the highest means are shown, ten each.

    Args:
        images: of `image_table`.
        note: a line of warning under the figure.
    """
    with figure_style():
        labels, n_classes = classes_shown(images)
        rows = 2 if labels else 1
        below = 0.6 + 0.2 * len(labels)
        figure = Figure(figsize=(WIDTH, 2.3 + (below if labels else 0)), layout="constrained")
        panels = figure.subplots(rows, 2, squeeze=False, height_ratios=[2.0, below][:rows])
        set_layout(figure, h_pad=0.08, w_pad=0.08)
        sides = (
            ("Energy per image", "energy_mj", energy_unit([images["energy_mj"].mean()]), PALETTE[0]),
            ("SOPs per image", "sops", count_unit([images["sops"].mean()]), PALETTE[3]),
        )
        for column, (title, key, (unit, factor), colour) in enumerate(sides):
            values = images[key].to_numpy(float) / factor
            axes = panels[0, column]
            _histogram(axes, values, unit, colour)
            axes.set_title(title)
            if column == 0:
                axes.set_ylabel("Images")
            last = axes
            if labels:
                last = panels[1, column]
                _by_class(last, images, values, labels, n_classes, unit, colour)
                last.sharex(axes)
                if column:
                    last.tick_params(labelleft=False)
                else:
                    shown = f" ({len(labels)} of {n_classes}: lowest and highest)" if len(labels) < n_classes else ""
                    last.set_ylabel(f"Class{shown}")
            last.set_xlabel(f"{title} ({unit})" if unit else title)
        return finish(figure, note)


def _histogram(axes: Axes, values: NDArray[np.float64], unit: str, colour: str) -> None:
    edges = _edges(values)
    heights, _ = np.histogram(values, edges)
    bars = axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=colour, edgecolor="white", linewidth=0.5)
    for bar, low, high, height in zip(bars, edges[:-1], edges[1:], heights, strict=True):
        images = "1 image" if height == 1 else f"{height} images"
        tip(bar, f"{significant(low)} to {significant(high)} {unit}: {images}".replace(" :", ":"))
    mean = float(values.mean())
    axes.axvline(mean, color=INK, linewidth=1.2)
    right = mean > (edges[0] + edges[-1]) / 2
    said = f"mean {significant(mean)} {unit}".strip()
    axes.annotate(
        said, (mean, 1), (-4 if right else 4, -1), xycoords=("data", "axes fraction"), textcoords="offset points",
        ha="right" if right else "left", va="top", fontsize=8, color=INK,
    )  # fmt: skip
    axes.set_ylim(0, heights.max() * 1.25)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.grid(axis="y")


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of the bins: those of numpy's "auto" (Sturges, or Freedman and Diaconis where finer), 40 bins at most.

    Images that are all alike share one bin around their value.
    """
    low, high = float(values.min()), float(values.max())
    if high - low <= SAME * max(abs(high), abs(low)):
        half = 0.05 * abs(high) or 0.5
        return np.array([high - half, high + half])
    edges = np.histogram_bin_edges(values, "auto")
    return edges if len(edges) <= MOST_BINS + 1 else np.linspace(low, high, MOST_BINS + 1)


def _by_class(
    axes: Axes,
    images: pd.DataFrame,
    values: NDArray[np.float64],
    labels: list[int],
    n_classes: int,
    unit: str,
    colour: str,
) -> None:
    known = images["label"].fillna(-1).to_numpy(int)
    rng = np.random.default_rng(0)  # of the heights of dots, which mean nothing
    for place, label in enumerate(labels):
        own = values[known == label]
        low, middle, high = np.percentile(own, (25, 50, 75))
        if len(own) <= MOST_DOTS:
            heights = place + rng.uniform(-0.3, 0.3, len(own))
            axes.scatter(own, heights, s=6, color=colour, alpha=0.6, linewidths=0, zorder=2)
        else:
            axes.plot(np.percentile(own, (5, 95)), [place, place], color=colour, linewidth=2, zorder=2)
        box = Rectangle((low, place - 0.32), high - low, 0.64, facecolor="none", edgecolor=MUTED, linewidth=1, zorder=3)
        axes.add_patch(box)
        bar = axes.plot([middle, middle], [place - 0.32, place + 0.32], color=INK, linewidth=1.8, zorder=4)[0]
        told = f"{len(own)} image{'s' if len(own) > 1 else ''}"
        tip(bar, f"class {label}, {told}: median {significant(middle)} {unit}".strip())
    axes.set_yticks(range(len(labels)), [str(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(axis="x")
    if len(labels) < n_classes:
        axes.axhline(len(labels) / 2 - 0.5, color=INK, linewidth=0.8, linestyle=":")
