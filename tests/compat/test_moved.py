"""Names of the first edition: each module hands on the same objects with a warning, and no import hides a function."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from spikeattn.compat.moved import _NAMES, _NOW

ROOT = Path(__file__).parents[2]

# One name of each module of the first edition, and the module of today that it is the same object in.
EXAMPLES = {
    "attention.attend": ("Attention", "attention.bootstrap_test"),
    "csv_text": ("guarded", "storage.csv_text"),
    "energy.compare": ("compare", "energy.comparison"),
    "energy.dense": ("dense_macs", "energy.printed_formulas"),
    "energy.reproduce": ("reproduce", "energy.published_figures"),
    "energy.sweep": ("sweep", "energy.what_if"),
    "energy.waterfall": ("side_by_side", "energy.convention_switches"),
    "models.br_npa": ("RepresentativePooling", "models.variants.br_npa"),
    "models.fast": ("prepare", "fast.prepare"),
    "models.names": ("PaperName", "models.paper_names"),
    "models.native": ("compiler", "fast.native"),
    "models.svda": ("convert", "models.variants.svda"),
    "recording": ("Counts", "storage.counts"),
    "recordings": ("record", "runs.recording"),
    "report": ("rate_table", "reporting.tables.run_tables"),
    "reporting.from_python": ("report", "reporting.page.from_python"),
    "reporting.paper_latex": ("rates_latex", "reporting.paper.latex_tables"),
    "reporting.paper_tables": ("model_table", "reporting.paper.frames"),
    "reporting.typeset": ("to_latex", "reporting.latex.typeset"),
    "results": ("Profile", "runs.result"),
    "storage.entries": ("Synapse", "storage.ledger_rows"),
    "tracing.operations": ("register", "tracing.operation_rules"),
}


def in_a_new_process(code: str) -> None:
    """Modules and attributes that other tests have loaded would hide what an import does."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_old_name_is_here():
    assert EXAMPLES.keys() == _NOW.keys()


@pytest.mark.parametrize("old", EXAMPLES)
def test_an_old_module_hands_on_the_same_object_with_a_warning(old):
    name, now = EXAMPLES[old]
    module = importlib.import_module(f"spikeattn.{old}")
    with pytest.warns(DeprecationWarning, match=rf"^spikeattn\.{old}\.{name} has moved: import it from spikeattn\."):
        moved = getattr(module, name)
    assert moved is getattr(importlib.import_module(f"spikeattn.{now}"), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_this_name'"):
        module.nothing_of_this_name  # noqa: B018


@pytest.mark.parametrize("old", [name for name in _NAMES if name.count(".") == 2])  # the others are methods
def test_a_module_hands_on_a_name_that_has_left_it_with_a_warning(old):
    module, _, name = f"spikeattn.{old}".rpartition(".")
    home, now = _NAMES[old]
    with pytest.warns(DeprecationWarning, match=rf"^spikeattn\.{old} has moved: use spikeattn\.{home}\.{now}$") as all_:
        moved = getattr(importlib.import_module(module), name)
    assert len(all_) == 1
    assert moved is getattr(importlib.import_module(f"spikeattn.{home}"), now)
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_this_name'"):
        importlib.import_module(module).nothing_of_this_name  # noqa: B018


def test_the_documented_class_of_a_structure_is_found_where_it_was():
    """docs/api.md of the first edition has `spikeattn.structure.entry.Structure`."""
    with pytest.warns(DeprecationWarning, match="has moved"):
        from spikeattn.structure.entry import Structure
    assert Structure is importlib.import_module("spikeattn.structure").Structure


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("spikeattn.energy.sweeps")


def test_no_import_of_a_module_replaces_a_public_name():
    in_a_new_process("""
        import importlib, pkgutil
        from types import ModuleType
        import spikeattn as sa

        for module in pkgutil.walk_packages(sa.__path__, "spikeattn."):
            if module.name != "spikeattn.__main__":
                try:
                    importlib.import_module(module.name)
                except ImportError as error:
                    # triton comes with torch for CUDA; old_neurons derives from the neurons of SpikingJelly 2.
                    assert error.name == "triton" or module.name == "spikeattn.compat.old_neurons", error
        rooms = ("attention", "data", "energy", "models", "reporting", "runs", "spurious", "stats", "storage")
        modules = {"br_npa", "structure", "svda", "vision"}
        for room in (sa, *(getattr(sa, name) for name in rooms)):
            assert isinstance(room, ModuleType)
            for name in set(getattr(room, "__all__", ())) - {"__version__"}:
                value = getattr(room, name)
                assert isinstance(value, ModuleType) == (name in modules), (room.__name__, name)
    """)


def test_an_old_module_that_is_named_like_a_function_can_be_called_as_it():
    """`import spikeattn.energy.sweep` puts the module where `spikeattn.energy.sweep(...)` is looked up."""
    in_a_new_process("""
        import importlib
        import spikeattn as sa
        for old, home in {
            "attention.attend": "attention.bootstrap_test",
            "energy.compare": "energy.comparison",
            "energy.reproduce": "energy.published_figures",
            "energy.sweep": "energy.what_if",
            "energy.waterfall": "energy.convention_switches",
            "report": "reporting.page.from_python",
        }.items():
            room, _, name = old.rpartition(".")
            setattr(importlib.import_module(f"spikeattn.{home}"), name, lambda *args, **kwargs: (old, args, kwargs))
            moved = importlib.import_module(f"spikeattn.{old}")
            assert getattr(importlib.import_module(f"spikeattn.{room}".rstrip(".")), name) is moved
            for found in (moved, getattr(sa, name)):
                assert found(1, two=2) == (old, (1,), {"two": 2}), old
    """)


def test_an_old_module_without_such_a_function_cannot_be_called():
    with pytest.raises(TypeError, match="module 'spikeattn.results' is not callable"):
        importlib.import_module("spikeattn.results")()
