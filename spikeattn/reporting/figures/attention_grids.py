"""Where attention comes from and whether networks agree: maps over layers and time steps, and how far two are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

from spikeattn.boundary.number_format import percent
from spikeattn.reporting.figures.attention_drawing import (
    COLUMN,
    MAPS,
    Floats,
    Seen,
    colour_bar,
    draw_map,
    heading,
    outline,
    scale_of,
    wrapped,
)
from spikeattn.reporting.figures.drawing import WIDTH, figure_style, finish, set_layout

Tokens = tuple[Floats, NDArray[np.bool_]]

LARGEST = 0.85  # inches of one map


def layer_grid(
    seen: Seen,
    maps: Floats,
    rows: Sequence[str],
    columns: Sequence[str],
    significant: Mapping[tuple[int, int], NDArray[np.bool_]] | None = None,
    note: str = "",
) -> Figure:
    """The maps of one image over layers (rows) and time steps or heads (columns), on one colour scale.

    Where there are more layers than columns the page is turned: layers are the columns.

    Args:
        seen: the image and what its scores are.
        maps: scores [row, column, h, w].
        rows: names of the layers.
        columns: names of the steps or heads.
        significant: tokens [h, w] to outline, by (row, column), where a map was assessed.
        note: a line of warning under the figure.
    """
    outlines = dict(significant or {})
    if len(rows) > len(columns):
        maps, rows, columns = maps.swapaxes(0, 1), columns, rows
        outlines = {(column, row): mask for (row, column), mask in outlines.items()}
    with figure_style():
        n, m = maps.shape[:2]
        side = min(LARGEST, (WIDTH - 1.3) / m)
        tall = side * seen.picture.shape[0] / seen.picture.shape[1]
        width = max(COLUMN, m * side + 1.3)
        figure = Figure(figsize=(width, n * (tall + 0.05) + 0.85), layout="constrained")
        set_layout(figure, w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        grid = figure.add_gridspec(n, m + 1, width_ratios=[side] * m + [0.09])
        outlined = f"; outlined: more attention than noise gets, {seen.rule}" if outlines else ""
        heading(figure, seen.name, wrapped(f"{seen.model}: {seen.details}{outlined}", width, 7))
        linear = scale_of(maps)
        scale = PowerNorm(0.5, linear.vmin, linear.vmax)  # layers differ by orders of magnitude
        for row in range(n):
            for column in range(m):
                axes = figure.add_subplot(grid[row, column])
                draw_map(axes, maps[row, column], scale, columns[column] if row == 0 else "", seen)
                if column == 0:
                    axes.set_ylabel(rows[row], fontsize=8, labelpad=3)
                if (row, column) in outlines:
                    outline(axes, outlines[row, column], seen, side)
        bar = figure.add_subplot(grid[max(0, (n - 3) // 2) : max(1, (n + 4) // 2), m])
        colour_bar(
            figure, bar, scale, f"{seen.score}, root scale", MAPS, max(16, int(20 * min(n, 6) * tall)), vertical=True
        )
        return finish(figure, wrapped(note, width, 8))


def agreement(first: Tokens, second: Tokens) -> dict[str, float]:
    """How far two networks attend to the same places, on the coarsest grid that holds both of theirs.

    Args:
        first, second: map [h, w], NaN where it has no token, and its significant tokens [h, w] of each.

    Returns:
        rank_correlation (Spearman's, of the maps where both have tokens; NaN where one is constant there), both, either
        (shares of the image that are significant) and jaccard (both / either; NaN where nothing is).
    """
    size = tuple(int(np.lcm(a, b)) for a, b in zip(first[0].shape, second[0].shape, strict=True))
    maps = [_spread(each[0], size) for each in (first, second)]
    one, other = (_spread(each[1], size) for each in (first, second))
    shared = ~np.isnan(maps[0]) & ~np.isnan(maps[1])
    maps = [each[shared] for each in maps]
    constant = any(each.size < 2 or np.ptp(each) == 0 for each in maps)
    both, either = float((one & other).mean()), float((one | other).mean())
    return {
        "rank_correlation": float("nan") if constant else float(spearmanr(maps[0], maps[1]).statistic),
        "both": both,
        "either": either,
        "jaccard": both / either if either else float("nan"),
    }


def agreement_text(found: Mapping[str, float]) -> str:
    """`agreement` in a line."""
    rank = found["rank_correlation"]
    correlated = "a map is constant" if np.isnan(rank) else f"rank correlation of the maps {rank:.2f}".replace("-", "−")
    overlap = f"significant to both {percent(found['both'], 0)} of the image, to either {percent(found['either'], 0)}"
    return f"{correlated}; {overlap}"


def _spread(values: NDArray, size: Sequence[int]) -> NDArray:
    return values.repeat(size[0] // values.shape[0], 0).repeat(size[1] // values.shape[1], 1)
