"""A package that is missing: one sentence with the command that installs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import spikeattn as sa
from spikeattn.compat import absent, extras, spikingjelly_version
from spikeattn.compat.python_names import tomllib
from spikeattn.data import events
from spikeattn.energy.published_networks import network_rows
from spikeattn.errors import SpikeattnError

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = PROJECT["optional-dependencies"]
COMMAND = 'pip install "spikeattn[spikingjelly]"'


@pytest.fixture
def without_spikingjelly(monkeypatch: pytest.MonkeyPatch) -> None:
    spikingjelly_version.is_current()  # its answer is kept: the true one, not that of this test
    for room in (spikingjelly_version, absent, events):
        monkeypatch.setattr(room, "spikingjelly_version", lambda: None)
    for name in ("spikeattn.energy.published_networks", "spikeattn.models.neuron_backend"):
        monkeypatch.setattr(f"{name}.is_current", lambda: False)


@pytest.mark.parametrize("module", extras.EXTRAS)
def test_an_extra_brings_the_package_that_it_is_named_for(module: str) -> None:
    assert any(re.match(rf"{module}\b", each) for each in DECLARED[extras.EXTRAS[module]])
    assert extras.how_to_get(f"{module}.inside") == f'install it with pip install "spikeattn[{extras.EXTRAS[module]}]"'


def test_commands_of_the_pages_and_of_messages_name_extras_that_there_are() -> None:
    named = set()
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "spikeattn").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert "pip install 'spikeattn" not in text, f"{path}: cmd.exe keeps single quotes"
        named |= set(re.findall(r"spikeattn\[(\w+)\]", text)) | set(re.findall(r"\binstall\(['\"](\w+)", text))
    assert {"spikingjelly", "events", "xlsx"} <= named <= set(DECLARED)


def test_another_package_is_not_said_to_be_in_an_extra() -> None:
    assert extras.how_to_get("cv2.cuda") == "install the package that has it"


def test_a_name_of_it_that_is_used(without_spikingjelly: None) -> None:
    layer = absent.absent("spikingjelly.layer", "spikingjelly").Linear
    with pytest.raises(SpikeattnError, match=re.escape(f"not installed here; install it with {COMMAND}")):
        layer(1, 2)


def test_an_import_that_cannot_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text("from absent_one.inside import *\ndef build(): pass\n")
    monkeypatch.setitem(extras.EXTRAS, "absent_one", "events")
    with pytest.raises(SpikeattnError, match=r'named .absent_one.; install it with pip install "spikeattn\[events\]"'):
        sa.load_model(f"{tmp_path}/net.py:build")


def test_neurons_that_only_it_has(without_spikingjelly: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from spikeattn.models.neuron_backend import select_implementation

    monkeypatch.setattr("spikeattn.models.neuron_backend._bound", lambda package: None)  # no neuron has run so far
    with pytest.raises(
        SpikeattnError, match=re.escape(f'and none is installed; on Python 3.11 or newer: {COMMAND} "s')
    ):
        select_implementation("triton")


def test_recordings_that_it_prepares(without_spikingjelly: None, tmp_path: Path) -> None:
    with pytest.raises(SpikeattnError, match=re.escape('SpikingJelly (pip install "spikeattn[events]") makes it once')):
        events.open_events("nmnist", tmp_path, time_steps=4)


def test_networks_that_it_builds(without_spikingjelly: None) -> None:
    notes = [row.note for row in network_rows()]
    assert any(COMMAND in note for note in notes)
