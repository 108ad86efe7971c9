"""What the table of neurons says of one kind of neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

# What a weight inside a neuron meets.
OWN_SPIKES, CURRENTS, STATE, ARGUMENT = "own spikes", "currents", "state", "argument"
# How many time steps a call covers.
BY_MODE, ONE, ALL, FOUND = "by its step_mode", "one", "all", "found"


@dataclass(frozen=True)
class InnerSynapse:
    """A weight inside a neuron: the connections of a kind of neurons that are synapses.

    Parameters that act element by element (time constants, gates, thresholds) are dynamics and no synapses.

    Attributes:
        weight: path of the parameter inside the neuron, such as "conn.weight"; "conn.*" for every weight matrix below.
        meets: OWN_SPIKES of an earlier step, the CURRENTS that reach the membrane (real numbers, so each is a MAC), the
            STATE that an earlier step has left, such as the membrane potential (real numbers again), or whatever
            the neuron is called with and has handed out (ARGUMENT): spikes where these are.
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
        whole: whether `name` is the whole name.
        spiking: whether it emits spikes at all.
        binary: it emits 0 and 1 by construction where its surrogate function is a Heaviside step; else its levels are
            measured.
        steps: how many time steps a call covers: BY_MODE, ONE or ALL; FOUND where its axes are found on the run.
        order: axes of a call that covers all steps; any order but "TB" is read off the labels.
        spikes: which of the tensors that it returns are its spikes; None to find out.
        state_spikes: what it returns beside them is 0 or 1 as well, by construction.
        reset: the method that empties its state.
        state: buffers that a new neuron has empty and its first call fills; a reset empties them again, which a method
            of the framework does not do where it keeps their shape.
        synapses: the weights inside it.
    """

    package: tuple[str, ...]
    name: str = ""
    whole: bool = False
    spiking: bool = True
    binary: bool = False
    steps: str = BY_MODE
    order: str = "TB"
    spikes: int | None = None
    state_spikes: bool = False
    reset: str = "reset"
    state: tuple[str, ...] = ()
    synapses: tuple[InnerSynapse, ...] = ()

    def covers(self, cls: type) -> bool:
        """Whether a class is of this kind."""
        return any(c.__module__.startswith(self.package) and self._named(c.__name__) for c in cls.__mro__)

    def _named(self, name: str) -> bool:
        return name == self.name if self.whole else name.startswith(self.name)
