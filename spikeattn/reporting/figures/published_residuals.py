"""How far computed figures are from printed ones, paper by paper."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator, SymmetricalLogLocator

from spikeattn.energy.published_list import CLOSE, apart_of, paper_of, relative
from spikeattn.energy.published_rows import Row
from spikeattn.reporting.figures.drawing import MUTED, PALETTE, RULE, figure_style
from spikeattn.reporting.figures.tips import tips

SPREAD = 0.5  # of a row, over which its points are spread so that they do not hide each other


def draw_residuals(axes: Axes, rows: Sequence[Row]) -> None:
    """A row per paper, a point per figure: the residual in parts of the printed figure, linear within 1 % of it."""
    with figure_style():
        axes.set_xscale("symlog", linthresh=CLOSE, linscale=1.2)
        papers = [paper for paper in dict.fromkeys(map(paper_of, rows)) if _of(rows, paper)]
        axes.axvspan(-CLOSE, CLOSE, color=RULE, alpha=0.5, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        for place, paper in enumerate(papers):
            found = _of(rows, paper)
            for same, marker in ((True, "o"), (False, "D")):
                chosen = [pair for pair in found if bool(pair[0].same_digits) is same]
                if not chosen:
                    continue
                where = [place + SPREAD * ((number + 0.5) / len(found) - 0.5) for number in range(len(chosen))]
                points = axes.scatter(
                    [apart for _, apart in chosen], where, s=18, marker=marker, linewidths=1, zorder=3, clip_on=False,
                    facecolors=PALETTE[3] if same else "none", edgecolors=PALETTE[3] if same else PALETTE[4],
                )  # fmt: skip
                tips(points, [f"{row.model}, {row.quantity}, {row.convention}: {relative(x)}" for row, x in chosen])
        axes.scatter([], [], s=18, color=PALETTE[3], label="the printed digits")
        axes.scatter([], [], s=18, marker="D", facecolors="none", edgecolors=PALETTE[4], label="others")
        most = max((abs(apart) for row in rows if (apart := apart_of(row)) is not None), default=CLOSE)
        axes.set_xlim(-2 * max(most, CLOSE), 2 * max(most, CLOSE))
        axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=CLOSE))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:+g} %" if value else "0"))
        axes.tick_params(axis="x", labelsize=8)
        axes.set_yticks(range(len(papers)), papers, fontsize=8)
        axes.set_ylim(len(papers) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("(computed − printed) / printed; linear within 1 %")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, borderaxespad=0.2, handletextpad=0.2)


def _of(rows: Sequence[Row], paper: str) -> list[tuple[Row, float]]:
    """The figures of a paper that both sides have, with their residuals."""
    return [(row, apart) for row in rows if paper_of(row) == paper and (apart := apart_of(row)) is not None]
