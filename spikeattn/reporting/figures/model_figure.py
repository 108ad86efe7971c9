"""The figure of energy models side by side: how far the answer depends on the model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from spikeattn.boundary.number_format import joules, known
from spikeattn.reporting.figures.drawing import INK, MUTED, PALETTE, WIDTH, figure_style, finish, short
from spikeattn.reporting.figures.tips import tips

_SIDES = {"SNN": ("spiking network", "o", PALETTE[0], PALETTE[0]), "ANN": ("ANN beside it", "s", "none", INK)}


def model_figure(table: pd.DataFrame, note: str = "") -> Figure:
    """Energy per image on a logarithmic axis, a row per model: the spiking network with its interval, and the ANN.

    Models that are no energy have no place on the axis and stand in the table alone.

    Args:
        table: of `spikeattn.energy.by_model`.
        note: a line of warning under the figure, e.g. that the weights are random.
    """
    with figure_style():
        energies = table[(table["unit"] == "mJ") & (table["value"] > 0)]
        models = list(dict.fromkeys(energies["model"]))
        figure = Figure(figsize=(WIDTH, 1.2 + 0.27 * max(len(models), 1)), layout="constrained")
        axes = figure.subplots()
        for side, (_, marker, face, edge) in _SIDES.items():
            rows = energies[energies["side"] == side]
            places = np.array([models.index(model) for model in rows["model"]], dtype=float)
            values = rows["value"].to_numpy(float)
            known_limits = rows["ci_low"].notna() & (rows["ci_low"] > 0)
            for place, low, high in zip(
                places[known_limits], rows["ci_low"][known_limits], rows["ci_high"][known_limits], strict=True
            ):
                axes.plot([low, high], [place, place], color=edge, linewidth=1.6, solid_capstyle="butt")
            points = axes.scatter(
                values, places, s=30, marker=marker, facecolors=face, edgecolors=edge, linewidths=1.2, zorder=3
            )
            tips(points, [_told(row) for row in rows.to_dict("records")])
            # text of the spiking network on the left and of the ANN on the right, so that none meets the other's point
            offset, align = ((-7, 0), "right") if side == "SNN" else ((7, 0), "left")
            ends = rows["ci_low"].where(known_limits, rows["value"]) if side == "SNN" else rows["value"]
            for place, value, end in zip(places, values, ends, strict=True):
                axes.annotate(
                    joules(value), (end, place), offset, textcoords="offset points", va="center", ha=align,
                    fontsize=7.5, color=MUTED,
                )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yticks(range(len(models)), [short(model) for model in models])
        axes.set_ylim(max(len(models), 1) - 0.45, -0.55)
        low, high = energies[["value", "ci_low"]].where(lambda each: each > 0).min().min(), energies["value"].max()
        if known(low):
            axes.set_xlim(low / 8, high * 8)  # room for the text beside the outer points
        axes.xaxis.set_major_locator(LogLocator(base=10, numticks=12))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: joules(value, 1)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("Energy per image, logarithmic")
        handles = [
            Line2D([], [], linestyle="none", marker=marker, markerfacecolor=face, markeredgecolor=edge, label=label)
            for side, (label, marker, face, edge) in _SIDES.items()
            if (energies["side"] == side).any()
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=8, handletextpad=0.3)
        return finish(figure, note)


def _told(row: dict) -> str:
    limits = f" [{joules(row['ci_low'])}, {joules(row['ci_high'])}]" if known(row["ci_low"]) else ""
    return f"{row['model']}, {_SIDES[row['side']][0]}: {joules(row['value'])}{limits if row['side'] == 'SNN' else ''}"
