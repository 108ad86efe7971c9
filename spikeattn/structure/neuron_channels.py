"""Which channel every neuron of a layer belongs to, read off the axes of the network's structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.structure.axes import CHANNEL, Axes, Factor
from spikeattn.structure.graph_nodes import NEURON
from spikeattn.structure.reading import Forward, graph_of
from spikeattn.tracing import neurons as nodes


@dataclass(frozen=True)
class NeuronAxes:
    """Shape and axes of what a spiking layer gives for one image, all its time steps included."""

    shape: tuple[int, ...]
    axes: Axes

    def channels(self, split: Callable[[Tensor], Tensor]) -> Tensor | None:
        """The channel of every neuron, from 0, or None where the axes do not tell it.

        Args:
            split: takes a tensor of `shape` apart into [positions, 1, ...].

        Returns:
            [...], what `split` leaves for one position.
        """
        factors = [(at, place, f) for at, own in enumerate(self.axes) for place, f in enumerate(own)]
        own = [f for _, _, f in factors if f.kind == CHANNEL]
        if not own or len({f.birth for f in own}) > 1 or len(self.axes) != len(self.shape):
            return None  # nothing made channels, or two layers did, as in a product of both
        try:
            parted = split(self._numbers())
        except (RuntimeError, IndexError):
            return None
        first = parted[0, 0]
        if bool((parted != first).any()):
            return None  # positions of other time steps hold other channels
        return first

    def _numbers(self) -> Tensor:
        """The channel of every element, in the order in which the layer that made the channels has them."""
        total = torch.zeros((1,) * len(self.shape), dtype=torch.int64)
        for at, own in enumerate(self.axes):
            along = torch.zeros(1, dtype=torch.int64)
            for factor in own:  # outermost first
                along = (along[:, None] + _positions(factor)[None]).flatten()
            total = total + along.view([-1 if d == at else 1 for d in range(len(self.shape))])
        return torch.unique(total, return_inverse=True)[1].expand(self.shape)


def _positions(factor: Factor) -> Tensor:
    steps = torch.arange(factor.size)
    return factor.start + factor.stride * steps if factor.kind == CHANNEL else torch.zeros_like(steps)


def neuron_axes(model: nn.Module, images: Tensor, forward: Forward, predicate: Any) -> dict[str, NeuronAxes]:
    """The axes of every spiking layer by its path, from one image of a batch.

    Raises:
        SpikeattnError: the pass over one image fails.
    """
    neurons = nodes.find_neurons(model, predicate)
    graph = graph_of(model, images[:1], forward, neurons, values=False)
    found: dict[str, NeuronAxes] = {}
    for node in graph.nodes:
        if node.kind == NEURON:
            found.setdefault(node.path, NeuronAxes(node.shape, node.axes))
    return found
