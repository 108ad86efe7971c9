"""The API page: every public name is on it, and every name on it exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import spikeattn as sa

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
NAMED = re.findall(r"^::: (\S+)$", PAGE, re.MULTILINE)


def test_every_name_on_the_page_exists_and_is_documented():
    for path in NAMED:
        room, _, name = path.rpartition(".")
        assert getattr(import_module(room), name).__doc__, path
    assert len(set(NAMED)) == len(NAMED)


def test_every_public_name_is_on_the_page():
    listed = {path.rpartition(".")[2] for path in NAMED}
    functions = {name for name in sa.__all__ if not isinstance(getattr(sa, name), ModuleType)}
    assert functions - listed == {"__version__"}


def test_every_public_name_has_its_name_as_readers_type_it_and_an_example():
    entry = r"^::: \S+\n    options:\n      heading: (\S+)\n(.*?)(?=^::: |^## |\Z)"
    entries = dict(re.findall(entry, PAGE, re.DOTALL | re.MULTILINE))
    for name in set(sa.__all__) - {"__version__"}:
        own = [text for heading, text in entries.items() if f"{heading}.".startswith(f"sa.{name}.")]
        assert own, f"sa.{name} has no entry of that name"
        example = re.compile(rf"```python\n.*\bsa\.{name}\b", re.DOTALL)
        assert any(map(example.search, own)), f"sa.{name} has no example"
    for heading, text in entries.items():
        assert f"toc_label: {heading}\n" in text, heading


def test_the_readme_names_every_public_name_and_no_other():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    listed = text.partition("Every public name")[2].partition("More:")[0].partition("\n")[2]
    assert set(re.findall(r"`(\w+)`", listed)) == set(sa.__all__) - {"__version__"}
