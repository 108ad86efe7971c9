"""What a notebook shows: figures beside their convention and costs, every name escaped, no dump of arrays."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

import spikeattn as sa
from spikeattn.energy import energy_from_rates

from .conftest import HOSTILE


def text_of(html: str) -> str:
    """The text of a well-formed piece of HTML."""
    return " ".join(ET.fromstring(f"<div>{html}</div>".replace("&nbsp;", " ")).itertext())


def test_an_energy_table_says_its_convention_costs_and_notes(profile):
    energy = profile.energy(convention="sdt-paper")
    text = text_of(energy._repr_html_())
    assert "Convention sdt-paper, costs horowitz-45nm-fp32, T = 4, 24 images." in text and "arithmetic only" in text
    assert all(note in text for note in energy.notes) and "MLP1" in text
    assert "Convention" not in energy.head(2)._repr_html_()  # a slice has no total of its own


def test_a_published_table_has_no_images_to_name():
    assert "T = 4." in text_of(energy_from_rates("table_s1_sdt_8_512", "sdt_8_512")._repr_html_())


def test_a_comparison_is_said_in_words(profile):
    found = sa.compare(profile)
    text = text_of(found._repr_html_())
    assert all(sentence in text for sentence in found.sentences) and "break_even" in text
    assert repr(found).startswith("<Comparison of sdt_digits with ann_digits: ") and len(repr(found)) < 150


def test_names_are_escaped(foreign):
    for shown in (foreign.energy(), foreign.operations()):
        html = shown._repr_html_()
        assert "<script>" not in html
    assert HOSTILE in text_of(foreign.operations().to_html())


@pytest.mark.filterwarnings("ignore")
def test_an_attention_is_no_dump_of_arrays():
    model = sa.create_model("sdt_digits", pretrained=True)
    images = next(iter(sa.make_loader(sa.open_dataset("digits", model), batch_size=2, limit=2))).images
    attention = sa.attend(model, images, replicates=5)
    lines = repr(attention).splitlines()
    assert lines[0] == "<Attention of sdt_digits: maps image 2, row 8, column 8>" and len(lines) <= 24
    assert "normal, B = 5; standardised p" in lines[2] and max(map(len, lines)) <= 80
