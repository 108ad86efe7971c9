"""The ANN quantised to what T time steps of spikes can tell apart: the bits of every layer and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.energy.accumulators import INT8
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.dense_twin import DenseTwin
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor

QUANTISED = INT8  # what the ANN of few bits, and the spiking network beside it, are priced in
_LIMITS = {"binary": (0.0, 1.0), "ternary": (-1.0, 1.0)}  # of a kind of spikes where the run did not look


def matched_bits(ledger: Ledger) -> tuple[dict[str, int], int]:
    """Bits that tell apart as many levels as the spikes of T steps: b = ceil(log2((max - min) x T + 1)).

    max and min are in units of the spikes, so 0 and 1 give ceil(log2(T + 1)).

    Returns:
        The bits by synapse and product, of the operand with the most levels; and the most bits of any of these.
    """
    T = ledger.time_steps
    read: dict[str, tuple[str, ...]] = {synapse.name: (synapse.input,) for synapse in ledger.synapses}
    read |= {product.name: product.operands for product in ledger.products}
    bits = {
        name: max((T * _levels(ledger.tensor(operand))).bit_length() for operand in operands)
        for name, operands in read.items()
    }
    return bits, max(bits.values(), default=T.bit_length())


def _levels(tensor: CountedTensor) -> int:
    """How many units the largest value of a tensor lies above its smallest, silence being one of the values.

    1, as of binary spikes, for a tensor that is no train of spikes, and for integer spikes whose limits nobody knows.
    """
    if tensor.number or tensor.summed or not tensor.spikes or tensor.maker == "input":
        return 1
    low, high = tensor.low, tensor.high
    if low is None or high is None:
        low, high = _LIMITS.get(tensor.kind, (0.0, 1.0))
    return max(round(max(high, 0.0) - min(low, 0.0)), 1)


@dataclass(frozen=True, eq=False)
class QuantisedAnn:
    """The twin of a spiking network with as many levels as its spikes have.

    Attributes:
        time_steps: of the spiking network.
        inner: [layers], all but those that read the image, which keep 8 bits.
        bits: [layers], each its own where they are the layers of the spiking network, else the largest of these.
    """

    time_steps: int
    inner: NDArray[np.bool_]
    bits: Floats

    @classmethod
    def of(cls, ledger: Ledger, twin: DenseTwin) -> QuantisedAnn:
        """The quantised `twin` of the spiking network of this ledger."""
        own, most = matched_bits(ledger)
        names, inner = list(twin.layers["layer"]), ~twin.layers["reads_image"].to_numpy(dtype=bool)
        bits = [own[name] for name in names] if set(names) <= set(own) else [most] * len(names)
        return cls(ledger.time_steps, inner, np.array(bits, dtype=float))

    @property
    def most_bits(self) -> int:
        """The most bits of any layer behind the first."""
        return int(self.bits[self.inner].max()) if self.inner.any() else self.time_steps.bit_length()

    def pj(self, costs: CostTable | None = None) -> Floats:
        """pJ of one multiply-accumulate of every layer: an int8 multiplication x bits / 8 + an addition (ours).

        Args:
            costs: a table of int8; default `QUANTISED`, whose additions are of 32 bits.
        """
        int8 = costs or get_costs(QUANTISED)
        narrow = int8.price("mult") * self.bits / 8 + int8.price("add")
        return np.where(self.inner, narrow, int8.price("mac"))

    def bits_note(self) -> Note:
        """How many bits, and what one multiply-accumulate costs."""
        each, most, T = self.bits[self.inner], self.most_bits, self.time_steps
        steps = "binary steps" if most == T.bit_length() else "steps of these spikes"
        least, b = (f"{each.min():.0f} to ", "b") if len(set(each)) > 1 else ("", str(most))
        text = (
            f"{least}{most} bits tell apart as many levels as {T} {steps} (arXiv 2409.08290); multiply-accumulate = "
            f"int8 multiplication x {b}/8 + 32-bit addition (our choice), 8 bits in the layer that reads the image"
        )
        return Note("quantised", text)
