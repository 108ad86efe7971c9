"""Firing rates, operations and energy of spiking transformers: counted per image, priced with their source.

Importing the package registers its models with timm.
"""

from spikeattn.data import make_loader, open_dataset
from spikeattn.energy import energy_from_rates
from spikeattn.errors import SpikeattnError
from spikeattn.models import create_model
from spikeattn.recording import record
from spikeattn.results import Profile
from spikeattn.runs import profile
from spikeattn.version import __version__

__all__ = [
    "Profile",
    "SpikeattnError",
    "__version__",
    "create_model",
    "energy_from_rates",
    "make_loader",
    "open_dataset",
    "profile",
    "record",
]
