"""How a result is displayed is above all results in the house, so it is found by name when somebody looks at one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ROOM = "spikeattn.reporting.notebook"


def view(name: str) -> Any:
    """A module of the room of displays, whose `html` and `plot` take a result of the kind that it is for."""
    return import_module(f"{_ROOM}.{name}")
