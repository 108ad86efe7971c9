"""What a run leaves on disk: the ledger, the per-image count table, parts, the folder. Nothing here loads torch.

The lowest room: tracing writes the ledger, counting fills the table, and everything else reads the two. Names are
loaded on first use: the command line answers `--help` without pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikeattn.storage.counts import Counts
    from spikeattn.storage.ledger import Ledger

_HOME = {"Counts": "counts", "Ledger": "ledger"}

__all__ = ["Counts", "Ledger"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value
