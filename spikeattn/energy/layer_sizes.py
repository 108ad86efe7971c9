"""How large the layers of an ANN are: the words of each that an energy model with memory reads, writes and addresses.

Of a twin by hand they stand in the ledger of the spiking network; of an ANN that runs, in the shapes that its
operations receive (`shapes_of_ann`). Per image, as everything of a `DenseTwin`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import Synapse
from spikeattn.structure.entry import OTHER, Extent


@dataclass(frozen=True)
class LayerSizes:
    """One layer, or one matrix product, of an ANN.

    Attributes:
        layer: its name, as in `DenseTwin.layers`; the two products of a softmax attention bear one name.
        part: "SPS", "QKV", "attention", ...
        macs: multiply-accumulates.
        inputs, outputs: elements of what it receives and of what it makes.
        weights: numbers it multiplies the inputs with; of a matrix product, elements of the second operand.
        biases: numbers that it adds, one per output channel; 0 where it has none.
        kernel: of a convolution, output channels x kernel size; 0 of a linear layer and of a product.
    """

    layer: str
    part: str
    macs: int
    inputs: int
    outputs: int
    weights: int
    biases: int = 0
    kernel: int = 0


@dataclass(frozen=True)
class TwinSizes:
    """The layers of an ANN with their sizes, and in words what of it nobody knows the size of."""

    layers: tuple[LayerSizes, ...]
    unknown: tuple[str, ...] = ()

    def measured(self, macs: dict[str, int]) -> TwinSizes:
        """Where the multiply-accumulates of a layer have been measured to be others, its sizes are not known.

        Args:
            macs: of every layer, by name; 0 where it has gone with the neuron in which it stood.
        """
        own: dict[str, int] = {}
        for size in self.layers:
            own[size.layer] = own.get(size.layer, 0) + size.macs
        same = tuple(size for size in self.layers if macs.get(size.layer, 0) == own[size.layer])
        other = [name for name, count in own.items() if macs.get(name, 0) not in (0, count)]
        return replace(self, layers=same, unknown=(*self.unknown, *other))


def size_of_layer(synapse: Synapse, ledger: Ledger) -> LayerSizes | None:
    """A layer of a spiking network, run once on real numbers; None in runs of versions that recorded no weights."""
    if not synapse.weights or not synapse.output_elements:
        return None
    return LayerSizes(
        synapse.name,
        synapse.part or OTHER,
        synapse.dense_macs,
        ledger.tensor(synapse.input).elements,
        synapse.output_elements,
        synapse.weights,
        synapse.biases,
        synapse.out_channels * prod(synapse.kernel) if synapse.kernel else 0,
    )


def sizes_of_attention(layer: str, part: str, extent: Extent, heads: int | None) -> Iterator[LayerSizes]:
    """The two products of softmax attention of one size: q k^T, whose outputs are the scores, and scores x v.

    Each works as a linear layer whose weights are its second operand. In every head and window there is a score for
    each pair of a query and a key.

    Args:
        heads: None where nobody knows them: one head, which is the fewest scores there can be.
    """
    pairs = extent.windows * extent.queries * extent.keys
    scores = pairs * (heads or 1)
    queries, keys = extent.windows * extent.queries, extent.windows * extent.keys
    yield LayerSizes(layer, part, pairs * extent.channels, queries * extent.channels, scores, keys * extent.channels)
    yield LayerSizes(layer, part, pairs * extent.values, scores, queries * extent.values, keys * extent.values)
