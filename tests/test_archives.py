"""The archives of a release: every file is in them, the sdist makes the same wheel, and all name one version."""

from __future__ import annotations

import re
import subprocess
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import spikeattn as sa
from spikeattn.compat.python_names import tomllib
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LEFT_OUT = {f"reports/cifar10/{name}_2_256.safetensors" for name in ("sdt", "ann")}  # of the sdist: 10 of 22 MB
VERSION = Version(sa.__version__)
HEADINGS = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def git(*arguments: str) -> set[str]:
    """File names that a command of git's lists."""
    told = subprocess.run(["git", "ls-files", "-z", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(told.stdout.split("\0")) - {""}


def kept() -> tuple[set[str], set[str]]:
    """Files that git has, and those beside them that it does not ignore; of an unpacked sdist all but compiled ones."""
    if (ROOT / ".git").exists():
        there = {name for name in git() if (ROOT / name).is_file()}
        return there, git("--others", "--exclude-standard")
    return {p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*") if p.is_file() and p.suffix != ".pyc"}, set()


def built(root: Path, folder: Path, kind: str) -> Path:
    """The archive of a source tree, made by the builder itself: without an environment of its own, and offline."""
    builders = pytest.importorskip(f"hatchling.builders.{kind}", reason="hatchling is not installed")
    return Path(next(getattr(builders, f"{kind.title()}Builder")(str(root)).build(directory=str(folder))))


def names_in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in an sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built(ROOT, folder, "sdist")) as archive:
        archive.extractall(folder)
    return next(path for path in folder.iterdir() if path.is_dir())


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    tracked, others = ({name for name in names if name.startswith("spikeattn/")} for names in kept())
    inside = {name for name in names_in_wheel(wheel) if ".dist-info/" not in name}
    assert tracked - inside == set() and inside - tracked - others == set()
    kinds = {Path(name).suffix for name in inside}
    assert {
        ".py",
        ".safetensors",
        ".c",
        ".toml",
        ".csv",
        ".j2",
        ".css",
        ".js",
    } <= kinds and "spikeattn/py.typed" in inside


def test_the_sdist_has_every_file_but_those_left_out(unpacked: Path) -> None:
    tracked, others = kept()
    inside = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()} - {"PKG-INFO"}
    assert tracked - inside - {"PKG-INFO"} == tracked & LEFT_OUT and inside - tracked - others == set()


def test_the_wheel_made_from_the_sdist_is_the_same(wheel: Path, unpacked: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(built(unpacked, tmp_path, "wheel")) as other:
        assert {each.filename: each.CRC for each in one.infolist()} == {e.filename: e.CRC for e in other.infolist()}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        told = {Path(name).name: archive.read(name) for name in archive.namelist() if ".dist-info/" in name}
    metadata = message_from_bytes(told["METADATA"])
    assert (
        metadata["Version"] == sa.__version__ and metadata["Requires-Python"] == PROJECT["project"]["requires-python"]
    )
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["project"]["optional-dependencies"])
    assert b"spikeattn = spikeattn.cli:main" in told["entry_points.txt"] and told["LICENSE"].startswith(b"MIT")
    assert metadata["Description-Content-Type"] == "text/markdown" and "# spikeattn" in str(metadata.get_payload())


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    place = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert place == Path(sa.compat.version.__file__)  # type: ignore[attr-defined]
    assert place.read_text(encoding="utf-8").count(sa.__version__) == 1
    assert str(VERSION) == sa.__version__


def test_the_changelog_has_a_section_of_every_release_and_one_of_what_is_not_released() -> None:
    assert HEADINGS[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[([\d.]+\w*)\] - \d{4}-\d\d-\d\d", heading) for heading in HEADINGS[1:]]
    assert all(released), HEADINGS
    versions = [Version(each[1]) for each in released if each]
    assert versions == sorted(versions, reverse=True)
    assert VERSION > versions[0] if VERSION.is_devrelease else VERSION == versions[0]


def test_the_citation_is_of_the_last_release() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (version,) = re.findall(r"^version: (.+)$", text, re.MULTILINE)
    (day,) = re.findall(r"^date-released: (.+)$", text, re.MULTILINE)
    assert f"[{version}] - {day}" == HEADINGS[1]


def test_the_page_how_to_cite_says_what_the_citation_file_says() -> None:
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (entry,) = re.findall(r"^```bibtex\n(.*?)^```", (ROOT / "docs" / "cite.md").read_text(), re.DOTALL | re.MULTILINE)
    assert dict(re.findall(r"^  (\w+) +=\s+\{(.*)\},$", entry, re.MULTILINE)) == {
        "author": "{" + " and ".join(each["name"] for each in said["authors"]) + "}",
        "title": said["title"],
        "year": str(said["date-released"].year),
        "note": f"Version {said['version']}, released {said['date-released']}",
    }


def test_links_of_the_readme_lead_to_files() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [each for each in re.findall(r'\]\(([^)#]+)|src="([^"]+)"', text)]
    links = [link for pair in found for link in pair if link and "://" not in link]
    assert links and [link for link in links if not (ROOT / link).is_file()] == []


def test_readme_and_makefile_say_which_python_they_need() -> None:
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile")}
    (least,) = re.findall(r"sys\.version_info < \(3, (\d+)\)", texts["Makefile"])
    assert set(re.findall(r"Python 3\.(\d+) or newer", texts["Makefile"])) == {least}
    assert f"They need Python 3.{least} or newer and make" in texts["README.md"]
    allowed = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"from Python {allowed} on: `pip install .`" in texts["README.md"]
    assert f"(on {allowed}, without make and pins: pip install .)" in texts["Makefile"]
