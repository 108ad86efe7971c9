"""Images and events as indexed samples, and the fixed plan of batches that carries them to a model."""

from spikeattn.data.batches import Batch, Batches, batch_indices, make_loader
from spikeattn.data.dataset import Dataset, Skipped
from spikeattn.data.spec import DATA, open_dataset

__all__ = ["DATA", "Batch", "Batches", "Dataset", "Skipped", "batch_indices", "make_loader", "open_dataset"]
