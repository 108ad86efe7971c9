"""Command lines of `spikeattn attend`, and what they leave in their folder."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spikeattn.cli import main

DIGITS = ("attend", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--out", "out", "--threads", 1)
QUICK = (*DIGITS, "--limit", 2, "--replicates", 12, "--device", "cpu")
VIT = ("attend", "--model", "vit_tiny_patch16_224", "--model-arg", "img_size=32", "--model-arg", "depth=2")
IMAGES = (*VIT, "--replicates", 8, "--out", "out", "--threads", 1, "--device", "cpu", "--images")


@dataclass(frozen=True)
class Finished:
    """A command that several tests look at: its output and its folder."""

    code: int
    text: str
    err: str
    out: Path

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.out / "attention.npz"))

    @property
    def summary(self) -> dict:
        return json.loads((self.out / "summary.json").read_text())


def finish(folder: Path, *arguments: object) -> Finished:
    """Run a command in a folder."""
    out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    torch.set_num_threads(threads)
    return Finished(code, out.getvalue(), err.getvalue(), folder / "out")


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
