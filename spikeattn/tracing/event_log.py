"""The events of a traced pass: what each operation multiplies, masks or sums, and the origin of its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.additions import additions_of
from spikeattn.tracing.book import TensorBook
from spikeattn.tracing.call import Call
from spikeattn.tracing.concat import beside, narrowed, ranges, summed_axis
from spikeattn.tracing.inside import Meeting, facts_of, named, operand_of, rows_of_state, synapse_at
from spikeattn.tracing.labeller import Labeller
from spikeattn.tracing.labels import Label
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.neuron_kind import ARGUMENT, InnerSynapse
from spikeattn.tracing.operation_facts import (
    fields_told_apart,
    is_operation,
    keeps_values,
    numbers_in,
    picks_alike,
    unruled,
)
from spikeattn.tracing.operation_rules import OPERATIONS, Multiplication
from spikeattn.tracing.origins import ALIAS, LOOKUPS, Origin, View, derive, distinct_elements, merged
from spikeattn.tracing.overloads import overload
from spikeattn.tracing.pass_events import ADDITION, SUMS, Event, Part
from spikeattn.tracing.stack import ModuleStack

_LOST = "nothing says where one of its factors comes from: no module holds it, and no operation made it"


class EventLog:
    """Notes the operations of one pass.

    Args:
        model: name of the class of the model, for errors.
        units: what the spikes of a neuron are multiples of, where that is not 1; None where they are real numbers.

    Attributes:
        events: what happened, in the order of execution.
        additions: those without weights that are no event of `events`.
        origins: of every tensor that was made, in the order of execution.
    """

    def __init__(
        self, model: str, stack: ModuleStack, book: TensorBook, labeller: Labeller, units: Mapping[str, float | None]
    ) -> None:
        self.events: list[Event] = []
        self.additions: list[Event] = []
        self.origins: list[Origin] = []
        self.looks_up = False
        self.model, self.stack, self.book, self.labeller, self.units = model, stack, book, labeller, units

    def observe(
        self, func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor], out: Any, written: Sequence[Tensor],
        before: torch.Size | None,
    ) -> None:  # fmt: skip
        made = list(tensors_in(out))
        if any(tensor.is_nested for tensor in made):
            raise SpikeattnError(
                f"{name} in {self.model} makes a nested tensor, in which nobody can tell which rows "
                "belong to an image; pad them to one size: torch.nested.to_padded_tensor"
            )
        frame = self.stack.frames[-1] if self.stack.frames else None
        where = f"{name} in {frame.path or self.model}" if frame else f"{name} in forward="
        call = Call(func, name, args, kwargs, given, made, before=before)
        if not made:
            with self.book.muting():
                self.labeller.observe(call, where) if given else None
            return
        with self.book.muting():
            found = self.labeller.observe(call, where, self._axes_are_found())
        events = frame is not None and (not self.stack.in_neuron or bool(self.synapses()))
        ordinal = frame.ordinal(name) if frame is not None and events else 0
        data = given[1:] if written and name == "copy" else given
        rule = OPERATIONS.get(overload(func).site)
        apart = fields_told_apart(self.labeller, call, found[0])
        if name not in ALIAS:
            self.take(data)
        if name in ALIAS and data and made[0].numel() >= data[0].numel() and keeps_values(data[0], made[0]):
            result = self.book.origin(data[0])
        elif self.stack.in_neuron and events:
            result = self._inside(func, name, args, kwargs, data, made[0], found[0], ordinal)
        elif rule is not None:
            product = rule(args, kwargs, made[0])
            result = self._multiply(product, name, data, made[0], found[0], ordinal, events)
            if events and product.biases is not None and self._adds(product.biases):
                self._add("add", name, ordinal, (product.biases,), result, made[0], found[0], made[0].numel())
        else:
            origins = [self.book.origin(t) for t in data]
            self.looks_up |= name in LOOKUPS and origins[0].weight and any(o.of_input for o in origins[1:])
            result, what = derive(func, name, args, kwargs, data, origins, made[0])
            if not result.weight and (not result.spiky or any(o.blank for o in origins)):
                result.beside = beside(name, args, kwargs, data, origins, made[0])
            if events and self._added(
                func, name, args, kwargs, data, origins, made[0], found[0], ordinal, result, what
            ):
                pass
            elif what and events:
                taken = data[:1] if what in SUMS else data
                reason = unruled(name, made[0]) if what == "unknown" and not any(o.spiky for o in origins) else ""
                self._event(what, name, ordinal, data, taken, result, made[0], found[0], reason=reason)
        if result.recipe is None and not any(result is self.book.origin(t) for t in data):
            parts = tuple(self.book.origin(t).made_as for t in given)
            alike = picks_alike(self.labeller, call, result.apart)
            numbers = "" if alike else repr((numbers_in(args), numbers_in(kwargs)))
            result.recipe = hash((overload(func).site, numbers, parts))
        if apart - result.apart:
            result = replace(result, apart=result.apart | apart, parents=(result,))
        self.origins.append(result)
        for tensor in written:
            self.book.overwrite(tensor, result, found[0])
        self.book.put(made[0], result, found[0])
        for place, (tensor, label) in enumerate(
            zip(made[1:], found[1:], strict=False)
        ):  # each part of a split is a tensor of its own
            origin = replace(result)
            if result.recipe is not None and not picks_alike(self.labeller, call, result.apart):
                origin.recipe = hash((result.recipe, place))
            self.origins.append(origin)
            self.book.put(tensor, origin, label)

    def _multiply(
        self, found: Multiplication, name: str, given: Sequence[Tensor], out: Tensor, label: Label, ordinal: int,
        events: bool,
    ) -> Origin:  # fmt: skip
        a, b = found.a, found.b
        left, right = self.book.origin(a), self.book.origin(b)
        result = merged((left, right))
        if result.weight or not events or (left.weight and right.weight):
            return result
        biases = 0
        if found.biases is not None and self.book.origin(found.biases).weight:
            biases = found.biases.numel()
        ways = [(b, a, right, found.fan_out_a), (a, b, left, found.fan_out_b)]
        for weight, data, origin, fan_out in ways[: 1 if found.geometry is not None else 2]:
            plain = weight.layout == torch.strided and not a.is_complex() and not b.is_complex()
            if origin.weight and not self.book.origin(data).unknown and plain:
                self._event(
                    "linear" if found.geometry is None else "conv", name, ordinal, given, [data], result, out, label,
                    weights=distinct_elements(weight), weight_name=origin.site, macs=found.macs, biases=biases,
                    geometry=found.geometry, parts=self._parts(data, summed_axis(found, data)),
                    fan_out=fan_out if found.geometry is None else None,
                )  # fmt: skip
                return result
        lost = next((o for o in (left, right) if o.unknown), None)
        why = found.why_not
        if a.is_complex() or b.is_complex():
            why = "its numbers are complex, and one multiplication or addition of such is several of real numbers"
        sparse = next((x for x in (a, b) if x.layout != torch.strided), None)
        if sparse is not None:
            why = "its weights are sparse, so that the fan-out of an element depends on which of them are stored"
        if lost is not None:
            why = _LOST
        if why or found.geometry is not None:
            self._event("unknown", name, ordinal, given, [a, b], result, out, label, reason=why)
            return result
        if left.spiky and right.spiky:
            result.unit, result.summed = left.multiple * right.multiple, True
        self._event("matmul", name, ordinal, given, [a, b], result, out, label, macs=found.macs)
        return result

    def _added(
        self, func: Any, name: str, args: Any, kwargs: Any, given: Sequence[Tensor], origins: Sequence[Origin],
        out: Tensor, label: Label, ordinal: int, result: Origin, what: str,
    ) -> bool:  # fmt: skip
        """Note the additions of an operation; whether nothing else is to be said of it."""
        found = additions_of(func, name, args, kwargs, given, origins, out) if what not in SUMS else None
        whole = found is not None and found.op == "add" and name in ("add", "sub", "rsub")
        if found is None or (what == "unknown" and found.op != "add"):
            return False  # a sum of spikes is a product, and what has no rule is listed
        event = self._add(found.op, name, ordinal, found.operands, result, out, label, found.number, found.uses)
        if whole and what:
            self._made(event, result)
        return whole

    def _adds(self, tensor: Tensor) -> bool:
        """Whether a tensor that is added depends on the input."""
        origin = self.book.origin(tensor)
        return (origin.varies or origin.unknown) and not origin.blank

    def _add(
        self, op: str, name: str, ordinal: int, operands: Sequence[Tensor], result: Origin, out: Tensor, label: Label,
        number: int, uses: int | None = None,
    ) -> Event:  # fmt: skip
        frame = self.stack.frames[-1]
        spikes = op == "average" and self.book.origin(operands[0]).spiky
        origins = tuple(self.book.observe(t) if spikes else self.book.origin(t) for t in operands)
        views = tuple(self.view(t) for t in operands)
        event = Event(
            ADDITION, frame.path, frame.call, name, ordinal, origins, views, result, View(tuple(out.shape), label),
            (0,) * len(operands), macs=number, fan_out=uses, reason=op,
        )  # fmt: skip
        self.additions.append(event)
        return event

    def take(self, given: Sequence[Tensor]) -> None:
        """An operation takes tensors in which spikes and numbers may lie side by side."""
        for tensor in given:
            found = self.book.origin(tensor).beside
            if found is not None:
                found.uses += 1

    def _parts(self, data: Tensor, axis: int | None) -> tuple[Part, ...]:
        """What lies side by side in the input of a layer, along the axis that it sums over."""
        parts = []
        for part, start, size in ranges(data, self.book.origin(data), axis):
            assert axis is not None
            with self.book.muting():
                piece = data.narrow(axis, start, size)
            label = narrowed(self.labeller.label(data), axis, start, size)
            self.book.put(piece, part, label)
            self.book.observe(piece)
            parts.append(Part(part, View(tuple(piece.shape), label), axis, start, size))
        return tuple(parts)

    def _axes_are_found(self) -> bool:
        """Whether a neuron is at work of which nobody says along which axis it runs."""
        return bool(self.stack.in_neuron) and not (
            self.synapses() and nodes.is_known(self.stack.module(self.stack.frames[-1].path))
        )

    def synapses(self) -> tuple[InnerSynapse, ...]:
        """The synapses inside the neuron at work, if the table of neurons has some for it."""
        frame = self.stack.frames[-1] if self.stack.in_neuron and self.stack.frames else None
        return nodes.inner_synapses(self.stack.module(frame.path)) if frame is not None else ()

    def _inside(
        self, func: Any, name: str, args: Any, kwargs: Any, given: Sequence[Tensor], out: Tensor, label: Label,
        ordinal: int,
    ) -> Origin:  # fmt: skip
        """An operation inside a neuron with synapses: one at such a weight is an event, all others are dynamics."""
        origins = [self.book.origin(t) for t in given]
        rule, path = OPERATIONS.get(overload(func).site), self.stack.frames[-1].path
        synapses, module, product = self.synapses(), self.stack.module(path), None
        if rule is not None:
            product = rule(args, kwargs, out)
        elif name == "mul" and len(given) == 2:  # weights of several steps, each met by the currents of its step
            product = Multiplication(given[0], given[1], out.numel(), fan_out_a=1, fan_out_b=1)
        met = synapse_at(synapses, path, product, self.book) if product is not None else None
        if met is not None and product is not None:
            result, before = merged(origins), self.book.origin(met.data)
            facts = facts_of(met, module, product, self.book)
            if before.unknown:
                facts |= {"what": "unknown", "reason": _LOST}
            rows = self.book.label(met.data)
            shared = self._rows_of_state(met, module, out)
            label = label if shared is None else shared
            self.book.put(
                met.data, operand_of(met, before, path, self.units.get(path, 1.0)), rows if shared is None else shared
            )
            parts = self._parts(met.data, summed_axis(product, met.data)) if met.synapse.meets == ARGUMENT else ()
            self._event(facts.pop("what"), name, ordinal, given, [met.data], result, out, label, parts=parts, **facts)
            self.book.put(met.data, before, rows)  # elsewhere it is what it was
            return result
        result, what = derive(func, name, args, kwargs, given, origins, out)
        if not result.weight and (not result.spiky or any(o.blank for o in origins)):
            result.beside = beside(name, args, kwargs, given, origins, out)
        weights = [o for o in origins if o.weight]
        data = any(not o.weight and not o.blank for o in origins)
        other = what == "unknown" and any(named(o, synapses, path) for o in weights)
        if data and weights and (rule is not None or other):
            self.inside_neuron(name)
        return result

    def _rows_of_state(self, met: Meeting, neuron: nn.Module, out: Tensor) -> Label | None:
        """Rows of the state that meets a weight inside a neuron whose number of steps per call the table knows."""
        frame = self.stack.frames[-1]
        if frame.argument is None or not nodes.is_known(neuron):
            return None
        step = None
        if nodes.runs_over_time(neuron):
            made = [(event.module, event.call, event.name) for event in self.events]
            step = made.count((frame.path, frame.call, met.name))
        return rows_of_state(met, frame.argument, self.labeller.label(frame.argument), step, out)

    def inside_neuron(self, name: str) -> None:
        """A layer with weights inside a neuron is not counted, so it is listed."""
        path = self.stack.frames[-1].path
        reason = "weights inside a neuron are taken as part of its dynamics and are not counted"
        nothing = Origin()
        self.events.append(Event("unknown", path, 0, name, 0, (), (), nothing, View(()), alone=True, reason=reason))

    def _event(
        self, what: str, op: str, ordinal: int, given: Sequence[Tensor], data: Sequence[Tensor], result: Origin,
        out: Tensor, label: Label, **facts: Any,
    ) -> None:  # fmt: skip
        frame = self.stack.frames[-1]
        origins = tuple(self.book.observe(t) if what != "unknown" else self.book.origin(t) for t in data)
        positions = tuple(next(i for i, t in enumerate(given) if t is operand) for operand in data)
        argument = None
        if len(data) == 1 and frame.argument is not None:
            same = self.book.origin(frame.argument) is origins[0] and frame.argument.numel() == data[0].numel()
            argument = self.view(frame.argument) if same else None
        module = self.stack.module(frame.path)
        alone = what in ("conv", "linear") and not self.stack.in_neuron and is_operation(module)
        if alone and isinstance(bias := getattr(module, "bias", None), Tensor):
            facts["biases"] = bias.numel()
        event = Event(
            what, frame.path, frame.call, op, ordinal, origins, tuple(self.view(t) for t in data), result,
            View(tuple(out.shape), label), positions, argument=argument, alone=alone, **facts,
        )  # fmt: skip
        self._made(event, result)
        self.events.append(event)

    @staticmethod
    def _made(event: Event, result: Origin) -> None:
        """Name what an operation gives after it."""
        result.operation = (event.module, event.call, event.op, event.ordinal)
        result.site, result.view = event.site(), event.out_view

    def view(self, tensor: Tensor) -> View:
        """Shape and label of a tensor as they are now."""
        return View(tuple(tensor.shape), self.labeller.label(tensor))
