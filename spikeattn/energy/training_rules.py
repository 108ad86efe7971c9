"""What one training step of an image computes, by phase: forward, backward, update; and under which convention.

Backpropagation through time with surrogate gradients, per image and step, from the same ledger and counts as inference:

    forward            what `exact` counts in inference: additions of spikes, dense MACs of a real input
    weight gradients   an outer product of input and error: a spike selects the error and adds it to every weight that
                       it meets, as many additions as in the forward pass; a real input multiplies, dense MACs. A bias
                       adds up the error of its outputs. Of a product of spikes A @ B: dA = dY @ B^T and dB = A^T @ dY,
                       the non-zero elements of the other operand select, each in as many places as it is used
    input gradients    dense MACs with the transposed weights, for an error is a real number; none for a layer that
                       reads the model's input, behind which nothing is trained
    neurons            error x surrogate derivative, one multiplication per neuron and step; from step to step of a
                       leaky neuron a multiply-accumulate, of one without leak an addition
    forks              where a tensor goes two ways (residual sums; q, k and v of one spike tensor) its errors are added
    update             operations per parameter of the optimiser, once per batch: each image bears 1 / batch of it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from spikeattn.boundary.arguments import shown
from spikeattn.energy.activity import Constant, Count
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.models.memory import NOT_LEAKY
from spikeattn.energy.rules import Term, gates, multiplies, terms_of, times_charged
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Product, Synapse
from spikeattn.structure.entry import OTHER

PHASES = ("forward", "weight gradients", "input gradients", "neurons", "forks", "update")
DEFAULT = "bptt-spikes"
WHOLE = "whole model"  # part of the update, which belongs to no layer

SWITCHES = {
    "forward": {
        "operations": "the operations of inference that take place (convention exact)",
        "dense": "every layer and product at every time step multiplies, whatever spikes",
    },
    "weight_gradient": {
        "spikes": "spikes select the errors that are added; real inputs multiply",
        "dense": "dense MACs, as hardware that skips no zeros computes them",
    },
}
OUTSIDE = (
    "memory traffic",
    "the loss and its gradient",
    "batch norms, which cannot be folded in training: their statistics, scaling and gradients",
    "evaluating the surrogate derivative, and the gradient through the reset",
    "membrane updates of the forward pass, as in inference under exact",
    "adding up the errors of the steps where a still image is repeated",
    "mixed-precision casts, gradient clipping, communication between devices",
)


@dataclass(frozen=True)
class TrainingConvention:
    """What is dense and what spikes in a training step; a value for every switch of `SWITCHES`, and who counts so.

    Raises:
        SpikeattnError: a switch has an unknown value.
    """

    name: str
    source: str
    forward: str = "operations"
    weight_gradient: str = "spikes"
    evidence: str = "own definition"

    def __post_init__(self) -> None:
        for switch, choices in SWITCHES.items():
            if str(getattr(self, switch)) not in choices:
                raise unknown(f"value of switch {switch!r}", str(getattr(self, switch)), choices)

    def switches(self) -> dict[str, str]:
        """The value of every switch."""
        return {switch: getattr(self, switch) for switch in SWITCHES}


PRESETS = {
    preset.name: preset
    for preset in (
        TrainingConvention(
            DEFAULT,
            "spikeattn: backpropagation through time where spikes select what is added, errors are dense; no paper "
            "prints the energy of a training step",
        ),
        TrainingConvention(
            "bptt-dense",
            "spikeattn: the same step where nothing skips a zero, as dense hardware runs it; no paper prints it",
            forward="dense",
            weight_gradient="dense",
        ),
    )
}


def get_training_convention(convention: str | TrainingConvention = DEFAULT) -> TrainingConvention:
    """The preset of this name, or the convention itself; an unknown name is an error with the closest."""
    if isinstance(convention, TrainingConvention):
        return convention
    if not isinstance(convention, str):
        raise SpikeattnError(f"convention is {shown(convention)}; give one of {', '.join(PRESETS)}")
    if convention not in PRESETS:
        raise unknown("training convention", convention, PRESETS)
    return PRESETS[convention]


@dataclass(frozen=True)
class Optimizer:
    """Operations per parameter and update; `formula` says how they are counted.

    Divisions and roots have no price in any cost table of the package and are reported as unpriced.
    """

    name: str
    formula: str
    source: str
    macs: float = 0
    mults: float = 0
    adds: float = 0
    divisions: float = 0
    roots: float = 0


_ADAM = "m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g; w = w - a*m/(sqrt(v) + e), bias corrections folded into a"
OPTIMIZERS = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", "w = w - a*g", "1 MAC per parameter", macs=1),
        Optimizer("sgd-momentum", "v = b*v + g; w = w - a*v", "2 MACs per parameter", macs=2),
        Optimizer(
            "adam", _ADAM, "Kingma and Ba, ICLR 2015 (arXiv 1412.6980), section 2", macs=3, mults=3, adds=1,
            divisions=1, roots=1,
        ),
        Optimizer(
            "adamw", f"w = (1 - a*l)*w; {_ADAM}", "Loshchilov and Hutter, ICLR 2019 (arXiv 1711.05101)", macs=3,
            mults=4, adds=1, divisions=1, roots=1,
        ),
    )
}  # fmt: skip


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """The optimiser of this name, or the record itself; an unknown name is an error with the closest."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise SpikeattnError(
            f"optimizer is {shown(optimizer)}; give one of {', '.join(OPTIMIZERS)}, or an Optimizer with the "
            "operations per parameter of yours"
        )
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    return OPTIMIZERS[optimizer]


def parameters_of(ledger: Ledger) -> int:
    """Parameters that an update changes; of a model that does not say, the weights and biases of its layers."""
    told = ledger.model.get("parameters")
    return told if isinstance(told, int) else sum(s.weights + s.biases for s in ledger.synapses)


def training_terms(
    ledger: Ledger, convention: TrainingConvention, optimizer: Optimizer, batch_size: int, first_conv: str = "once"
) -> Iterator[tuple[str, Term]]:
    """(phase, term) of one image's share of a training step; kinds "mult", "add", "division" and "root" are new.

    Raises:
        SpikeattnError: as `rules.terms_of`.
    """
    exact = get_convention("exact", first_conv=first_conv)
    step = _Step(ledger, exact, convention)
    yield from (("forward", term) for term in step.forward())
    for synapse in ledger.synapses:
        yield from step.synapse(synapse)
    for product in ledger.products:
        yield from step.product(product)
    for tensor in ledger.tensors:
        yield from step.neuron(tensor)
    yield from (("forks", term) for term in step.forks())
    kinds = {"mac": "macs", "mult": "mults", "add": "adds", "division": "divisions", "root": "roots"}
    for op, key in kinds.items():
        each = getattr(optimizer, key) * parameters_of(ledger) / batch_size
        if each:
            yield "update", Term("update", WHOLE, None, op, each, Constant(1), each)


class _Step:
    """One method per kind of row of a ledger, as of `rules`."""

    def __init__(self, ledger: Ledger, exact: Convention, convention: TrainingConvention) -> None:
        self.ledger, self.exact, self.convention = ledger, exact, convention
        self._terms = terms_of(ledger, exact)

    def forward(self) -> Iterator[Term]:
        """Inference; where everything is dense, spikes multiply as numbers do."""
        rows: list[Synapse | Product] = [*self.ledger.synapses, *self.ledger.products]
        dense = {row.name: row for row in rows}
        for term in self._terms:
            if self.convention.forward == "operations" or term.op != "sop":
                yield term
                continue
            row = dense[term.name]
            each = row.dense_macs if isinstance(row, Synapse) else row.elements
            yield self._fixed(row, "mac", each, self._times(row))

    def synapse(self, synapse: Synapse) -> Iterator[tuple[str, Term]]:
        """Gradients of the weights and biases, and of what the layer receives."""
        tensor, times = self.ledger.tensor(synapse.input), self._times(synapse)
        real = multiplies(tensor, self.exact)
        once = times_charged(self.ledger, synapse, self.exact) if real else times
        if real or self.convention.weight_gradient == "dense":
            yield "weight gradients", self._fixed(synapse, "mac", synapse.dense_macs, once)
        else:
            (term,) = (term for term in self._terms if term.name == synapse.name and term.op == "sop")
            yield "weight gradients", replace(term, op="ac")
        if synapse.biases:
            yield "weight gradients", self._fixed(synapse, "ac", synapse.output_elements, once)
        if self._trained_behind(tensor):
            yield "input gradients", self._fixed(synapse, "mac", synapse.dense_macs, once)

    def product(self, product: Product) -> Iterator[tuple[str, Term]]:
        """Errors of both operands; those of sums and means are copies, whose constant factor folds into a weight."""
        operands = [self.ledger.tensor(name) for name in product.operands]
        times = self._times(product)
        for place, operand in enumerate(operands):
            if product.op in ("token_sum", "average") or not self._trained_behind(operand):
                continue
            if product.op == "mask":
                yield "input gradients", self._fixed(product, "mask" if gates(operands) else "mult",
                                                     product.elements, times)  # fmt: skip
                continue
            other = operands[1 - place]
            if self.convention.weight_gradient == "dense" or not other.spikes or other.summed:
                yield "input gradients", self._fixed(product, "mac", product.elements, times)
                continue
            uses, once = product.elements / other.elements, not product.every_step
            ceiling = product.elements * times if other.kind in ("binary", "ternary") else float("inf")
            source = Count("abs", other.name, once)
            yield "input gradients", Term(product.name, product.part or OTHER, product.block, "ac", uses, source,
                                          float(ceiling))  # fmt: skip

    def neuron(self, tensor: CountedTensor) -> Iterator[tuple[str, Term]]:
        """The surrogate derivative at every step, and the error that comes from the step after."""
        if tensor.maker != "neuron":
            return
        T = self.ledger.time_steps
        yield "neurons", self._fixed(tensor, "mult", tensor.elements, T)
        if T > 1:
            yield "neurons", self._fixed(tensor, "ac" if tensor.neuron in NOT_LEAKY else "mac", tensor.elements, T - 1)

    def forks(self) -> Iterator[Term]:
        """One addition per element for every further reader of a tensor, and for every residual sum."""
        read = Counter(synapse.input for synapse in self.ledger.synapses)
        read.update(name for product in self.ledger.products for name in set(product.operands))
        for tensor in self.ledger.tensors:
            if read[tensor.name] > 1 and self._trained_behind(tensor):
                each = tensor.elements * (read[tensor.name] - 1)
                yield self._fixed(tensor, "ac", each, 1 if tensor.static or tensor.joined else self.ledger.time_steps)
        for addition in self.ledger.additions or ():
            if addition.op == "add" and not addition.over_time:
                times = (addition.runs or self.ledger.time_steps) if addition.every_step else 1
                yield Term(addition.name, addition.part or OTHER, addition.block, "ac", addition.elements,
                           Constant(times), float(addition.elements * times))  # fmt: skip

    def _trained_behind(self, tensor: CountedTensor) -> bool:
        """Whether parameters lie behind a tensor: not behind the model's input, what is pooled or masked of it, and
        what the first layer reads, before which there is none."""
        if tensor.maker == "input" or tensor.name in {synapse.input for synapse in self.ledger.synapses[:1]}:
            return False
        return not tensor.sources or any(self._trained_behind(self.ledger.tensor(name)) for name in tensor.sources)

    def _times(self, row: Synapse | Product) -> int:
        return (row.runs or self.ledger.time_steps) if row.every_step else 1

    @staticmethod
    def _fixed(row: Synapse | Product | CountedTensor, op: str, each: int, times: int) -> Term:
        return Term(row.name, row.part or OTHER, row.block, op, each, Constant(times), float(each * times))
