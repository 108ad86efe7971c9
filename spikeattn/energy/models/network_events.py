"""The events of a network as energy models count them: what happens at layers, at neurons and in products.

Every method returns terms (`rules.Term`): how many of its events an image has, layer by layer or population by
population, with the most that it can have.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from spikeattn.energy.activity import Constant, Count, Rate, Source
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import CostTable
from spikeattn.energy.dense_twin import dense_twin, twin_parts
from spikeattn.energy.rules import Term, multiplies, terms_of
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Product, Synapse
from spikeattn.structure.entry import OTHER


class NetworkEvents:
    """What a spiking network does on an image, and what the ANN beside it would do.

    Attributes:
        ledger: of the run.
        convention: `exact`, with the first layer once or at every step.
        costs: the cost table that the caller chose, for models that take their prices from one.
    """

    def __init__(self, ledger: Ledger, convention: Convention, costs: CostTable) -> None:
        self.ledger, self.convention, self.costs = ledger, convention, costs

    def additions(self) -> list[Term]:
        """Synaptic events: every spike that reaches a layer times the weights it meets, border and stride included."""
        return [term for term in self._terms if term.name in self._layers and term.op == "sop"]

    def multiplications(self) -> list[Term]:
        """Multiply-accumulates of layers that receive real numbers."""
        return [term for term in self._terms if term.name in self._layers and term.op != "sop"]

    def products(self) -> list[Term]:
        """Everything without weights: token sums, matrix products, masks (op "sop", "ac", "mac" or "mask")."""
        return [term for term in self._terms if term.name not in self._layers]

    def nominal_additions(self) -> list[Term]:
        """Rate x dense operations of layers that spikes reach: what the formulas of papers have, padding counted in."""
        return [
            self._term(synapse, "sop", synapse.dense_macs, Rate((tensor.name,), "abs", self._once(synapse)), tensor)
            for synapse, tensor in self.spiking_layers()
        ]

    def firing_shares(self) -> list[Term]:
        """Share of non-zero inputs x dense operations of layers that spikes reach."""
        return [
            self._term(synapse, "sop", synapse.dense_macs, Rate((tensor.name,), "nnz", self._once(synapse)), tensor)
            for synapse, tensor in self.spiking_layers()
        ]

    def dense_steps(self) -> list[Term]:
        """Dense operations of layers that spikes reach, at every time step that they run, whatever spikes."""
        return [
            self.fixed(synapse, "sop", synapse.dense_macs, self._steps(synapse)) for synapse, _ in self.spiking_layers()
        ]

    def arrivals(self) -> list[Term]:
        """Spikes that reach a layer, once for every layer that they reach; integer spikes by value."""
        return [
            self._term(synapse, "sop", 1, Count("abs", tensor.name, self._once(synapse)), tensor, tensor.elements)
            for synapse, tensor in self.spiking_layers()
        ]

    def neuron_steps(self) -> list[Term]:
        """Every neuron at every time step."""
        return [self.fixed(tensor, "ac", tensor.elements, self.ledger.time_steps) for tensor in self.populations()]

    def spikes(self) -> list[Term]:
        """Spikes that leave neurons; integer spikes by value."""
        return [
            self._term(tensor, "ac", 1, Count("abs", tensor.name), tensor, tensor.elements)
            for tensor in self.populations()
        ]

    def bias_steps(self) -> list[Term]:
        """Output elements of layers with biases, at every step that the layer runs.

        Raises:
            SpikeattnError: the ledger does not hold numbers of parameters (it is of an earlier version).
        """
        self.check_parameters()
        return [
            self.fixed(synapse, "ac", synapse.output_elements, self._steps(synapse))
            for synapse in self.ledger.synapses
            if synapse.biases
        ]

    def dense_layers(self) -> list[Term]:
        """The ANN beside it: the dense multiply-accumulates of every layer with weights, once."""
        return [self.fixed(synapse, "mac", synapse.dense_macs, 1) for synapse in self.ledger.synapses]

    def dense_attention(self) -> list[Term]:
        """The ANN beside it: its attention and its other matrix products, which have no weights."""
        layers = {synapse.name for synapse in twin_parts(self.ledger).synapses}
        rows = dense_twin(self.ledger).layers.to_dict("records")
        return [
            Term(row["layer"], row["part"], None, "mac", row["macs"], Constant(1), float(row["macs"]))
            for row in rows
            if row["layer"] not in layers
        ]

    def activations(self) -> list[Term]:
        """The ANN beside it: one activation in place of every spiking neuron, once."""
        return [self.fixed(tensor, "ac", tensor.elements, 1) for tensor in self.populations()]

    def dense_biases(self) -> list[Term]:
        """The ANN beside it: output elements of layers with biases, once."""
        self.check_parameters()
        return [self.fixed(s, "ac", s.output_elements, 1) for s in self.ledger.synapses if s.biases]

    def spiking_layers(self) -> list[tuple[Synapse, CountedTensor]]:
        """Layers that add weights for spikes, each with the tensor that it receives."""
        pairs = ((synapse, self.ledger.tensor(synapse.input)) for synapse in self.ledger.synapses)
        return [(synapse, tensor) for synapse, tensor in pairs if not multiplies(tensor, self.convention)]

    def populations(self) -> list[CountedTensor]:
        """Tensors that neurons make."""
        return [tensor for tensor in self.ledger.tensors if tensor.maker == "neuron"]

    def check_parameters(self) -> None:
        """Refuse a run that does not hold numbers of weights and biases.

        Raises:
            SpikeattnError: the ledger is of a version that did not record them.
        """
        bare = [synapse.name for synapse in self.ledger.synapses if synapse.weights == 0]
        if bare:
            raise SpikeattnError(
                f"this run does not hold how many weights and biases its layers have ({bare[0]}); profile again with "
                "this version"
            )

    @staticmethod
    def fixed(row: Synapse | Product | CountedTensor, op: str, each: int, times: int) -> Term:
        """As many events at each of so many time steps, whatever spikes."""
        return Term(row.name, row.part or OTHER, row.block, op, each, Constant(times), float(each * times))

    @cached_property
    def _terms(self) -> tuple[Term, ...]:
        return terms_of(self.ledger, self.convention)

    @cached_property
    def _layers(self) -> frozenset[str]:
        return frozenset(synapse.name for synapse in self.ledger.synapses)

    @staticmethod
    def _once(synapse: Synapse) -> bool:
        return not synapse.every_step

    def _steps(self, synapse: Synapse) -> int:
        """At how many steps a layer runs: a still image goes through the first one once, unless the caller says."""
        tensor = self.ledger.tensor(synapse.input)
        again = tensor.maker == "input" and self.convention.first_conv == "every-step"
        once = (tensor.static or not synapse.every_step) and not again
        return 1 if once else synapse.runs or self.ledger.time_steps

    def _term(
        self, row: Synapse | CountedTensor, op: str, factor: float, source: Source, tensor: CountedTensor,
        most: int | None = None,
    ) -> Term:  # fmt: skip
        """A term whose most is `most`, or `factor`, at every step; integer spikes have none."""
        assert isinstance(source, Count | Rate)
        steps = 1 if source.once else self.ledger.time_steps
        bounded = tensor.kind in ("binary", "ternary") or (isinstance(source, Rate) and source.by == "nnz")
        ceiling = float((factor if most is None else most) * steps) if bounded else np.inf
        return Term(row.name, row.part or OTHER, row.block, op, factor, source, ceiling)
