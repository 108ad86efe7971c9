"""What tables hold, and how their cells are written."""

from typing import TYPE_CHECKING

from spikeattn.compat.lazy_names import lazy_names

if TYPE_CHECKING:
    from spikeattn.reporting.tables.run_tables import block_energy, rate_table

__all__ = ["block_energy", "rate_table"]

__getattr__ = lazy_names(__name__, {"block_energy": "run_tables", "rate_table": "run_tables"})
