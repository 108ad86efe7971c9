"""Counting spikes: hooks on a model, the ledger of its operations, and the per-image count table.

A finished run is read without torch; only what runs a model loads it, on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spikeattn.recording.counts import Counts
from spikeattn.recording.ledger import Ledger

if TYPE_CHECKING:
    from spikeattn.recording.context import record
    from spikeattn.tracing.examine import ledger_of

_HOME = {"ledger_of": "spikeattn.tracing.examine", "record": "spikeattn.recording.context"}

__all__ = ["Counts", "Ledger", "ledger_of", "record"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOME[name]), name)
    return value
