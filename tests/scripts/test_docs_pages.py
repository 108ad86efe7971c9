"""scripts/docs_pages.py: what mkdocs adds to the pages."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

import pytest
import typer

from spikeattn.cli.app import app
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("docs_pages")


def test_the_page_of_the_commands_has_every_command_with_all_its_options(script: ModuleType) -> None:
    page = script.commands_page()
    assert "\b" not in page
    parts = dict(zip(*[iter(re.split(r"^## `spikeattn ([\w-]+)`$", page, flags=re.MULTILINE)[1:])] * 2, strict=True))
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert list(parts) == list(commands)
    for name, command in commands.items():
        shown = {
            each
            for names in re.findall(r"^\* `(.*?)`:", parts[name], re.MULTILINE)
            for each in re.split(r"[ ,]+", names)
        }
        wanted = {max(each.opts, key=len) for each in command.params if each.param_type_name == "option"}
        assert wanted <= shown, f"{name}: {sorted(wanted - shown)}"
        summary = page.partition(f"* [{name}](#spikeattn-{name}): ")[2].partition("\n")[0]
        assert summary and not summary.endswith("...")
    assert not re.search(r"^ {2,}\S", re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)


def test_every_formula_of_the_pages_is_set(script: ModuleType) -> None:
    pytest.importorskip("latex2mathml")
    blocks = sum(len(re.findall(r"^```math$", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in PAGES)
    assert blocks >= 5
    done = [script.formulas(page.read_text(encoding="utf-8")) for page in PAGES]
    assert sum(len(re.findall(r'<div class="formula"><math [^>]*display="block"', text)) for text in done) == blocks
    assert not any("```math" in text or re.search(r"<m\w+>\\", text) for text in done)


def test_what_is_no_formula_stays(script: ModuleType) -> None:
    pytest.importorskip("latex2mathml")
    assert script.formulas("a\n\n```python\nmath\n```\n") == "a\n\n```python\nmath\n```\n"
