"""What a cell shows of every result: the page's style inside one class, numbers of the result, text of one screen."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

import spikeattn as sa
from spikeattn.attention.bootstrap_test import Attention
from spikeattn.boundary.number_format import percent, rate
from spikeattn.energy.published_list import PublishedRows, apart_of
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.notebook import fragment
from spikeattn.runs.five_numbers import SCREEN
from spikeattn.spurious import SpuriousEnergy
from spikeattn.stats.intervals import Interval

from .conftest import KINDS

LINES = 24  # of a terminal that nobody has made larger
HOSTILE = '<script>alert("x")</script>'


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_fits_one_screen(results, kind) -> None:
    lines = repr(results[kind]).splitlines()
    assert lines[0].startswith("<") and len(lines) <= LINES and max(map(len, lines)) <= SCREEN


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_one_element_with_a_style_of_its_own_class(results, kind) -> None:
    html = results[kind]._repr_html_()  # type: ignore[attr-defined]
    root = element(html)
    assert root.tag == "div" and root.attrib["class"] == "spikeattn"
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style.strip() == fragment.style()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) and all(each.startswith("sa-") for each in ids)  # other cells have others
    assert "<script" not in html


def element(html: str) -> ET.Element:
    """A cell as XML, without its style, which holds signs that XML has not."""
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    html = re.sub(r"<(img|wbr)([^>]*)>", r"<\1\2/>", html)
    return ET.fromstring(html.replace("&nbsp;", " ").replace("xlink:", ""))


def words(result: object) -> str:
    """What a cell says."""
    return " ".join(" ".join(element(result._repr_html_()).itertext()).split())  # type: ignore[attr-defined]


def test_a_profile_shows_its_five_numbers(results) -> None:
    profile = results["profile"]
    assert isinstance(profile, sa.Profile)
    numbers, said, text = profile.summary(), words(profile), repr(profile)
    for value in (percent(numbers["accuracy"]), rate(numbers["mean_rate"])):
        assert value in said and value in text
    assert str(profile.energy().total) in text
    assert all(f"{part} {percent(share)}" in said for part, share in _shares(profile))
    assert all(f"{percent(share):>7}" in text for _, share in _shares(profile))


def _shares(profile: sa.Profile) -> list[tuple[str, float]]:
    energy = profile.energy()
    return [(row["part"], row["share"]) for row in energy.to_dict("records") if row["part"] != "total"]


def test_untrained_weights_are_said_and_names_are_escaped() -> None:
    model = sa.create_model("sdt_digits")
    profile = sa.profile(model, [torch.rand(1, 1, 16, 16)])
    assert "UNTRAINED" in words(profile) and repr(profile).startswith("<Profile of sdt_digits, UNTRAINED: 1 images")
    profile.ledger.model["name"] = HOSTILE  # type: ignore[index]
    assert "<script" not in profile._repr_html_() and HOSTILE in words(profile)
    assert "UNTRAINED" in profile.plot().get_title("left")


def test_an_attention_shows_its_shares_and_its_first_images(results) -> None:
    attention = results["attention"]
    assert isinstance(attention, Attention)
    share, html = float((attention.q <= 0.1).mean()), attention._repr_html_()
    above = float(((attention.q <= 0.1) & (attention.z > 0)).mean())
    assert above <= share and percent(above) in words(attention) and percent(above) in repr(attention)
    assert html.count("data:image/png;base64,") == 3 and "1 more" in words(attention)
    assert "block 1: " in repr(attention) and "block 2: " in repr(attention)


@pytest.mark.filterwarnings("ignore")
def test_an_attention_without_q_says_so_and_can_be_looked_at() -> None:
    model = sa.create_model("sdt_digits", pretrained=True)
    images = torch.rand(2, 1, 16, 16)
    found = sa.attend(model, images, replicates=5, estimator="per-token")
    with pytest.raises(SpikeattnError):
        _ = found.q
    assert "not known" in repr(found) and "data:image" not in found._repr_html_()
    assert found.visualize(0, outline=False).images


def test_a_spurious_energy_shows_every_specification(results) -> None:
    spurious = results["spurious"]
    assert isinstance(spurious, SpuriousEnergy)
    said = words(spurious)
    assert percent(spurious.total.value) in said and f"{percent(spurious.range[0])} to" in said
    told = re.findall(r"<title>([^<]*)</title>", spurious._repr_html_())
    assert len(told) == len(spurious.specifications)


def test_published_figures_are_a_list_that_counts_what_agrees(results) -> None:
    rows = results["published"]
    assert isinstance(rows, PublishedRows) and isinstance(rows, list)
    table = rows.by_paper()
    assert table["same_digits"].sum() == sum(bool(row.same_digits) for row in rows)
    assert table["ours"].sum() == sum(row.residual is not None for row in rows)
    said = words(rows)
    assert len(rows.frame()) == len(rows) and all(row.model in said and row.source in said for row in rows)
    farthest = max(abs(apart) for row in rows if (apart := apart_of(row)) is not None)
    assert np.nanmax(np.abs(table["farthest"])) == farthest
    empty = PublishedRows()
    assert repr(empty) == "<0 published figures>" and "0" in words(empty)


@pytest.mark.parametrize("found, text", [
    (Interval(0.25, 0.2, 0.35, "percentile"), "<0.250 [0.200, 0.350]: 95 %, percentile>"),
    (Interval(0.2, 0.0, 0.5, "upper bound"), "<0.200 ≤ 0.500: 95 %, upper bound>"),
    (Interval(1.5, float("nan"), float("nan"), "none"), "<1.500: none>"),
])  # fmt: skip
def test_intervals_in_text(found, text) -> None:
    assert repr(found) == text and str(found) in words(found)


def test_equal_figures_have_equal_names_and_others_do_not(results) -> None:
    spurious, published = results["spurious"], results["published"]
    assert spurious._repr_html_() == spurious._repr_html_()  # type: ignore[attr-defined]
    names = [set(re.findall(r"sa-[0-9a-f]{8}", each._repr_html_())) for each in (spurious, published)]  # type: ignore[attr-defined]
    assert all(names) and not names[0] & names[1]


def test_the_style_is_the_pages_own_and_touches_nothing_else() -> None:
    style = fragment.style()
    assert ":root" not in style and "@media print" not in style and ".card .value" in style
    assert style.count("{") == style.count("}") and style.startswith(".spikeattn.spikeattn {")
    assert style.count("--ink: #e6ebf0") == 2  # where the notebook is dark, and where only the system is


def test_a_page_whose_dark_colours_have_moved_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr(fragment, "_DARK", re.compile("nothing like it"))
    fragment.style.cache_clear()
    with pytest.raises(SpikeattnError, match="no dark colours"):
        fragment.style()
    fragment.style.cache_clear()


def test_a_report_says_where_its_page_is(results, tmp_path) -> None:
    report = sa.report(results["profile"], results["attention"], tmp_path / "r")
    lines = repr(report).splitlines()
    assert lines[0].startswith("<Report of sdt_digits: the page and ") and lines[1] == str(report.page)
    assert max(map(len, [lines[0], *lines[2:]])) <= SCREEN and len(lines) <= LINES
    assert report._repr_html_().startswith("<iframe srcdoc=")
    page = report.page.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 4  # tiles of the images that the attention holds
