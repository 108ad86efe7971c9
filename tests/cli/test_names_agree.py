"""An option of a command has the name of the argument of the Python function that it is handed to, or says which."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import spikeattn as sa
from spikeattn.attention.study import StudySettings
from spikeattn.cli.app import app
from spikeattn.energy.components import components
from spikeattn.energy.costs import get_costs
from spikeattn.energy.table_audit import audit
from spikeattn.models import SpikeDrivenTransformer

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
# Of the program itself: where it prints, on what it runs.
PROGRAM = {"json", "out", "verbose", "help", "threads", "device", "format", "tidy", "figure", "pictures", "force"}
PROGRAM |= {"full", "quiet", "no_config", "batches", "map", "off_chip", "training", "calibrate", "time_steps_arg"}
NETWORK: list[Callable[..., Any]] = [sa.load_model, sa.create_model, SpikeDrivenTransformer, sa.open_dataset]
RUN = [*NETWORK, sa.make_loader, sa.profile]
# The functions that a command stands for.
PYTHON: dict[str, list[Callable[..., Any]]] = {
    "attend": [*RUN, StudySettings, sa.attend, sa.spurious_energy],
    "audit": [*NETWORK, audit, get_costs],
    "compare": [sa.compare, *NETWORK],
    "energy": [sa.Profile.energy, sa.Profile.components, sa.Profile.training_energy, sa.energy_from_rates, *NETWORK],
    "merge": [sa.profile],
    "profile": RUN,
    "rates": [sa.Profile.rates],
    "report": [*RUN, sa.report],
    "structure": [*NETWORK, sa.profile],
    "sweep": [sa.sweep, sa.measured_sweep, sa.energy_from_rates],
    "verify": [*RUN],
}
# What is named otherwise in Python, in any command or in one; the API page says how.
OTHERWISE = {
    "against-checkpoint", "against-pretrained", "also-null", "attend", "cluster-by-class", "crop-pct", "data",
    "evaluate", "images", "input-shape", "mean", "measure-twin", "model", "model-arg", "neuron-class", "neurons",
    "rate-scale", "run", "std", "threshold-scale",
}  # fmt: skip
IN_ONE = {("attend", "against"), ("compare", "first-conv"), ("sweep", "checkpoint"), ("sweep", "runs")}


def options(command: str) -> list[str]:
    """The long names of the options of a command, without dashes in front."""
    found = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return [name[2:] for each in found for name in each.opts if name.startswith("--")]


def arguments(command: str) -> set[str]:
    found: set[str] = set()
    for function in PYTHON[command]:
        found |= set(inspect.signature(function).parameters)
    return found


@pytest.mark.parametrize("command", PYTHON)
def test_every_option_has_the_name_of_an_argument(command) -> None:
    known = arguments(command)
    left = [name for name in options(command) if name not in OTHERWISE and (command, name) not in IN_ONE]
    unnamed = [f"--{name}" for name in left if name.replace("-", "_") not in known | PROGRAM]
    assert not unnamed, f"no argument of this name in Python: {', '.join(unnamed)}"


def test_what_is_named_otherwise_is_on_the_api_page_and_nothing_else_is() -> None:
    used = {name for command in PYTHON for name in options(command)}
    assert used >= OTHERWISE, sorted(OTHERWISE - used)
    assert all(name in options(command) for command, name in IN_ONE)
    table = PAGE.partition("named otherwise")[2].partition("\n## ")[0]
    assert set(re.findall(r"`--([a-z-]+)`", table)) == OTHERWISE
    assert set(re.findall(r"`([a-z]+) --([a-z-]+)`", table)) == IN_ONE


def test_the_old_names_work_for_a_release(tmp_path) -> None:
    profile = sa.profile(sa.create_model("sdt_digits"), [torch.rand(2, 1, 16, 16)])
    with pytest.warns(DeprecationWarning, match=r"compare\(ann=...\) is against=... now"):
        old = sa.compare(profile, ann=None)  # type: ignore[call-overload]
    assert old.total == sa.compare(profile, against=None).total
    with pytest.warns(DeprecationWarning, match=r"components\(model=...\) is energy_model=... now"):
        was = profile.components(model="compute")  # type: ignore[call-arg]
    assert was.equals(profile.components(energy_model="compute"))
    with pytest.warns(DeprecationWarning, match="energy_model="):
        assert components(profile, model="compute").equals(was)
    with pytest.raises(sa.SpikeattnError, match="ann= is the old name of against=; give against= alone"):
        sa.compare(profile, against=None, ann=None)  # type: ignore[call-overload]
