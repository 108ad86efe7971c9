"""In the loop where a network is trained: what it costs while it learns. Names are loaded on first use."""

from typing import TYPE_CHECKING

from spikeattn.compat.lazy_names import lazy_names

if TYPE_CHECKING:
    from spikeattn.training.firing_rate import FiringRate
    from spikeattn.training.lightning import SpikeMonitor

__all__ = ["FiringRate", "SpikeMonitor"]

__getattr__ = lazy_names(__name__, {"FiringRate": "firing_rate", "SpikeMonitor": "lightning"})
