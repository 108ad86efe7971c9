"""Spiking transformers: the models themselves, their names in the papers, their checkpoints, their neurons."""

from . import br_npa, svda, vision
from .ann import AnnTransformer, twin_names, twin_of
from .checkpoints import Checkpoint, load_checkpoint
from .create import create_model, model_names
from .loading import load_into
from .names import PaperName
from .neurons import implementation_in_use, select_implementation
from .spike_driven import SpikeDrivenTransformer

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
    "model_names",
    "select_implementation",
    "svda",
    "twin_names",
    "twin_of",
    "vision",
]
