"""Counting spikes: find what to count in a model, hook it, and keep one row per image."""

from spikeattn.recording.counts import Counts
from spikeattn.recording.ledger import Ledger
from spikeattn.recording.recorder import record
from spikeattn.recording.taps import ledger_of

__all__ = ["Counts", "Ledger", "ledger_of", "record"]
