"""Synapses inside a neuron: which operation is at a weight that the table of neurons names, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from spikeattn.tracing.book import TensorBook
from spikeattn.tracing.labels import IMAGE, Label
from spikeattn.tracing.neuron_kind import CURRENTS, OWN_SPIKES, STATE, InnerSynapse
from spikeattn.tracing.operation_rules import Multiplication
from spikeattn.tracing.origins import Origin, distinct_elements
from spikeattn.tracing.pass_events import NEURON


@dataclass(frozen=True)
class Meeting:
    """An operation at a synapse inside a neuron: `weight` meets `data`, an element of which is used `fan_out` times."""

    synapse: InnerSynapse
    name: str
    weight: Tensor
    data: Tensor
    fan_out: int


def synapse_at(
    synapses: Sequence[InnerSynapse], path: str, product: Multiplication, book: TensorBook
) -> Meeting | None:
    """The synapse of the neuron at `path` whose weight an operation multiplies data by; None if there is none."""
    ways = ((product.a, product.b, product.fan_out_b), (product.b, product.a, product.fan_out_a))
    for weight, data, fan_out in ways:
        if not book.origin(weight).weight or book.origin(data).weight:
            continue
        synapse = named(book.origin(weight), synapses, path)
        if synapse is not None:
            return Meeting(synapse, f"{path}.{synapse.name}", weight, data, fan_out)
    return None


def named(origin: Origin, synapses: Sequence[InnerSynapse], path: str) -> InnerSynapse | None:
    """The synapse of the neuron at `path` whose weight a constant is made of."""
    return next((s for s in synapses if _made_of(origin, f"{path}.{s.weight}")), None)


def operand_of(met: Meeting, before: Origin, path: str, unit: float | None) -> Origin:
    """What the weight of a synapse inside the neuron at `path` meets, as the table of neurons says.

    Args:
        before: what the tracer takes it for.
        unit: what the neuron's own spikes are multiples of.
    """
    if met.synapse.meets == OWN_SPIKES:
        return Origin(unit=unit, varies=True, blank=before.blank, parents=(before,))
    if met.synapse.meets in (CURRENTS, STATE):  # of a still image as well: those of other steps meet other weights
        return replace(before, stateless=False, parents=(before,))
    if before.maker == NEURON and before.name == path:  # its own spikes, which are counted where it hands them out
        return Origin(unit=before.unit, varies=True, parents=(before,))
    return before


def rows_of_state(met: Meeting, argument: Tensor, label: Label, step: int | None, out: Tensor) -> Label | None:
    """Rows of a state of the neuron, its own spikes or its membrane potential, where a weight meets it: those of the
    argument of the same step. None where another thing meets the weight, or the rows are others.

    A state that no input has reached yet has none of its own: zeros of the first step, and the spikes of a neuron that
    compares its membrane potential with the threshold before it adds the current of the step.

    Args:
        label: of the argument.
        step: which step it is, of an argument that holds all of them along axis 0; None where it holds one.
    """
    if met.synapse.meets not in (OWN_SPIKES, STATE) or (step is not None and step >= argument.shape[0]):
        return None
    rows, fields = argument.shape, dict(label.fields)
    if step is not None:
        rows, fields = rows[1:], {name: v[step if len(v) > 1 else 0] for name, v in fields.items()}
    fits = rows[:-1] == met.data.shape[:-1] == out.shape[:-1] and len(rows) == out.dim()
    fields = {name: v for name, v in fields.items() if v.shape[-1] == 1}  # weights join what lies along the last axis
    return replace(label, fields=fields) if fits and IMAGE in fields else None


def facts_of(met: Meeting, neuron: nn.Module, product: Multiplication, book: TensorBook) -> dict[str, Any]:
    """The facts of the event."""
    biases = product.biases
    facts: dict[str, Any] = {
        "what": "linear" if product.geometry is None else "conv",
        "name": met.name,
        "weight_name": met.name,
        "weights": distinct_elements(met.weight),
        "macs": product.macs,
        "geometry": product.geometry,
        "fan_out": met.fan_out if product.geometry is None else None,
        "biases": biases.numel() if biases is not None and book.origin(biases).weight else 0,
    }
    if met.synapse.connections is not None and met.weight.dim() == 2 and met.weight.shape[0] == met.weight.shape[1] > 1:
        facts |= _of_band(met, neuron, book)
    return facts


def _of_band(met: Meeting, neuron: nn.Module, book: TensorBook) -> dict[str, Any]:
    """What differs where a square matrix over the time steps has fewer connections than entries."""
    steps, there = met.weight.shape[0], met.synapse.connections
    assert there is not None
    connections = there(neuron, steps)
    if book.origin(met.data).spiky and connections < steps * steps:
        reason = "spikes meet a matrix over the time steps in which each has other numbers of connections"
        return {"what": "unknown", "reason": reason}
    return {"weights": connections, "macs": connections * met.data.numel() // steps}


def _made_of(origin: Origin, site: str) -> bool:
    """Whether a tensor that descends from constants alone descends from the parameter of this name."""
    waiting, seen = [origin], set()
    while waiting:
        one = waiting.pop()
        if one.site == site:
            return True
        if id(one) not in seen:
            seen.add(id(one))
            waiting += one.parents
    return False
