"""Energy models beyond arithmetic: what a network does besides multiplying and adding, and in which memory.

`compute` is the arithmetic of `estimate.energy` alone. The others follow E. Lemaire et al., An Analytical Estimation of
Spiking Neural Networks Energy Efficiency (ICONIP 2022, arXiv 2210.13107), as SpikingJelly's LemaireEnergyProfiler reads
it: an event-driven machine in which every layer has its own memories, every spike is a message, and every addition of a
weight reads the weight and reads and writes a membrane potential. Per image, with F additions of weights and S spikes
that reach a layer, T steps, N neurons:

    compute             additions of weights, multiply-accumulates, products of spikes: as in `estimate.energy`
    biases              one addition per output element and step of a layer with biases
    neuron_updates      one addition per spike that leaves a neuron: its reset
    leak                one multiply-accumulate per leaky neuron and step: N T
    addressing          per spike: one addition per weight it meets and, in a convolution, two multiply-accumulates; in
                        a layer of real inputs: in + out additions, in a convolution C_out k^2 more
    memory_weights      F words, or one per multiply-accumulate, and the biases
    memory_activations  S words into a layer and S words out of the neurons, through queues of 1000 words; real inputs:
                        one word per multiply-accumulate of a convolution, one per input of a linear layer
    memory_potentials   2 F words at the layers, 2 N T words at the neurons

A word costs one access of a memory as large as what it comes from (all weights of the layer, all its membrane
potentials), interpolated linearly between 0, the memories of the cost table, and constant beyond the largest: a larger
buffer is several of them. The memories are Horowitz's; SpikingJelly takes the same prices.

`lemaire-2022` equals LemaireEnergyProfiler to the last operation, word and pJ where both can count: single-step binary
networks with the first layer at every step, images one by one. The differences: there, a layer that receives anything
but 0 and 1 is dense (here integer spikes count by value), buffers hold the whole batch and, of real inputs and of plain
torch layers, all time steps (here one step of one image), other neurons than IF and LIF are refused, and a first layer
runs at every step also on a still image. `compute+memory` charges the weights that spikes really meet, which the
nominal k^2 per spike overstates: in a padded 3x3 convolution of stride 2 by 4.3 (reads, addresses, potentials) and 1.9
(additions), in one of stride 1 by the border. Its weight reads, bias reads and neuron states equal those of
SpikingJelly's SimpleEnergyProfiler, which prices every byte at 24.96 pJ whatever memory it is in; that price, and the
models NeuroMC and SpikeSim, are not offered here.

Left out, here as there: pools, batch norms (they fold into the weights), memory and addresses of products of spikes
(token sums, q k^T: their additions are in `compute`), keeping the output of a first layer that runs once for a still
image, control and leakage currents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np

from spikeattn.energy.activity import Constant, Count, Source
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import CostTable
from spikeattn.energy.models.registry import EnergyModel
from spikeattn.energy.rules import terms_of
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Synapse
from spikeattn.structure.entry import OTHER

COMPONENTS = (
    "compute", "biases", "neuron_updates", "leak", "addressing",
    "memory_weights", "memory_activations", "memory_potentials",
)  # fmt: skip
NOT_LEAKY = ("IFNode", "SimpleIFNode", "HalfThresholdIFNode", "TernaryIFNode", "ActivationAwareIFNode")
LEAKY = ("LIFNode", "ParametricLIFNode", "SimpleLIFNode", "TernaryLIFNode", "ILIFNode")  # one state, decaying


@dataclass(frozen=True)
class Line:
    """`factor` x the sum of `source` over the steps, per image: operations, or words if `buffer` is given.

    Attributes:
        name: the synapse, product or tensor.
        what: in words, such as "weight reads".
        op: the operation that prices it; None for words.
        buffer: words of the memory that they come from or go to.
        ceiling: the largest amount of one image; infinite for integer spikes.
    """

    name: str
    part: str
    component: str
    what: str
    source: Source
    factor: float
    ceiling: float
    op: str | None = None
    buffer: int | None = None


def lines_of(ledger: Ledger, convention: Convention, model: EnergyModel) -> list[Line]:
    """Everything that the model charges, row by row of the ledger.

    Raises:
        SpikeattnError: the ledger does not hold numbers of weights (it is of an earlier version).
    """
    if model.fan_out == "nominal":  # SpikingJelly's reading of the paper prices layers and neurons, no residual sums
        convention = replace(convention, additions="free")
    nominal = {s.name for s in ledger.synapses if ledger.tensor(s.input).spikes} if model.fan_out == "nominal" else ()
    lines = [
        Line(t.name, t.part, "compute", f"{t.op}s", t.source, t.factor, t.ceiling, op=t.op)
        for t in terms_of(ledger, convention)
        if not (model.memory and t.name in nominal)
    ]
    if not model.memory:
        return lines
    bare = [synapse.name for synapse in ledger.synapses if synapse.weights == 0]
    if bare:
        raise SpikeattnError(
            f"energy model {model.name!r} needs the number of weights of every layer, which this run does not hold "
            f"({bare[0]}); profile again with this version, or take model='compute'"
        )
    charges = _Charges(ledger, convention, model)
    for synapse in ledger.synapses:
        spikes = ledger.tensor(synapse.input).spikes
        lines += charges.spikes_into(synapse) if spikes else charges.values_into(synapse)
    for tensor in ledger.tensors:
        lines += charges.neurons(tensor) if tensor.maker == "neuron" else ()
    return lines


class _Charges:
    """What one layer or one population of neurons is charged besides its arithmetic."""

    def __init__(self, ledger: Ledger, convention: Convention, model: EnergyModel) -> None:
        self.ledger, self.convention, self.model = ledger, convention, model

    def spikes_into(self, synapse: Synapse) -> Iterator[Line]:
        """A layer that spikes reach: every spike is a message that reads weights and updates potentials."""
        tensor = self.ledger.tensor(synapse.input)
        once, steps = not synapse.every_step, self.ledger.time_steps if synapse.every_step else 1
        bounded = tensor.kind in ("binary", "ternary")
        spikes = Count("abs", tensor.name, once)
        most = float(tensor.elements * steps) if bounded else np.inf
        nominal = self.model.fan_out == "nominal"
        reach = synapse.kernel_fan_out
        met = (spikes, reach) if nominal else (Count("fan_abs", synapse.name, once), 1)
        met_most = most * reach if nominal else float(synapse.dense_macs * steps) if bounded else np.inf
        if nominal:
            added = synapse.out_channels // synapse.groups
            added *= prod(ceil(k / s) for k, s in zip(synapse.kernel, synapse.stride, strict=True))
            yield self._line(synapse, "compute", "sops", spikes, added, most * added, op="sop")
        yield from self._biases(synapse, steps)
        yield self._line(synapse, "addressing", "additions", *met, met_most, op="address_add")
        if synapse.kernel:  # to find the first output of a spike
            yield self._line(synapse, "addressing", "additions of products", spikes, 2, 2 * most, op="address_add")
            yield self._line(synapse, "addressing", "multiplications", spikes, 2, 2 * most, op="address_mult")
        weights, potentials = synapse.weights + synapse.biases, synapse.output_elements
        yield self._line(synapse, "memory_weights", "weight reads", *met, met_most, buffer=weights)
        queue = self.model.queue_words
        yield self._line(synapse, "memory_activations", "spike reads", spikes, 1, most, buffer=queue)
        for what in ("potential reads", "potential writes"):
            yield self._line(synapse, "memory_potentials", what, *met, met_most, buffer=potentials)

    def values_into(self, synapse: Synapse) -> Iterator[Line]:
        """A layer of real inputs: dense multiply-accumulates, each with its weight and, in a convolution, its input."""
        tensor = self.ledger.tensor(synapse.input)
        again = self.convention.first_conv == "every-step" if tensor.maker == "input" else False
        once = (tensor.static or not synapse.every_step) and not again
        steps = 1 if once else self.ledger.time_steps
        yield from self._biases(synapse, steps)
        addresses = tensor.elements + synapse.output_elements
        if synapse.kernel:
            addresses += synapse.out_channels * prod(synapse.kernel)
        yield self._fixed(synapse, "addressing", "additions", addresses, steps, op="address_add")
        weights = synapse.weights + synapse.biases
        yield self._fixed(synapse, "memory_weights", "weight reads", synapse.dense_macs, steps, buffer=weights)
        reads = synapse.dense_macs if synapse.kernel else tensor.elements
        yield self._fixed(synapse, "memory_activations", "input reads", reads, steps, buffer=tensor.elements)

    def _biases(self, synapse: Synapse, steps: int) -> Iterator[Line]:
        if synapse.biases:
            weights = synapse.weights + synapse.biases
            outputs = synapse.output_elements
            yield self._fixed(synapse, "biases", "additions", outputs, steps, op="ac")
            yield self._fixed(synapse, "memory_weights", "bias reads", outputs, steps, buffer=weights)

    def neurons(self, tensor: CountedTensor) -> Iterator[Line]:
        """A population of neurons: leak and potential at every step, reset and message per spike."""
        steps, size = self.ledger.time_steps, tensor.elements
        most = float(size * steps)
        messages = most if tensor.kind in ("binary", "ternary") else np.inf
        resets = Count("nnz", tensor.name)
        yield self._line(tensor, "neuron_updates", "resets", resets, 1, most, op="ac")
        if tensor.neuron not in NOT_LEAKY:
            yield self._fixed(tensor, "leak", "multiply-accumulates", size, steps, op="mac")
        out = Count("abs", tensor.name)
        queue = self.model.queue_words
        yield self._line(tensor, "memory_activations", "spike writes", out, 1, messages, buffer=queue)
        for what in ("potential reads", "potential writes"):
            yield self._fixed(tensor, "memory_potentials", what, size, steps, buffer=size)

    def _fixed(
        self, owner: Synapse | CountedTensor, component: str, what: str, each: int, steps: int,
        op: str | None = None, buffer: int | None = None,
    ) -> Line:  # fmt: skip
        return self._line(owner, component, what, Constant(steps), each, float(each * steps), op, buffer)

    @staticmethod
    def _line(
        owner: Synapse | CountedTensor, component: str, what: str, source: Source, factor: float, most: float,
        op: str | None = None, buffer: int | None = None,
    ) -> Line:  # fmt: skip
        return Line(owner.name, owner.part or OTHER, component, what, source, factor, most, op, buffer)


def word_price(costs: CostTable, model: EnergyModel, words: int) -> float:
    """pJ of one word of a buffer that holds `words` of them."""
    assert costs.bits is not None
    size = words * costs.bits / 8
    on_chip = sorted((memory.bytes, memory) for memory in costs.memory.values() if memory.bytes is not None)
    if model.off_chip and size > on_chip[-1][0]:
        outside = next(memory for memory in costs.memory.values() if memory.bytes is None)
        return outside.pj * _accesses(costs.bits, outside.access_bits, model.packed)
    prices = [memory.pj * _accesses(costs.bits, memory.access_bits, model.packed) for _, memory in on_chip]
    return float(np.interp(size, [0, *(size for size, _ in on_chip)], [0, *prices]))


def check_prices(costs: CostTable, model: EnergyModel) -> None:
    """Refuse a cost table that lacks what the model charges.

    Raises:
        SpikeattnError: prices of memories, bits of a word or prices of operations are missing.
    """
    if not model.memory:
        return
    needed = ("mac", "ac", "address_add", "address_mult")
    missing = [f"[entries.{op}]" for op in needed if not costs.has(op)]
    if costs.bits is None:
        missing.append("bits")
    if not any(memory.bytes is not None for memory in costs.memory.values()):
        missing.append("[memory.<name>] with bytes")
    if model.off_chip and not any(memory.bytes is None for memory in costs.memory.values()):
        missing.append("[memory.<name>] without bytes (off the chip)")
    if missing:
        hint = " A chip's energy per synaptic operation cannot be split." if not costs.has("mac") else ""
        raise SpikeattnError(
            f"cost table {costs.name!r} lacks {', '.join(missing)}, which energy model {model.name!r} needs.{hint} "
            "Take a table that has them, such as horowitz-45nm-int32, add them to yours, or take model='compute'"
        )


def _accesses(bits: int, access_bits: int, packed: bool) -> float:
    return bits / access_bits if packed else ceil(bits / access_bits)
