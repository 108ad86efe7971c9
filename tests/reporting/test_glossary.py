"""Words that the page explains: the first of each in a text, none inside a name, and nothing is smuggled in."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from spikeattn.reporting.page.glossary import TERMS, glossed, listed

from .conftest import HOSTILE


def words_of(text: str) -> list[str]:
    return re.findall(r"<abbr[^>]*>(.*?)</abbr>", glossed(text))


@pytest.mark.parametrize(
    ("text", "explained"),
    [
        ("SOPs and SOPs again, and MACs", ["SOPs", "MACs"]),
        ("Convention exact", ["Convention", "exact"]),
        ("a rate weighted by operations, a break-even rate", ["rate weighted by operations", "break-even"]),
        ("block.0.attn.sdsa_out, SPS-2, SDSA_out, exactly", []),
        ("a sop or a mac", []),
        ("The ANN twin.", ["ANN twin"]),
    ],
)
def test_the_first_of_each_word_is_explained(text, explained):
    assert words_of(text) == explained
    assert Markup(glossed(text)).striptags() == text


def test_what_it_says_is_escaped_and_the_keyboard_reaches_it():
    found = glossed(f"{HOSTILE} SPS")
    assert "<script>" not in found and 'tabindex="0"' in found and str(Markup.escape(TERMS["SPS"])) in found
    assert "tabindex" not in glossed("SPS", focus=False)
    assert glossed(Markup("<b>SPS</b>")).startswith("<b><abbr")


def test_every_word_is_listed_once():
    assert len(listed()) == len(TERMS) and [name for name, _ in listed()] == sorted(
        (name for name, _ in listed()), key=str.lower
    )
