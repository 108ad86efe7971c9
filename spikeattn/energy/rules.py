"""The rules of a convention: which terms each synapse, product and population of neurons of a ledger has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spikeattn.energy.activity import Constant, Count, Rate, Source
from spikeattn.energy.conventions import Convention
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import Addition, CountedTensor, Product, Synapse
from spikeattn.structure.entry import OTHER

Row = Synapse | Product | Addition | CountedTensor
VOTES = "votes"  # role of a sum of spikes that a weight multiplies: a number, not a train of spikes


@dataclass(frozen=True)
class Term:
    """Operations of one synapse or product: `factor` x the sum of `source` over the time steps, per image.

    Attributes:
        op: "mac", "sop" (addition at a weight or in a product of spikes), "ac" (any other addition) or "mask".
        ceiling: the largest amount one image can reach; infinite for integer spikes, which have no largest value.
    """

    name: str
    part: str
    block: int | None
    op: str
    factor: float
    source: Source
    ceiling: float


def terms_of(ledger: Ledger, convention: Convention) -> tuple[Term, ...]:
    """What this convention counts in this ledger: synapses, products, batch norms, neurons, additions without weights.

    Raises:
        SpikeattnError: the convention has no formula for something in the ledger, or needs a label it does not carry.
    """
    rules = _Rules(ledger, convention)
    terms = [term for synapse in ledger.synapses for term in rules.synapse(synapse)]
    terms += [term for product in ledger.products for term in rules.product(product)]
    if convention.batch_norm == "counted":
        terms += [rules.batch_norm(synapse) for synapse in rules.normed()]
    if convention.neurons == "counted":
        terms += [rules.neuron(tensor) for tensor in ledger.tensors if tensor.maker == "neuron"]
    if convention.additions == "counted":
        terms += [rules.addition(addition) for addition in ledger.additions or ()]
    return tuple(terms)


_PAPER_QKV = ("Q_S", "K_S", "V_S")


def paper_qkv(synapse: Synapse, roles: Mapping[tuple[int | None, str], CountedTensor]) -> bool:
    """Whether a layer makes q, k or v in the sense of the paper whose conventions average over the three."""
    return synapse.part == "QKV" and all((synapse.block, role) in roles for role in _PAPER_QKV)


def roles_of(ledger: Ledger) -> dict[tuple[int | None, str], CountedTensor]:
    """Tensors by (block, role in the paper); where two share a role, the one with a published hook is kept."""
    roles: dict[tuple[int | None, str], CountedTensor] = {}
    for tensor in ledger.tensors:
        if tensor.role is None:
            continue
        key = (tensor.block, tensor.role)
        if key not in roles or (tensor.hook is not None and roles[key].hook is None):
            roles[key] = tensor
    return roles


def multiplies(tensor: CountedTensor, convention: Convention) -> bool:
    if tensor.role == VOTES:
        return True
    if tensor.maker == "input" and convention.first_layer != "by-kind":
        return convention.first_layer != "ac"
    return not tensor.spikes or (convention.spikes == "mac" and tensor.kind != "binary")


def gates(operands: list[CountedTensor]) -> bool:
    """Whether a product of elements is a gate: signs and values pass where the others are 0 or 1."""
    return all(tensor.spikes for tensor in operands) and sum(tensor.kind == "integer" for tensor in operands) < 2


def own_output(synapse: Synapse, roles: Mapping[tuple[int | None, str], CountedTensor]) -> CountedTensor | None:
    """The neurons that bear the layer's name, if they are not what it receives."""
    output = roles.get((synapse.block, synapse.role)) if synapse.role else None
    return output if output is not None and output.name != synapse.input else None


def times_charged(ledger: Ledger, synapse: Synapse, convention: Convention) -> int:
    """How often the MACs of a real input are charged: a layer that repeats itself, or runs once, is charged once."""
    tensor = ledger.tensor(synapse.input)
    once = tensor.static or not synapse.every_step
    if tensor.maker == "input" and convention.first_conv == "every-step":
        once = False
    return 1 if once else synapse.runs or ledger.time_steps


class _Rules:
    """One method per kind of row of a ledger; each returns the terms of that row."""

    def __init__(self, ledger: Ledger, convention: Convention) -> None:
        self.ledger = ledger
        self.convention = convention
        self.by = "abs" if convention.spikes == "value" else "nnz"
        self.roles: Mapping[tuple[int | None, str], CountedTensor] = roles_of(ledger)

    def synapse(self, synapse: Synapse) -> list[Term]:
        """MACs of a real input; additions of spikes by fan-out or by rate."""
        tensor = self.ledger.tensor(synapse.input)
        if self.convention.head == "mac" and synapse.part == "head":
            return [self._fixed(synapse, "mac", synapse.dense_macs, 1)]
        if multiplies(tensor, self.convention):
            return [self._macs(synapse, tensor)]
        if not tensor.spikes:  # only first_layer="ac" brings a real input here
            times = times_charged(self.ledger, synapse, self.convention)
            return [self._fixed(synapse, "sop", synapse.dense_macs, times)]
        once = not synapse.every_step
        ceiling = self._ceiling(synapse.dense_macs, tensor) / (self.ledger.time_steps if once else 1)
        if self.convention.sop == "fan-out":
            return [self._term(synapse, "sop", 1, Count(f"fan_{self.by}", synapse.name, once), ceiling)]
        dense: float = synapse.dense_macs
        paper = paper_qkv(synapse, self.roles)
        if paper and self.convention.qkv_size == "N^2D":
            dense *= tensor.elements / tensor.shape[0] ** 2  # N / D, for D channels of N tokens
            ceiling *= tensor.elements / tensor.shape[0] ** 2
        if paper and self.convention.qkv_rate == "mean-output":
            outputs = tuple(self._role(synapse, role).name for role in _PAPER_QKV)
            return [self._term(synapse, "sop", dense / 3, Rate(outputs, self.by), ceiling)]
        if self.convention.layer_rate == "before-pool":
            tensor = self._before_pool(tensor)
        elif self.convention.layer_rate == "own-output":
            tensor = own_output(synapse, self.roles) or tensor
        return [self._term(synapse, "sop", dense, Rate((tensor.name,), self.by, once), ceiling)]

    def _macs(self, synapse: Synapse, tensor: CountedTensor) -> Term:
        """Dense MACs, of the first layer also x the rate of what goes in or comes out."""
        times = times_charged(self.ledger, synapse, self.convention)
        rule = self.convention.first_layer if tensor.maker == "input" else "mac"
        source: Source = Constant(times)
        if rule == "mac-input-rate" and not tensor.static:
            source = Rate((tensor.name,), "nnz", times == 1)
        elif rule == "mac-output-rate":
            output = own_output(synapse, self.roles)
            if output is None:
                raise SpikeattnError(
                    f"convention {self.convention.name!r} prices the first layer {synapse.name!r} by the rate of the "
                    "neurons that bear its name, and there are none in this model; use 'exact' or 'input-rate'"
                )
            source = Rate((output.name,), "nnz", times == 1)
        return self._term(synapse, "mac", synapse.dense_macs, source, synapse.dense_macs * times)

    def normed(self) -> list[Synapse]:
        """Layers that a batch norm is taken to follow: all but the classifier."""
        named = [synapse for synapse in self.ledger.synapses if synapse.part == "head"]
        classifiers = named or self.ledger.synapses[-1:]
        return [synapse for synapse in self.ledger.synapses if synapse not in classifiers]

    def batch_norm(self, synapse: Synapse) -> Term:
        """A multiplication and an addition with one parameter each, for every output element."""
        times = times_charged(self.ledger, synapse, self.convention)
        return self._fixed(synapse, "mac", 2 * synapse.output_elements, times)

    def neuron(self, tensor: CountedTensor) -> Term:
        """The update of every neuron at every time step."""
        return self._fixed(tensor, "ac", tensor.elements, self.ledger.time_steps)

    def addition(self, addition: Addition) -> Term:
        """A residual sum at every element; of a pool one addition per spike and window."""
        tensor = None if addition.operand is None else self.ledger.tensor(addition.operand)
        if tensor is None or not tensor.spikes:
            times = (addition.runs or self.ledger.time_steps) if addition.every_step else 1
            return self._fixed(addition, "ac", addition.elements, times)
        once, most = not addition.every_step, tensor.elements * addition.uses
        ceiling = self._ceiling(most, tensor) / (self.ledger.time_steps if once else 1)
        if self.convention.sop == "rate":
            return self._term(addition, "ac", most, Rate((tensor.name,), "nnz", once), ceiling)
        return self._term(addition, "ac", addition.uses, Count("nnz", tensor.name, once), ceiling)

    def product(self, product: Product) -> list[Term]:
        """Additions of a token sum or matrix product, and masks; or a paper's formula for all of them."""
        rule = self.convention.attention
        if rule == "none" or (rule != "operations" and product.op in ("mask", "average")):
            return []
        if rule.startswith("rate-sum") and (product.op == "token_sum" or rule == "rate-sum"):
            return self._rate_sum(product)
        once, T = not product.every_step, product.runs or self.ledger.time_steps
        times = 1 if once else T
        operands = [self.ledger.tensor(name) for name in product.operands]
        if product.op == "mask":
            op = "mask" if gates(operands) else "mac"
            return [self._fixed(product, op, product.elements, times)]
        if product.op in ("token_sum", "average"):
            return [self._additions(product, "ac", operands[0])]
        # A matrix into which sums have entered is one of numbers: each unit of the other operand selects a row of it.
        spiking = [tensor for tensor in operands if tensor.spikes and not tensor.summed]
        if not spiking:
            return [self._fixed(product, "mac", product.elements, times)]
        binary = [tensor for tensor in spiking if tensor.kind == "binary"]
        if rule != "operations" and binary:
            names = tuple(tensor.name for tensor in binary)
            rate = Rate(names, "nnz", once, True) if rule == "least-rate" else Rate(names[:1], "nnz", once)
            return [self._term(product, "sop", product.elements, rate, product.elements * times)]
        known = all(tensor.summed is not None for tensor in operands)
        if not known and len(spiking) == len(operands) and len(binary) == 1:
            return [self._additions(product, "sop", binary[0])]  # a run of a version that knew matrices by their values
        if len(spiking) == len(operands) > 1:
            measure = "pairs" if self.by == "nnz" or (binary and not known) else "pairs_abs"
            ceiling = self._ceiling(product.elements, *operands) / (T if once else 1)
            return [self._term(product, "sop", 1, Count(measure, product.name, once), ceiling)]
        return [self._additions(product, "sop", spiking[0])]

    def _additions(self, product: Product, op: str, tensor: CountedTensor) -> Term:
        """One addition per non-zero element of the operand and per place where the product uses it."""
        once, T = not product.every_step, product.runs or self.ledger.time_steps
        if not tensor.spikes:
            return self._fixed(product, op, product.elements, 1 if once else T)
        by = "nnz" if op == "ac" else self.by
        ceiling = self._ceiling(product.elements, tensor) / (T if once else 1)
        if self.convention.sop == "rate":
            return self._term(product, op, product.elements, Rate((tensor.name,), by, once), ceiling)
        uses = product.elements / tensor.elements
        return self._term(product, op, int(uses) if uses.is_integer() else uses, Count(by, tensor.name, once), ceiling)

    def _rate_sum(self, product: Product) -> list[Term]:
        if product.op != "token_sum":
            raise SpikeattnError(
                f"convention {self.convention.name!r} prices attention as (R_Q + R_K) x N x D and has no formula for "
                f"{product.name!r} ({product.op}); use 'exact' or 'input-rate'"
            )
        pair = tuple(self._role(product, role).name for role in ("Q_S", "K_S"))
        ceiling = 2 * product.elements * self.ledger.time_steps
        return [self._term(product, "ac", product.elements, Rate(pair, self.by), ceiling)]

    def _role(self, row: Synapse | Product, role: str) -> CountedTensor:
        tensor = self.roles.get((row.block, role))
        if tensor is None:
            block = "" if row.block is None else f" of block {row.block}"
            raise SpikeattnError(
                f"convention {self.convention.name!r} prices {row.name!r} by the rate of {role}, which no "
                f"tensor{block} in this model is labelled: the convention is made for spike-driven transformers; use "
                "'exact' or 'input-rate'"
            )
        return tensor

    def _before_pool(self, tensor: CountedTensor) -> CountedTensor:
        while tensor.maker == "pool":
            if not tensor.sources:
                raise SpikeattnError(
                    f"convention {self.convention.name!r} needs the rate before the pool {tensor.name!r}, but the "
                    "ledger does not say what it pools; use layer_rate='input'"
                )
            tensor = self.ledger.tensor(tensor.sources[0])
        return tensor

    def _ceiling(self, elements: int, *tensors: CountedTensor) -> float:
        bounded = all(tensor.kind in ("binary", "ternary") for tensor in tensors)
        return float(elements * self.ledger.time_steps) if bounded else float("inf")

    def _fixed(self, row: Row, op: str, each: int, times: int) -> Term:
        """As many operations at each of so many time steps, whatever spikes."""
        return self._term(row, op, each, Constant(times), each * times)

    @staticmethod
    def _term(row: Row, op: str, factor: float, source: Source, ceiling: float) -> Term:
        return Term(row.name, row.part or OTHER, row.block, op, factor, source, float(ceiling))
