"""Synapses inside a neuron: which operation is at a weight that the table of neurons names, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from spikeattn.tracing.book import TensorBook
from spikeattn.tracing.labels import IMAGE, Label
from spikeattn.tracing.neuron_kind import CURRENTS, OWN_SPIKES, InnerSynapse
from spikeattn.tracing.operation_rules import Multiplication
from spikeattn.tracing.origins import Origin, distinct_elements
from spikeattn.tracing.pass_events import NEURON, Event
from spikeattn.tracing.stack import Frame


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
    if met.synapse.meets == CURRENTS:  # of a still image as well: those of other steps meet other weights
        return replace(before, stateless=False, parents=(before,))
    if before.maker == NEURON and before.name == path:  # its own spikes, which are counted where it hands them out
        return Origin(unit=before.unit, varies=True, parents=(before,))
    return before


def rows_of_sibling(met: Meeting, frame: Frame, events: Sequence[Event], out: Tensor) -> Label | None:
    """Rows of the current that a neuron's own spikes give: those of the current that its argument gave before, to which
    it is added. None where there is no such.

    A neuron that compares its membrane with the threshold before the current of its step has reached it fires at its
    first step whatever the input; those spikes come from no image, and wait for the next step's.
    """
    if met.synapse.meets != OWN_SPIKES or not events:
        return None
    last = events[-1]
    here = last.name and (last.module, last.call) == (frame.path, frame.call) and last.name != met.name
    label = last.out_view.label
    narrow = all(values.dim() == out.dim() and values.shape[-1] == 1 for values in label.fields.values())
    alike = last.out_view.shape == tuple(out.shape) and met.data.shape[:-1] == out.shape[:-1]
    return label if here and alike and narrow and label.get(IMAGE) is not None else None


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
