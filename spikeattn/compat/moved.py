"""Modules under the names that they had before the second edition, each with a warning.

They go in the release after it. Only names that the documentation of the first edition had are here. Those that are
rooms now (`spikeattn.runs`, `spikeattn.reporting.page`, `.tables`, `.paper`) hand on their documented names themselves.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Where the names of an old module stand now: those of the first module that has them.
_NOW = {
    "attention.attend": ("attention.bootstrap_test",),
    "csv_text": ("storage.csv_text",),
    "energy.compare": ("energy.comparison",),
    "energy.dense": ("energy.printed_formulas",),
    "energy.reproduce": ("energy.published_figures",),
    "energy.sweep": ("energy.what_if",),
    "energy.waterfall": ("energy.convention_switches",),
    "models.br_npa": ("models.variants.br_npa",),
    "models.fast": ("fast.prepare",),
    "models.names": ("models.paper_names",),
    "models.native": ("fast.native",),
    "models.svda": ("models.variants.svda",),
    "recording": ("storage", "tracing.examine", "runs.recording"),
    "recordings": ("runs.recording",),
    "report": ("reporting",),
    "reporting.from_python": ("reporting.page.from_python",),
    "reporting.paper_latex": ("reporting.paper.latex_tables",),
    "reporting.paper_tables": ("reporting.paper.frames",),
    "reporting.typeset": ("reporting.latex.typeset",),
    "results": ("runs.result",),
    "storage.entries": ("storage.ledger_rows",),
    "tracing.operations": ("tracing.operation_rules",),
}
# Single names that have left a module which still is where it was.
_NAMES = {
    "attention.indicator_log.IndicatorLog.save": ("reporting.figures.indicator_curves", "save_indicators"),
    "attention.indicator_log.indicator_figure": ("reporting.figures.indicator_curves", "indicator_figure"),
    "structure.entry.Structure": ("structure.network_structure", "Structure"),
}
_ROOT = "spikeattn."
# Where the function of an old module's name stands, if not where its other names do.
_FUNCTIONS = {"report": "reporting.page.from_python"}


def find_moved_modules() -> None:
    """Let Python find modules of the package under their old names."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())


def moved_name(module: str, name: str) -> Any:
    """What a module had under a name, with a warning; for its `__getattr__`.

    Raises:
        AttributeError: the module never had it.
    """
    old = f"{module}.{name}"
    if old.removeprefix(_ROOT) not in _NAMES:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    home, now = _NAMES[old.removeprefix(_ROOT)]
    # Level 3: past this function and the `__getattr__` or method that calls it, where the old name was used.
    warnings.warn(f"{old} has moved: use {_ROOT}{home}.{now}", DeprecationWarning, stacklevel=3)
    return getattr(import_module(_ROOT + home), now)


class _Moved(ModuleType):
    """An old name: hands on what it is asked for, with a warning."""

    def __getattr__(self, name: str) -> Any:
        old = self.__name__.removeprefix(_ROOT)
        for now in _NOW[old]:
            home = import_module(_ROOT + now)
            if hasattr(home, name) and not name.startswith("__"):
                warnings.warn(
                    f"{self.__name__}.{name} has moved: import it from {home.__name__}",
                    DeprecationWarning,
                    stacklevel=2,
                )
                return getattr(home, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of the module's name: importing the module puts it where the function is looked up."""
        old = self.__name__.removeprefix(_ROOT)
        home = import_module(_ROOT + _FUNCTIONS.get(old, _NOW[old][0]))
        function = getattr(home, old.rpartition(".")[2], None)
        if not callable(function):
            raise TypeError(f"module {self.__name__!r} is not callable")
        return function(*args, **kwargs)


class _MovedModules(MetaPathFinder, Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        known = name.startswith(_ROOT) and name.removeprefix(_ROOT) in _NOW
        return ModuleSpec(name, self) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Moved(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass
