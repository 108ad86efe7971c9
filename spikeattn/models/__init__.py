"""Spiking transformers: the models themselves, their names in the papers, their checkpoints, their neurons."""

from spikeattn.models import br_npa, svda, vision
from spikeattn.models.ann import AnnTransformer, twin_names, twin_of
from spikeattn.models.checkpoints import Checkpoint, load_checkpoint
from spikeattn.models.create import create_model, model_names
from spikeattn.models.load import load_model
from spikeattn.models.loading import load_into
from spikeattn.models.names import PaperName
from spikeattn.models.neurons import implementation_in_use, select_implementation
from spikeattn.models.spike_driven import SpikeDrivenTransformer

__all__ = [
    "AnnTransformer",
    "Checkpoint",
    "PaperName",
    "SpikeDrivenTransformer",
    "br_npa",
    "create_model",
    "implementation_in_use",
    "load_checkpoint",
    "load_into",
    "load_model",
    "model_names",
    "select_implementation",
    "svda",
    "twin_names",
    "twin_of",
    "vision",
]
