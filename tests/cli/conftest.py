"""The command line as a user has it: `main` with arguments, what it printed, and a finished run to work on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from spikeattn.cli import main

IMAGES = 40


@dataclass(frozen=True)
class Outcome:
    """Exit code and both streams of one command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error message: the last lines of standard error, from "error:" on."""
        assert "Traceback" not in self.err
        return self.err[self.err.index("error: ") :].strip() if "error: " in self.err else ""


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Commands set torch's threads and the package's log; other tests find both as they were."""
    threads, logger = torch.get_num_threads(), logging.getLogger("spikeattn")
    handlers, level = list(logger.handlers), logger.level
    yield
    torch.set_num_threads(threads)
    logger.handlers = handlers
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def _no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have exported the width of a terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def spikeattn(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Call `spikeattn ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model on some digits, profiled by the command line."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    options = ["--pretrained", "--data", "digits", "--limit", str(IMAGES), "--threads", "1"]
    assert main(["profile", "--model", "sdt_digits", *options, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def svg_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn once: two of their three formats are empty files."""
    monkeypatch.setattr("spikeattn.reporting.study.pictures.to_pdf", lambda figure: b"")
    monkeypatch.setattr("spikeattn.reporting.study.pictures.to_png", lambda figure, dpi: b"")
