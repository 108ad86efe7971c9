"""`spikeattn --version`: the version on a line of its own, and what it runs on."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

import spikeattn as sa
from spikeattn.compat.spikingjelly_version import spikingjelly_version
from spikeattn.fast import native


@pytest.fixture
def said(spikeattn, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Its lines below the first, by their names."""
    native.build.cache_clear()
    first, *lines = spikeattn("--version").out.splitlines()
    native.build.cache_clear()
    assert first == f"spikeattn {sa.__version__}"
    yield {line[2:14].rstrip(): line[16:] for line in lines}


def test_everything_that_it_runs_on(said: dict[str, str]) -> None:
    assert said["installed in"] == str(Path(sa.__file__).parent)
    assert said["Python"] == f"{platform.python_version()} ({platform.python_implementation()})"
    assert said["torch"].startswith(f"{torch.__version__}, built for ")
    assert said["SpikingJelly"] == (spikingjelly_version() or "not installed")
    assert (said["timm"], said["numpy"]) == (version("timm"), np.__version__)
    assert said["platform"] == platform.platform()
    assert said["C kernels"].startswith(f"compiled by {native.compiler()}" if native.build().library else "none, ")


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch for the CPU, no SpikingJelly, no compiler."""
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None, raising=False)
    monkeypatch.setitem(sys.modules["spikeattn.cli.installation"].PACKAGES, "SpikingJelly", "no_such_package")
    monkeypatch.setattr(native, "compiler", lambda: None)


def test_what_there_is_not(nothing_else: None, said: dict[str, str]) -> None:
    assert said["torch"] == f"{torch.__version__}, built for the CPU alone"
    assert said["SpikingJelly"] == "not installed"
    assert said["C kernels"].startswith("none, profiles run without: no C compiler found")


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")


def test_cards(two_cards: None, said: dict[str, str]) -> None:
    assert said["torch"].endswith("built for CUDA 13.0; card 0, card 1")


@pytest.fixture
def broken_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("spikeattn.fast")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sa, "fast", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails


def test_torch_that_cannot_be_imported_is_said_and_the_rest_follows(broken_torch: None, said: dict[str, str]) -> None:
    assert said["torch"].startswith(f"{version('torch')}, which cannot be imported: ModuleNotFoundError")
    assert said["numpy"] == np.__version__ and said["C kernels"].startswith("not tried: ModuleNotFoundError")
