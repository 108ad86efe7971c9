"""The old name of `spikeattn.storage` (Counts, Ledger), `spikeattn.tracing` (ledger_of) and `spikeattn.record`.

It goes in the release after the second edition.
"""

import warnings
from importlib import import_module
from typing import Any

_HOME = {
    "Counts": "spikeattn.storage",
    "Ledger": "spikeattn.storage",
    "ledger_of": "spikeattn.tracing.examine",
    "record": "spikeattn.recordings",
}

__all__ = ["Counts", "Ledger", "ledger_of", "record"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"spikeattn.recording.{name} has moved: import it from {_HOME[name]}", DeprecationWarning, stacklevel=2
    )
    return getattr(import_module(_HOME[name]), name)
