"""What the sums of an epoch are sums of: the same on every rank, and known after the first batch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod

from torch import Tensor

from spikeattn.storage.columns import Key
from spikeattn.storage.counts import BatchCounts
from spikeattn.storage.ledger import Ledger
from spikeattn.structure.neuron_channels import NeuronAxes
from spikeattn.tracing.taps import Plan, Tap

PLACES = 1 << 24  # neurons that are counted one by one: 64 MB of int32, as much as `sa.record` keeps in memory


@dataclass(frozen=True, eq=False)
class Layer:
    """A spiking layer whose neurons, or channels, are counted apart.

    Attributes:
        shape: of its neurons for one image and time step.
        channel: [neurons], the channel of each; None where it is not known.
        channels: how many there are; 0 where they are not known.
        single: its neurons are counted one by one; else its channels.
        positions: how often a neuron is asked whether it fires, per image.
        start: where its sums begin in the state.
    """

    name: str
    shape: tuple[int, ...]
    channel: Tensor | None
    channels: int
    single: bool
    positions: int
    start: int = 0

    @property
    def neurons(self) -> int:
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Entries of the state that are its own."""
        return self.neurons if self.single else self.channels


@dataclass(frozen=True, eq=False)
class Layout:
    """What every entry of the states of a metric stands for.

    Attributes:
        columns: measure, name and number of time steps of each column of counts, one behind the other.
        flags: tensors whose values are looked at, with the number of their flags.
        extremes: tensors whose smallest and largest values are kept.
        layers: spiking layers, in the order of the network.
    """

    ledger: Ledger
    columns: tuple[tuple[Key, int], ...]
    flags: tuple[tuple[str, int], ...]
    extremes: tuple[str, ...]
    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, plan: Plan, layers: tuple[Layer, ...], counts: BatchCounts) -> Layout:
        """The layout that the first pass shows."""
        return cls(
            plan.ledger,
            tuple((key, len(column)) for key, column in counts.counts.items()),
            tuple((name, len(flags)) for name, flags in counts.flags.items()),
            tuple(counts.extremes),
            layers,
        )

    @property
    def places(self) -> int:
        """Neurons and channels that are counted apart."""
        return sum(layer.size for layer in self.layers)

    def digest(self) -> str:
        """Sha256 of all that must be equal where sums are added up."""
        layers = [(each.name, each.shape, each.channels, each.single, each.positions) for each in self.layers]
        text = repr((self.ledger.hash(), self.columns, self.flags, self.extremes, layers))
        return hashlib.sha256(text.encode()).hexdigest()


def layers_of(plan: Plan, axes: Mapping[str, NeuronAxes], limit: int = PLACES) -> tuple[Layer, ...]:
    """The spiking layers of a plan; the smallest ones are counted neuron by neuron, as far as the limit goes."""
    tensors = {t.name: t for t in plan.ledger.tensors if t.maker == "neuron"}
    found = [_layer(tap, tensors[tap.name].elements, axes.get(tap.name)) for tap in plan.taps
             if tap.tensor and tap.name in tensors]  # fmt: skip
    left, single = limit, set[str]()
    for layer in sorted(found, key=lambda each: each.neurons):
        if layer.neurons <= left:
            left -= layer.neurons
            single.add(layer.name)
    sized = [Layer(e.name, e.shape, e.channel, e.channels, e.name in single, e.positions) for e in found]
    starts = accumulate((layer.size for layer in sized), initial=0)
    return tuple(
        Layer(e.name, e.shape, e.channel, e.channels, e.single, e.positions, start)
        for e, start in zip(sized, starts, strict=False)
    )


def _layer(tap: Tap, elements: int, axes: NeuronAxes | None) -> Layer:
    steps = tap.axes.steps
    repeats = len(steps) // len(set(steps)) if steps else 1  # runs of one neuron in a time step
    channel = None if axes is None else axes.channels(lambda x: tap.axes.split(x, 1))
    if channel is not None and channel.numel() != elements // repeats:
        channel = None  # what is counted is not what the axes are of
    shape = (elements // repeats,) if channel is None else tuple(channel.shape)
    numbers = None if channel is None else channel.reshape(-1)
    channels = 0 if numbers is None else int(numbers.max()) + 1
    return Layer(tap.name, shape, numbers, channels, False, len(tap.at) * max(len(steps), 1))
