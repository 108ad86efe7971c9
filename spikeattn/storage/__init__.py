"""What a run leaves on disk: the ledger, the per-image count table, parts, the folder. Nothing here loads torch.

The lowest room: tracing writes the ledger, counting fills the table, and everything else reads the two.
"""

from spikeattn.storage.counts import Counts
from spikeattn.storage.ledger import Ledger

__all__ = ["Counts", "Ledger"]
