"""Fixtures every test file may use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

# Tiny networks wait on each other's threads longer than they compute, most of all on a busy machine.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference outputs beside the checkout; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with reference outputs and real data is not beside this checkout")
    return folder
