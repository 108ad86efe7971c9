"""Figures: the same bytes twice, nothing cut off, and the cases at the edges."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from spikeattn.reporting import block_energy, rate_table
from spikeattn.reporting.figures import drawing
from spikeattn.reporting.figures.charts import block_bars, energy_bars, time_lines
from spikeattn.reporting.figures.drawing import to_png, to_svg
from spikeattn.reporting.figures.heatmap import rate_heatmap
from spikeattn.structure.entry import PARTS

HOSTILE = "--><script>alert(1)</script> $x_1^2$ \\frac"


def energies(values: list[float], method: str = "percentile") -> pd.DataFrame:
    total = sum(values)
    table = pd.DataFrame({"part": [*(f"part {i} {HOSTILE}" for i in range(len(values))), "total"]})
    table = table.assign(energy_mj=[*values, total], interval=method)
    table["share"] = table["energy_mj"] / total if total else np.nan
    return table.assign(ci_low=table["energy_mj"] * 0.9, ci_high=table["energy_mj"] * 1.1)


def over_time(steps: int, labelled: bool, n: float = 0.9) -> pd.DataFrame:
    share = n if labelled else np.nan
    frame = pd.DataFrame({"t": range(1, steps + 1), "accuracy": share, "mean_rate": 0.1})
    return frame.assign(accuracy_low=share * 0.9, accuracy_high=share * 1.05, n_labelled=8)


def drawn(profile) -> dict[str, matplotlib.figure.Figure]:
    return {
        "rates": rate_heatmap(rate_table(profile), "UNTRAINED"),
        "parts": energy_bars(profile.energy(), "UNTRAINED"),
        "blocks": block_bars(block_energy(profile), "UNTRAINED"),
        "time": time_lines(profile.over_time(), "UNTRAINED"),
    }


def everything_visible(figure) -> bool:
    """Nothing that is drawn reaches beyond the edge of the figure."""
    box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    width, height = figure.get_size_inches()
    return box.x0 > -0.03 and box.y0 > -0.03 and box.x1 < width + 0.03 and box.y1 < height + 0.03


@pytest.mark.parametrize("case", ["profile", "single", "silent", "foreign"])
def test_figures_are_valid_and_whole(case, request):
    for figure in drawn(request.getfixturevalue(case)).values():
        svg = to_svg(figure)
        ET.fromstring(svg)
        assert "<dc:date>" not in svg and "<script" not in svg and ">UNTRAINED<" in svg
        assert everything_visible(figure)


def test_the_same_numbers_give_the_same_bytes(profile):
    for figure, again in zip(drawn(profile).values(), drawn(profile).values(), strict=True):
        assert to_png(figure, 50).startswith(b"\x89PNG")
        assert to_png(figure, 50) == to_png(again, 50)
        assert to_svg(figure) == to_svg(again)


@pytest.mark.parametrize(("tensors", "steps"), [(1, 1), (45, 10), (100, 16)])
def test_heat_map_of_any_size(rates, tensors, steps):
    figure = rate_heatmap(rate_table(rates(tensors, steps)))
    svg = to_svg(figure)
    assert svg.count("<title>") == tensors * steps and svg.count("neuron") == tensors * (steps + 1)
    assert figure.get_figwidth() <= 14 and everything_visible(figure)
    assert len(svg) < 30_000 + 300 * tensors * steps  # all of it, with the text of every cell


def test_many_blocks_stand_side_by_side():
    parts = ["SPS"] + [f"Block{b}" for b in range(1, 13) for _ in range(2)] + ["Head"]
    tensors = ["Conv1"] + ["V_S", "Q_S"] * 12 + ["FC"]
    table = pd.DataFrame({"part": parts, "module": "", "tensor": tensors, "code": range(len(parts))})
    for t in range(1, 17):
        table[f"T{t}"] = 0.1
    figure = rate_heatmap(table.assign(average=0.1))
    assert len(figure.axes) == 4 and everything_visible(figure)


@pytest.mark.parametrize(
    ("values", "method"),
    [([1.0], "percentile"), ([0.0], "upper bound"), ([1e-9, 2.0], "none"), ([1.0] * 12, "upper bound")],
)
def test_energy_bars_of_any_parts(values, method):
    table = energies(values, method)
    if method == "none":
        table[["ci_low", "ci_high"]] = np.nan
    figure = energy_bars(table)
    svg = to_svg(figure)
    ET.fromstring(svg)
    assert "<script" not in svg and everything_visible(figure)
    if method == "upper bound":
        assert "at most" in svg


def test_a_part_without_a_price_says_so():
    table = energies([1.0, 1.0])
    table.loc[0, ["energy_mj", "ci_low", "ci_high", "share"]] = np.nan
    assert "no price" in to_svg(energy_bars(table))


@pytest.mark.parametrize(("steps", "labelled"), [(1, True), (1, False), (16, True)])
def test_lines_over_time(steps, labelled):
    figure = time_lines(over_time(steps, labelled))
    assert len(figure.axes) == (2 if labelled else 1) and everything_visible(figure)
    to_svg(time_lines(over_time(steps, labelled, n=0.0)))


def test_silent_cells_have_a_colour_of_their_own(silent):
    svg = to_svg(rate_heatmap(rate_table(silent)))
    assert drawing.SILENT in svg and "all silent" in svg


def test_colours_are_those_of_the_part_everywhere():
    assert len({drawing.colour_of(part) for part in PARTS}) == len(PARTS)
    assert drawing.colour_of("QKV", 5) == drawing.colour_of("QKV", 0)


def test_inline_svg_takes_the_colours_of_the_page(profile):
    svg = to_svg(drawn(profile)["rates"])
    inline = drawing.inline(svg, "rates", 'a "map" <of> rates')
    root = ET.fromstring(inline)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) and all(i.startswith("rates-") for i in ids)
    assert root.get("role") == "img" and root.get("aria-label") == 'a "map" <of> rates'
    assert "<metadata" not in inline and "var(--ink)" in inline
    for ink in (*drawing.PAGE_COLOURS, "#10294f"):
        assert ink not in inline


def test_settings_of_matplotlib_stay_as_they_were(profile):
    before = dict(matplotlib.rcParams)
    to_svg(drawn(profile)["time"])
    assert dict(matplotlib.rcParams) == before
