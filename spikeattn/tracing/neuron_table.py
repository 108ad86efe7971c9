"""The table of neurons: one entry per kind, which says all that the tracer does not find out by itself.

A neuron of a kind that is not in the table is the user's own (`neurons=`): it is looked into, and weights inside it are
listed as uncounted. `register` adds a kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn

# What a weight inside a neuron meets.
OWN_SPIKES, CURRENTS, ARGUMENT = "own spikes", "currents", "argument"
# How many time steps a call covers.
BY_MODE, ONE, ALL = "by its step_mode", "one", "all"


@dataclass(frozen=True)
class InnerSynapse:
    """A weight inside a neuron: the connections of a kind of neurons that are synapses.

    Parameters that act element by element (time constants, gates, thresholds) are dynamics and no synapses.

    Attributes:
        weight: path of the parameter inside the neuron, such as "conn.weight".
        meets: OWN_SPIKES of an earlier step, the CURRENTS that reach the membrane (real numbers, so each is a MAC), or
            whatever the neuron is called with and has handed out (ARGUMENT): spikes where these are.
        connections: entries of the weight matrix that the kind lets be other than zero, from the neuron and the shape
            of the matrix; None for all of them.
    """

    weight: str
    meets: str
    connections: Callable[[nn.Module, int], int] | None = None

    @property
    def name(self) -> str:
        """Path of the layer inside the neuron that the weight belongs to; of a bare parameter, its own."""
        return self.weight.removesuffix(".weight")


@dataclass(frozen=True)
class NeuronKind:
    """One kind of neurons.

    Attributes:
        package: where its class is defined, under each name that the package has had.
        name: what the name of the class, or of one that it derives from, begins with; "" for the whole package.
        spiking: whether it emits spikes at all.
        binary: it emits 0 and 1 by construction where its surrogate function is a Heaviside step; else its levels are
            measured.
        steps: how many time steps a call covers: BY_MODE, ONE or ALL.
        order: axes of a call that covers all steps; any order but "TB" is read off the labels.
        spikes: which of the tensors that it returns are its spikes; None to find out.
        state_spikes: what it returns beside them is 0 or 1 as well, by construction.
        reset: the method that empties its state.
        synapses: the weights inside it.
    """

    package: tuple[str, ...]
    name: str = ""
    spiking: bool = True
    binary: bool = False
    steps: str = BY_MODE
    order: str = "TB"
    spikes: int | None = None
    state_spikes: bool = False
    reset: str = "reset"
    synapses: tuple[InnerSynapse, ...] = ()

    def covers(self, cls: type) -> bool:
        """Whether a class is of this kind."""
        return any(c.__module__.startswith(self.package) and c.__name__.startswith(self.name) for c in cls.__mro__)


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
    NeuronKind(("spikeattn.compat.lif",), "BaseNode", binary=True),  # where SpikingJelly is absent or old
    NeuronKind(_SPIKINGJELLY_RNN, "SpikingLSTMCell", steps=ONE, spikes=0, state_spikes=True, synapses=_GATES),
    NeuronKind(_SPIKINGJELLY_RNN, "SpikingRNNCell", steps=ONE, spikes=0, synapses=_GATES),
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
