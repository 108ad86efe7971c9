"""Values that figures tell: every mark its own text, escaped, and nothing else changed."""

from __future__ import annotations

import xml.dom.minidom

from matplotlib.figure import Figure

from spikeattn.boundary.number_format import rate
from spikeattn.reporting.figures.charts import energy_bars
from spikeattn.reporting.figures.drawing import figure_style, inline, to_svg
from spikeattn.reporting.figures.heatmap import rate_heatmap
from spikeattn.reporting.figures.tips import tip, tips
from spikeattn.reporting.tables.run_tables import rate_table
from spikeattn.reporting.tables.sheets import sheet_of

from .conftest import HOSTILE


def titles(svg: str) -> list[tuple[str, str]]:
    found = xml.dom.minidom.parseString(svg).getElementsByTagName("title")
    return [(each.parentNode.getAttribute("class"), each.firstChild.data) for each in found]


def test_marks_carry_their_texts_in_order():
    with figure_style():
        figure = Figure()
        axes = figure.subplots()
        for bar, text in zip(axes.barh([0, 1], [1, 2]), ("one", HOSTILE), strict=True):
            tip(bar, text)
        tips(axes.scatter([0, 1, 2], [0, 1, 2]), ["a|b", "c", "d"])
    found = titles(to_svg(figure))
    assert sorted(found) == sorted(("mark", text) for text in ("one", HOSTILE, "a/b", "c", "d"))
    assert [text for _, text in found if text in ("a/b", "c", "d")] == ["a/b", "c", "d"]
    assert "<script>" not in inline(to_svg(figure), "x", "a figure")


def test_bars_tell_their_energy(profile):
    energy = profile.energy()
    said = [text for _, text in titles(to_svg(energy_bars(energy)))]
    sheet = sheet_of(energy)  # unit and digits are those of the table beside it
    titled = [column.title for column in sheet.columns]
    place = next(i for i, title in enumerate(titled) if title.startswith("Energy ("))
    unit = titled[place].removeprefix("Energy (").removesuffix(")")
    assert len(said) == len(sheet.rows) - 1
    for text, row in zip(said, sheet.rows, strict=False):
        value, limits = row[place].text, row[place + 1].text
        assert text.startswith(f"{row[0].text}: {value} {unit}") and limits.replace("≤", "at most") in text


def test_every_cell_of_the_heat_map_tells_its_rate(profile):
    table = rate_table(profile)
    spikes = table[table["part"] != "Input"].set_index(["part", "tensor"])
    said = dict(text.rsplit(": ", 1) for _, text in titles(to_svg(rate_heatmap(table))))
    assert len(said) == len(spikes) * profile.time_steps
    assert said["SPS Conv1, T2"] == rate(spikes.loc[("SPS", "Conv1"), "T2"])
    assert said["Vₛ, Block2 T4"] == rate(spikes.loc[("Block2", "V_S"), "T4"])
