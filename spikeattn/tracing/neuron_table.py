"""The table of neurons: one entry per kind, which says all that the tracer does not find out by itself.

A neuron of a kind that is not in the table is the user's own (`neurons=`): it is looked into, and weights inside it are
listed as uncounted. `register` adds a kind.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn

from spikeattn.tracing.foreign_neurons import FOREIGN
from spikeattn.tracing.neuron_kind import ALL, ARGUMENT, CURRENTS, ONE, OWN_SPIKES, InnerSynapse, NeuronKind


def _causal_band(neuron: nn.Module, T: int) -> int:
    """Connections of a [T, T] matrix over the last k steps."""
    steps: Any = neuron.k
    return sum(min(step + 1, int(steps)) for step in range(T))


def _masked_band(neuron: nn.Module, T: int) -> int:
    """While a MaskedPSN learns its mask (lambda below 1) every step still meets every other."""
    learned: Any = neuron.lambda_
    return _causal_band(neuron, T) if float(learned) >= 1 else T * T


# Under its present name and the one that it had up to 0.0.0.0.12, for which much published code is written.
_SPIKINGJELLY = ("spikingjelly.activation_based.neuron", "spikingjelly.clock_driven.neuron")
_SPIKINGJELLY_RNN = ("spikingjelly.activation_based.rnn", "spikingjelly.clock_driven.rnn")
_POPULATION = (InnerSynapse("conn.weight", OWN_SPIKES),)
_GATES = (InnerSynapse("linear_ih.weight", ARGUMENT), InnerSynapse("linear_hh.weight", ARGUMENT))


def _sj(name: str, **facts: Any) -> NeuronKind:
    return NeuronKind(_SPIKINGJELLY, name, **facts)


# The first kind that fits is that of a neuron.
TABLE: list[NeuronKind] = [
    _sj("NonSpiking", spiking=False),  # emit membrane potentials
    _sj("NoisyNonSpiking", spiking=False),
    # Levels, signs, learned amplitudes, potentials.
    *map(_sj, ("ILIF", "Ternary", "STBIF", "FewSpike", "FS", "DSR", "QANN", "IFNodeQ", "FlexSN", "LIAF")),
    _sj("NoisyILC", steps=ALL, synapses=_POPULATION),  # noise may be added to the spikes
    _sj("Noisy", steps=ALL),
    _sj("ILC", steps=ALL, binary=True, synapses=_POPULATION),
    _sj("PSN", steps=ALL, binary=True, synapses=(InnerSynapse("weight", CURRENTS),)),
    _sj("MaskedPSN", binary=True, synapses=(InnerSynapse("weight", CURRENTS, _masked_band),)),
    _sj("SlidingPSN", binary=True, synapses=(InnerSynapse("weight", CURRENTS, _causal_band),)),
    _sj("BaseNode", binary=True),
    _sj(""),
    NeuronKind(("spikeattn.compat.lif",), "BaseNode", binary=True),  # where SpikingJelly is absent or old, and of NIR
    NeuronKind(_SPIKINGJELLY_RNN, "SpikingLSTMCell", steps=ONE, spikes=0, state_spikes=True, synapses=_GATES),
    NeuronKind(_SPIKINGJELLY_RNN, "SpikingRNNCell", steps=ONE, spikes=0, synapses=_GATES),
    *FOREIGN,
]


def register(kind: NeuronKind) -> None:
    """Add a kind of neurons; it comes before those that are there."""
    TABLE.insert(0, kind)
    kind_of_class.cache_clear()


def kind_of(module: nn.Module) -> NeuronKind | None:
    """The kind of a module; None for what is no neuron, or one of the user's own."""
    cls: Any = type(module)
    return kind_of_class(cls)


@cache
def kind_of_class(cls: type) -> NeuronKind | None:
    """The kind of a class, which is asked for at every call of every module."""
    return next((kind for kind in TABLE if kind.covers(cls)), None)
