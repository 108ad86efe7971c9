"""Names that a package hands on from its files when they are first asked for: torch and pandas take seconds to load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def lazy_names(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__` for names by the file that they stand in, and for the files themselves.

    A name that is also the name of its file must be imported by the package at once: importing the file anywhere would
    put the module in its place.
    """

    def load(name: str) -> Any:
        if name in home:
            value = getattr(import_module(f"{package}.{home[name]}"), name)
        elif not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
            value = import_module(f"{package}.{name}")  # `sa.energy.costs`, as if the package had imported it
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return load
