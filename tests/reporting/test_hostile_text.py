"""Names with control characters and marks of direction, in a figure and on the page."""

from __future__ import annotations

import xml.dom.minidom

import jinja2
import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from spikeattn.reporting.figures.drawing import to_svg
from spikeattn.reporting.page import report_page

NAME = "a\x1b\x07\x85\x9b\u202e\u2028<b>"
SHOWN = r"a\x1b\x07\x85\x9b\u202e\u2028&lt;b&gt;"


@pytest.mark.filterwarnings("ignore:Glyph")  # that the font has no picture of a control character
def test_a_figure_is_xml_all_the_same() -> None:
    figure = Figure()
    figure.subplots().set_title(NAME)
    svg = to_svg(figure)
    xml.dom.minidom.parseString(svg.encode())
    assert SHOWN in svg


def test_a_page_shows_them_and_leaves_its_own_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{{ name }}|{{ name|breakable }}|{{ name|listed }}|{{ name|paper }}|{{ own }}|{{ name|tojson }}"
    monkeypatch.setattr(jinja2, "PackageLoader", lambda *_: jinja2.DictLoader({"report.html.j2": text}))
    *shown, own, data = report_page.render({"name": NAME, "own": Markup("<i>\n</i>")}).split("|")
    assert shown[:3] == [SHOWN] * 3 and "&lt;b&gt;" in shown[3]
    assert own == "<i>\n</i>" and data.startswith('"a')
    assert not any(letter in cell for cell in shown for letter in NAME[1:7])
