"""Names that are no UTF-8, and terminals that cannot show what we print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spikeattn as sa
from spikeattn.cli import app

MODEL = ("--model", "sdt_digits", "--pretrained", "--threads", 1, "--device", "cpu")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder of classes whose name, and that of a file in it, is no UTF-8."""
    folder = tmp_path / os.fsdecode(b"d\xff ir")
    try:
        (folder / "c").mkdir(parents=True)
    except OSError:
        pytest.skip("this file system holds valid UTF-8 names only")
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (20, 20), dtype=np.uint8)).save(tmp_path / "a.png")
    for name in (b"a.png", b"b\xfe.png"):
        (folder / "c" / os.fsdecode(name)).write_bytes((tmp_path / "a.png").read_bytes())
    return folder


def test_a_run_of_such_names_is_profiled_verified_and_reported(spikeattn, odd) -> None:
    out = "run"
    done = spikeattn("profile", *MODEL, "--data", f"folder:{odd.name}", "--out", out)
    assert done.code == 0, done.err
    assert f"folder:{odd.name}" in sa.Profile.load(out).provenance["command"]
    checked = spikeattn("verify", out)
    assert checked.code == 0 and "every count is the same" in checked.out, checked.err
    assert spikeattn("rates", out, "--json").code == 0
    assert spikeattn("report", out, "--out", os.fsdecode(b"report\xfd")).code == 0
    Path(out).rename(os.fsdecode(b"r\xfdn"))
    for command in ("rates", "verify"):
        moved = spikeattn(command, os.fsdecode(b"r\xfdn"))
        assert moved.code == 0, moved.err


def test_a_run_is_not_begun_in_a_folder_that_cannot_be_read_back(spikeattn, tmp_path) -> None:
    done = spikeattn("profile", *MODEL, "--data", "digits", "--limit", 2, "--out", os.fsdecode(b"r\xfdn"))
    assert done.code == app.FAILED and "r\\xfdn: the name of this folder is no UTF-8" in done.error, done.err
    assert not any(tmp_path.iterdir())


def test_such_images_are_attended_to(spikeattn, odd) -> None:
    options = ("--replicates", 5, "--pictures", 1, "--out", "out")
    done = spikeattn("attend", *MODEL, "--images", odd / "c", *options)
    assert done.code == 0, done.err
    assert "b\\xfe.png" in done.out


def test_a_terminal_without_our_characters_shows_escapes() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin1"}
    command = [sys.executable, "-m", "spikeattn", "costs"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\u2013" in done.stdout  # the dash of a table without memories
