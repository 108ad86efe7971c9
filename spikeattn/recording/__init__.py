"""Counting spikes: find what to count in a model, hook it, and keep one row per image."""

from spikeattn.recording.counts import Counts
from spikeattn.recording.examine import ledger_of
from spikeattn.recording.ledger import Ledger
from spikeattn.recording.recorder import record

__all__ = ["Counts", "Ledger", "ledger_of", "record"]
