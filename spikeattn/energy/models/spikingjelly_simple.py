"""`spikingjelly-simple`: every byte at one price, as SpikingJelly 2's SimpleEnergyProfiler counts.

Its counters find: a MAC per multiplication of a layer or product with real inputs; an AC per addition of spikes; per
byte moved: a weight per MAC or addition, a bias per output element and step (whose addition it does not count), and one
read and one write of the state per neuron and step. The additions and subtractions inside a neuron are counted as torch
executes them: 6 per LIF neuron and step and 4 per IF neuron on a CPU (SpikingJelly 2.0.0), where charge, threshold and
hard reset are lines of Python; a fused kernel on a GPU shows it none. They are a component of their own here. Version
2.0.0 also counts a few additions of its own: its counter of memory sums where a padded or strided kernel lies.
"""

from __future__ import annotations

from collections.abc import Iterator

from spikeattn.energy.models.memory import NOT_LEAKY
from spikeattn.energy.models.network_events import NetworkEvents
from spikeattn.energy.models.record import Charge, ModelConstant, ModelRecord, NamedModel
from spikeattn.energy.rules import Term

MAC_PJ, AC_PJ, BYTE_PJ, WORD_BYTES = 4.6, 0.9, 24.96, 4
LIF_ADDITIONS, IF_ADDITIONS = 6, 4
_WORD_PJ = BYTE_PJ * WORD_BYTES
_SOURCE = "SpikingJelly 2.0.0, op_counter.SimpleEnergyCostConfig.fp32"
_COUNTED = "counted by its ACCounter on a CPU, SpikingJelly 2.0.0"


def _snn(network: NetworkEvents) -> Iterator[Charge]:
    biases = network.bias_steps()
    for term in (*network.additions(), *network.multiplications()):
        price, what = _operation(term)
        yield Charge("compute", what, term, price)
        yield Charge("parameters", "weight reads", term, _WORD_PJ)
    for term in network.products():
        price, what = _operation(term)
        yield Charge("compute", what, term, price)
    for term in biases:
        yield Charge("parameters", "bias reads", term, _WORD_PJ)
    for tensor, term in zip(network.populations(), network.neuron_steps(), strict=True):
        additions = IF_ADDITIONS if tensor.neuron in NOT_LEAKY else LIF_ADDITIONS
        yield Charge("neuron arithmetic", "neurons and steps", term, additions * AC_PJ)
        yield Charge("neuron states", "reads and writes", term, 2 * _WORD_PJ)


def _operation(term: Term) -> tuple[float | None, str]:
    """Price and name of an operation; SpikingJelly has no rule for products of two masks."""
    if term.op == "mac":
        return MAC_PJ, "multiply-accumulates"
    return (None, "masks") if term.op == "mask" else (AC_PJ, "additions")


def _ann(network: NetworkEvents) -> Iterator[Charge]:
    for term in network.dense_layers():
        yield Charge("compute", "multiply-accumulates", term, MAC_PJ)
        yield Charge("parameters", "weight reads", term, _WORD_PJ)
    for term in network.dense_attention():
        yield Charge("compute", "multiply-accumulates", term, MAC_PJ)
    for term in network.dense_biases():
        yield Charge("parameters", "bias reads", term, _WORD_PJ)


NAMED_MODELS = (
    NamedModel(
        ModelRecord(
            name="spikingjelly-simple",
            title="arithmetic and every byte of parameters and states at one price",
            formula="E = E_MAC MACs + E_AC (additions of spikes + additions inside neurons) + E_byte 4 (weight reads + "
            "bias reads + 2 states); the ANN: E_MAC MACs + E_byte 4 (weight reads + bias reads)",
            source=f"{_SOURCE}; E_byte is the 3.12 pJ per bit of STEP (openreview.net, SzwU2XrXIS)",
            constants=(
                ModelConstant("E_MAC", MAC_PJ, "pJ per operation", _SOURCE),
                ModelConstant("E_AC", AC_PJ, "pJ per operation", _SOURCE),
                ModelConstant("E_byte", BYTE_PJ, "pJ per byte", _SOURCE),
                ModelConstant("word", WORD_BYTES, "bytes per weight, bias or state", f"{_SOURCE}, run in float32"),
                ModelConstant("LIF", LIF_ADDITIONS, "additions per neuron and step", _COUNTED),
                ModelConstant("IF", IF_ADDITIONS, "additions per neuron and step", _COUNTED),
            ),
            technology="45 nm",
            precision="fp32",
            inside=(
                "multiply-accumulates and additions",
                "additions inside neurons",
                "reads of weights and biases, reads and writes of neuron states",
            ),
            outside=(
                "spikes and activations in memory",
                "potentials at layers",
                "addressing",
                "additions of biases",
                "sizes of memories",
                "control and leakage",
            ),
            fidelity="analytic",
            checked_on="SpikingJelly 2.0.0's SimpleEnergyProfiler: equal to the last pJ on a network both can count",
        ),
        _snn,
        _ann,
    ),
)
