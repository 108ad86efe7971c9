"""What tables hold, and how their cells are written."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikeattn.reporting.tables.run_tables import block_energy, rate_table

_HOME = {"block_energy": "run_tables", "rate_table": "run_tables"}

__all__ = ["block_energy", "rate_table"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value
