"""Spiking transformers: the models themselves, their names in the papers, their checkpoints, their neurons."""

from spikeattn.models import vision
from spikeattn.models.ann import AnnTransformer, twin_names, twin_of
from spikeattn.models.checkpoint_fit import load_into
from spikeattn.models.checkpoints import Checkpoint, load_checkpoint
from spikeattn.models.create import create_model, model_names
from spikeattn.models.load import load_model
from spikeattn.models.neuron_backend import implementation_in_use, select_implementation
from spikeattn.models.paper_names import PaperName
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.models.variants import br_npa, svda

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
