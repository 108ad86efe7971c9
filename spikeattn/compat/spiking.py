"""What the models of this package are built of: SpikingJelly's neurons and layers from version 2 on, else our own.

Networks of users run on whichever version is installed, or on none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from spikeattn.compat.spikingjelly_version import is_current

__all__ = ["MemoryModule", "is_spikformer", "layer", "neuron"]


if TYPE_CHECKING or is_current():
    from spikingjelly.activation_based import layer, neuron
    from spikingjelly.activation_based.base import MemoryModule
else:
    from spikeattn.compat import lif as neuron
    from spikeattn.compat import step_layers as layer
    from spikeattn.compat.lif import MemoryModule


def is_spikformer(model: nn.Module) -> bool:
    """Whether a model is SpikingJelly's Spikformer, which version 2 has."""
    home = "spikingjelly.activation_based.model.spikformer"
    return any(c.__name__ == "Spikformer" and c.__module__ == home for c in type(model).__mro__)
