"""scripts/release.py: four files follow one version, and nothing is written where it is refused."""

from __future__ import annotations

import importlib
import shutil
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

from tests.conftest import ROOT

DAY = date(2027, 1, 31)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("release")


@pytest.fixture
def checkout(script: ModuleType, tmp_path: Path) -> Path:
    """The five files as they are, at a version of their own."""
    for name in (script.VERSION, script.CITATION, script.ENTRY, script.OWN, script.CHANGES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    place = tmp_path / script.VERSION
    place.write_text(
        "".join('__version__ = "7.0.0.dev0"\n' if "__version__" in line else line for line in lines(place))
    )
    return tmp_path


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()}


def test_a_release(script: ModuleType, checkout: Path) -> None:
    before = contents(checkout)
    assert script.set_version(checkout, "7.0.0", DAY) == Version("7.0.0")
    after = contents(checkout)
    assert after["version.py"] == before["version.py"].replace("7.0.0.dev0", "7.0.0")
    assert after["CITATION.cff"].count("version: 7.0.0\ndate-released: 2027-01-31\n") == 1
    assert after["CITATION.cff"].count("date-released") == 1
    assert after["cite.md"].count("  year   = {2027},\n  note   = {Version 7.0.0, released 2027-01-31},\n") == 1
    assert "\nYEAR = 2027  #" in after["own_entry.py"]
    heading = "## [Unreleased]\n\n## [7.0.0] - 2027-01-31\n"
    assert after["CHANGELOG.md"] == before["CHANGELOG.md"].replace("## [Unreleased]\n", heading)
    assert script.HEADING.findall(after["CHANGELOG.md"])[:2] == [("Unreleased", ""), ("7.0.0", "2027-01-31")]


def test_the_time_after_a_release_changes_the_version_alone(script: ModuleType, checkout: Path) -> None:
    script.set_version(checkout, "7.0.0", DAY)
    before = contents(checkout)
    script.set_version(checkout, "7.1.0.dev0", DAY)
    after = contents(checkout)
    assert [name for name in after if after[name] != before[name]] == ["version.py"]
    assert '"7.1.0.dev0"' in after["version.py"]
    with pytest.raises(script.Refused, match="says nothing below"):
        script.set_version(checkout, "7.1.0", DAY)
    assert contents(checkout) == after


@pytest.mark.parametrize(
    ("version", "reason"),
    [("seven", "'seven' is no version"), ("6.9", "not above 7.0.0.dev0"), ("7.0.0.dev0", "not above")],
)
def test_refused(script: ModuleType, checkout: Path, version: str, reason: str) -> None:
    before = contents(checkout)
    with pytest.raises(script.Refused, match=reason):
        script.set_version(checkout, version, DAY)
    assert contents(checkout) == before


def test_a_changelog_without_its_heading_is_named(script: ModuleType, checkout: Path) -> None:
    path = checkout / script.CHANGES
    path.write_text(path.read_text(encoding="utf-8").replace(script.UNRELEASED, "## Next\n"))
    with pytest.raises(script.Refused, match=r"no heading '## \[Unreleased\]'"):
        script.set_version(checkout, "7.0.0", DAY)
