"""Fixtures every test file may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spikeattn.compat.spikingjelly_version import is_current

# pytest loads readline, which tells the processes that it starts, as those of xdist, how wide the terminal is: commands
# would print for that width.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)
# Tiny networks wait on each other's threads longer than they compute, most of all on a busy machine.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def references() -> Path:
    """The folder of small reference outputs that come with the tests; its README says where each is from."""
    return ROOT / "tests" / "fixtures"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs real images or recordings: there is no ../shared beside this checkout")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """What a test printed and logged is sent from process to process as UTF-8, file names that are none included."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """A test file whose networks are those of SpikingJelly 2 is left out where an older one is installed, or none."""
    report = yield
    if report.failed and not is_current() and "Error: " in (text := str(report.longrepr)) and "spikingjelly" in text:
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, "Skipped: needs SpikingJelly 2")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    """The same of a test that imports from it, or asks for a neuron that older ones do not have."""
    try:
        return (yield)
    except (ImportError, AttributeError) as error:
        asked = error.name if isinstance(error, ImportError) else str(error).partition("'")[2]
        if not is_current() and (asked or "").startswith("spikingjelly"):
            pytest.skip("needs SpikingJelly 2")
        raise
