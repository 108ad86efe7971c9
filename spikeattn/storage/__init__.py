"""What a run leaves on disk: the ledger, the per-image count table, parts, the folder. Nothing here loads torch.

The lowest room: tracing writes the ledger, counting fills the table, and everything else reads the two. Names are
loaded on first use: the command line answers `--help` without pandas.
"""

from typing import TYPE_CHECKING

from spikeattn.compat.lazy_names import lazy_names

if TYPE_CHECKING:
    from spikeattn.storage.counts import Counts
    from spikeattn.storage.ledger import Ledger

__all__ = ["Counts", "Ledger"]

__getattr__ = lazy_names(__name__, {"Counts": "counts", "Ledger": "ledger"})
