"""Watch one forward pass operation by operation: which module made each tensor, and what every synapse receives.

A `Trace` is a dispatch mode: it sees the tensor operations that a model really executes, so functional calls
(`F.conv2d`, `q @ k`, `k * v`) are found like modules. Every tensor on the way has an origin (what it is: spikes, a
weight, a number) and a label (which image and time step its rows belong to). What happens inside the neurons of
`neuron_table` is passed over, but for the synapses inside them (`inside`); a user's own neuron is looked into for its
labels, and counts as one neuron all the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.compat.torch_modes import top_mode
from spikeattn.errors import SpikeattnError
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.book import TensorBook
from spikeattn.tracing.call import Call
from spikeattn.tracing.concat import beside, narrowed, ranges, summed_axis, told_apart
from spikeattn.tracing.inside import facts_of, named, operand_of, synapse_at
from spikeattn.tracing.label_joins import pointwise
from spikeattn.tracing.label_rules import rule_of
from spikeattn.tracing.labeller import Labeller
from spikeattn.tracing.labels import ANY, IMAGE, TIME, Label
from spikeattn.tracing.layout import TimeAxis
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.neuron_table import ARGUMENT, InnerSynapse
from spikeattn.tracing.operation_rules import OPERATIONS, Multiplication
from spikeattn.tracing.origins import ALIAS, Origin, View, derive, distinct_elements, merged
from spikeattn.tracing.overloads import overload
from spikeattn.tracing.pass_events import INPUT, NEURON, SUMS, Event, Part
from spikeattn.tracing.stack import Frame, ModuleStack, in_parts

_LOGITS = 1 << 18  # outputs of layers with more elements than this are no logits
_LOST = "nothing says where one of its factors comes from: no module holds it, and no operation made it"
_LAYERS = ("aten::convolution", "aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::mv")


class Trace(TorchDispatchMode):
    """Collect the events of one forward pass of `model`; see the module's docstring.

    A tensor bears the name of the innermost module that handed it out, unless a path in `names` hands it on.

    Args:
        batch: number of images that will be shown.
        units: what the spikes of a neuron are multiples of, where that is not 1; None where they are real numbers.
        spikes: which of the tensors that a neuron returns are its spikes, where not the first.
        time_steps: T as the user says it.
        totals: calls of each neuron in an earlier pass, which then number its calls.
        expected: the axis of time, where an earlier pass has found it after neurons had numbered their calls.
        steps: T, where an earlier pass has seen more steps than the neurons' calls suggest.

    Attributes:
        events: what happened.
        inputs: what went into the model, once per call of it.
        outputs: what came out of the pass.
        layers: what small layers with weights gave, call by call, by path: candidates for logits.
        calls: calls of each module.
        ordinals: how often each operation ran in each call, by (path, call).
        book: origin and label of every tensor.
        labeller: what gives the labels, and has found the axis of time.
    """

    def __init__(
        self, model: nn.Module, neurons: Mapping[str, nn.Module], batch: int, names: Collection[str] = (),
        units: Mapping[str, float | None] | None = None, spikes: Mapping[str, int] | None = None,
        time_steps: int | None = None, totals: Mapping[str, int] | None = None, expected: TimeAxis | None = None,
        steps: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.events: list[Event] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.layers: dict[str, list[tuple[Tensor, View]]] = defaultdict(list)
        self.ordinals: dict[tuple[str, int], dict[str, int]] = {}
        self.names, self.batch, self.units, self.spikes = names, batch, units or {}, spikes or {}
        self.book = TensorBook()
        self.labeller = Labeller(self.book, time_steps, totals, expected, steps)
        self._model = model
        self._made: list[Origin] = []
        self._entered = self._paused = self._aside = False
        self._stack = _TracingStack(self, model, neurons)

    @property
    def weighted(self) -> tuple[str, ...]:
        """Paths of the modules with weights of their own, whether they are called or not."""
        return self._stack.weighted

    @property
    def calls(self) -> Mapping[str, int]:
        return self._stack.calls

    def show(self, images: Tensor) -> Tensor:
        """Note the batch that the pass will be given; image after image along axis 0."""
        self.book.put(images, Origin(stateless=True, of_input=True, varies=True), self.labeller.batch(images))
        return images

    def __enter__(self) -> Trace:
        self.book.hold(self._model)
        self._stack.__enter__()
        self._paused = self._aside = False
        self._take_place()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._entered:
            self._entered = False
            super().__exit__(*error)
        self._stack.__exit__(*error)

    def pause(self) -> None:
        """Off the stack of modes while an opaque neuron works: its thousands of operations cost what they cost."""
        self._paused = True
        self._take_place()

    def go_on(self) -> None:
        """Back on the stack of modes."""
        self._paused = False
        self._take_place()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Off the stack of modes while a hook of our own works, whose operations are no part of the model."""
        self._aside = True
        self._take_place()
        try:
            yield
        finally:
            self._aside = False
            self._take_place()

    def _take_place(self) -> None:
        """On the stack of modes, or off it; on it with no effect where a mode of the model's own stands above."""
        wanted = not (self._paused or self._aside)
        if wanted and not self._entered:
            super().__enter__()
            self._entered = True
        elif self._entered and not wanted and top_mode() is self:
            self._entered = False
            super().__exit__(None, None, None)

    # ---------------------------------------------------------------- operations
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.book.muted or self._paused or self._aside:
            return func(*args, **kwargs)
        out = in_parts(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        facts = overload(func)
        name = facts.name
        if self._stack.in_neuron and facts.site in _LAYERS and not self._synapses():
            self._inside_neuron(name)
        if self._stack.opaque:
            return func(*args, **kwargs)
        written = _written(func, args, kwargs)
        given = list(tensors_in((args, tuple(kwargs.values()))))
        for tensor in given:
            self.book.origin(tensor)
        for tensor in written:
            if self.book.origin(tensor).spiky:
                self.book.observe(tensor)
        before = given[0].shape if written and given else None
        out = func(*args, **kwargs)
        self._observe(func, name, args, kwargs, given, out, written, before)
        return out

    def _observe(
        self, func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor], out: Any, written: Sequence[Tensor],
        before: torch.Size | None,
    ) -> None:  # fmt: skip
        made = list(tensors_in(out))
        if any(tensor.is_nested for tensor in made):
            raise SpikeattnError(
                f"{name} in {type(self._model).__name__} makes a nested tensor, in which nobody can tell which rows "
                "belong to an image; pad them to one size: torch.nested.to_padded_tensor"
            )
        frame = self._stack.frames[-1] if self._stack.frames else None
        where = f"{name} in {frame.path or type(self._model).__name__}" if frame else f"{name} in forward="
        call = Call(func, name, args, kwargs, given, made, before=before)
        if not made:
            with self.book.muting():
                self.labeller.observe(call, where) if given else None
            return
        with self.book.muting():
            found = self.labeller.observe(call, where, bool(self._stack.in_neuron) and not self._synapses())
        events = frame is not None and (not self._stack.in_neuron or bool(self._synapses()))
        ordinal = frame.ordinal(name) if frame is not None and events else 0
        data = given[1:] if written and name == "copy" else given
        rule = OPERATIONS.get(overload(func).site)
        apart = _told_apart(self.labeller, call, found[0])
        if name not in ALIAS:
            self._take(data)
        if name in ALIAS and data and made[0].numel() >= data[0].numel() and _keeps_values(data[0], made[0]):
            result = self.book.origin(data[0])
        elif self._stack.in_neuron and events:
            result = self._inside(func, name, args, kwargs, data, made[0], found[0], ordinal)
        elif rule is not None:
            result = self._multiply(rule(args, kwargs, made[0]), name, data, made[0], found[0], ordinal, events)
        else:
            origins = [self.book.origin(t) for t in data]
            result, what = derive(func, name, args, kwargs, data, origins, made[0])
            if not result.spiky and not result.weight:
                result.beside = beside(name, args, kwargs, data, origins, made[0])
            if what and events:
                taken = data[:1] if what in SUMS else data
                reason = _unruled(name, made[0]) if what == "unknown" and not any(o.spiky for o in origins) else ""
                self._event(what, name, ordinal, data, taken, result, made[0], found[0], reason=reason)
        if result.recipe is None and not any(result is self.book.origin(t) for t in data):
            parts = tuple(self.book.origin(t).made_as for t in given)
            result.recipe = hash((overload(func).site, repr(_numbers(args)), repr(_numbers(kwargs)), parts))
        if apart - result.apart:
            result = replace(result, apart=result.apart | apart, parents=(result,))
        self._made.append(result)
        for tensor in written:
            self.book.overwrite(tensor, result, found[0])
        self.book.put(made[0], result, found[0])
        for tensor, label in zip(made[1:], found[1:], strict=False):  # each part of a split is a tensor of its own
            origin = replace(result)
            self._made.append(origin)
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

    def _take(self, given: Sequence[Tensor]) -> None:
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

    def _synapses(self) -> tuple[InnerSynapse, ...]:
        """The synapses inside the neuron at work, if the table of neurons has some for it."""
        frame = self._stack.frames[-1] if self._stack.in_neuron and self._stack.frames else None
        return nodes.inner_synapses(self._stack.module(frame.path)) if frame is not None else ()

    def _inside(
        self, func: Any, name: str, args: Any, kwargs: Any, given: Sequence[Tensor], out: Tensor, label: Label,
        ordinal: int,
    ) -> Origin:  # fmt: skip
        """An operation inside a neuron with synapses: one at such a weight is an event, all others are dynamics."""
        origins = [self.book.origin(t) for t in given]
        rule, path = OPERATIONS.get(overload(func).site), self._stack.frames[-1].path
        synapses, module, product = self._synapses(), self._stack.module(path), None
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
            self.book.set_origin(met.data, operand_of(met, before, path, self.units.get(path, 1.0)))
            self._event(facts.pop("what"), name, ordinal, given, [met.data], result, out, label, **facts)
            self.book.set_origin(met.data, before)  # elsewhere it is what it was
            return result
        result, what = derive(func, name, args, kwargs, given, origins, out)
        weights = [o for o in origins if o.weight]
        data = any(not o.weight and not o.blank for o in origins)
        other = what == "unknown" and any(named(o, synapses, path) for o in weights)
        if data and weights and (rule is not None or other):
            self._inside_neuron(name)
        return result

    def _inside_neuron(self, name: str) -> None:
        """A layer with weights inside a neuron is not counted, so it is listed."""
        path = self._stack.frames[-1].path
        reason = "weights inside a neuron are taken as part of its dynamics and are not counted"
        nothing = Origin()
        self.events.append(Event("unknown", path, 0, name, 0, (), (), nothing, View(()), alone=True, reason=reason))

    def _event(
        self, what: str, op: str, ordinal: int, given: Sequence[Tensor], data: Sequence[Tensor], result: Origin,
        out: Tensor, label: Label, **facts: Any,
    ) -> None:  # fmt: skip
        frame = self._stack.frames[-1]
        origins = tuple(self.book.observe(t) if what != "unknown" else self.book.origin(t) for t in data)
        positions = tuple(next(i for i, t in enumerate(given) if t is operand) for operand in data)
        argument = None
        if len(data) == 1 and frame.argument is not None:
            same = self.book.origin(frame.argument) is origins[0] and frame.argument.numel() == data[0].numel()
            argument = self.view(frame.argument) if same else None
        module = self._stack.module(frame.path)
        alone = what in ("conv", "linear") and not self._stack.in_neuron and _is_operation(module)
        if alone and isinstance(bias := getattr(module, "bias", None), Tensor):
            facts["biases"] = bias.numel()
        event = Event(
            what, frame.path, frame.call, op, ordinal, origins, tuple(self.view(t) for t in data), result,
            View(tuple(out.shape), label), positions, argument=argument, alone=alone, **facts,
        )  # fmt: skip
        result.made, result.site, result.view = (frame.path, frame.call, op, ordinal), event.site(), event.out_view
        self.events.append(event)

    def view(self, tensor: Tensor) -> View:
        """Shape and label of a tensor as they are now."""
        return View(tuple(tensor.shape), self.labeller.label(tensor))

    # ---------------------------------------------------------------- modules
    def entered(self, frame: Frame) -> None:
        """The model was called, with a tensor somewhere in its arguments."""
        x = frame.argument
        assert x is not None
        known = self.book.origin(x)
        view = self.view(x)
        origin = Origin(
            INPUT, frame.call, stateless=True, recipe=known.made_as, steady=known.steady and not known.unknown,
            apart=known.apart, of_input=True, varies=True, maker=INPUT, view=view,
        )  # fmt: skip
        self.book.put(x, origin, view.label)
        self._made.append(origin)
        self.book.observe(x)
        self.inputs.append(x)
        self.events.append(Event(INPUT, "", frame.call, INPUT, 0, (origin,), (view,), origin, view, alone=True))

    def neuron_entered(self, frame: Frame, module: nn.Module) -> None:
        """A neuron begins to work."""
        if nodes.is_opaque(module):
            self._stack.opaque += 1
            if not any(p.dim() > 0 for p in module.parameters()):  # weights inside it are to be seen
                self.pause()
        elif frame.argument is not None and not nodes.is_known(module):
            with self.book.muting():
                self.labeller.own_axes(frame.argument)

    def neuron_left(self, path: str, frame: Frame, tensors: Sequence[Tensor], module: nn.Module) -> None:
        """A neuron has handed out its spikes."""
        known = nodes.is_known(module)
        if nodes.is_opaque(module):
            self._stack.opaque -= 1
            self.go_on()
        if not tensors:
            return
        place = min(self.spikes.get(path, 0), len(tensors) - 1)
        spikes, x = tensors[place], frame.argument
        self._take([] if x is None else [x])
        with self.book.muting():
            label = self._behind_neuron(path, module, x, spikes, known)
        for kept in (*tensors, *nodes.memories(module)) if known else tensors:
            if kept is not spikes:
                self._left_beside(kept, spikes, label)
                if nodes.state_spikes(module):
                    self.book.set_origin(kept, Origin(unit=1.0, varies=True, parents=(self.book.origin(kept),)))
        unit, view = self.units.get(path, 1.0), View(tuple(spikes.shape), label)
        parents = () if x is None else (self.book.origin(x),)
        origin = Origin(path, frame.call, unit=unit, maker=NEURON, varies=True, view=view, parents=parents)
        self.book.put(spikes, origin, label)
        self._made.append(origin)
        self.book.observe(spikes)
        self.events.append(
            Event(NEURON, path, frame.call, NEURON, 0, (origin,), (view,), origin, view, (place,), alone=True)
        )

    def _behind_neuron(self, path: str, module: nn.Module, x: Tensor | None, out: Tensor, known: bool) -> Label:
        if x is not None and known:
            self.book.origin(x)
        if known and x is not None and nodes.runs_over_time(module):
            return self.labeller.multi_step(path, x, out)
        if not known:
            self.labeller.settle_by_evidence(path, x)
            own = self.labeller.label(out)
            if own.get(TIME) is not None and own.fields[TIME].numel() > 1:
                return own
            if self.labeller.T is not None and self.labeller.time is not None and own.get(TIME) is not None:
                return own
            return self.labeller.single_step(path, x, out, own)
        # A cell whose weights join what it is called with has labels of its own.
        joined = any(synapse.meets == ARGUMENT for synapse in nodes.inner_synapses(module))
        return self.labeller.single_step(path, x, out, self.labeller.label(out) if joined else None)

    def _left_beside(self, kept: Tensor, spikes: Tensor, label: Label) -> None:
        """What a neuron hands out or keeps beside its spikes: a membrane potential, of the last step."""
        if kept.dim() == 0 or self.book.label(kept).fields:
            return
        fields = {}
        for name, values in label.fields.items():
            if kept.dim() == values.dim() and kept.shape == spikes.shape:
                fields[name] = values
            elif kept.shape == spikes.shape[1:]:
                last = values[-1]
                fields[name] = last if name == TIME else (values.amax(0) if values.shape[0] > 1 else values[0])
        self.book.put(kept, Origin(varies=True, parents=(self.book.origin(spikes),)), Label(fields, label.joined))

    def left(self, path: str, frame: Frame, tensors: Sequence[Tensor]) -> None:
        """A module has handed out tensors; the first one bears its name."""
        self.ordinals[path, frame.call] = dict(frame.ordinals)
        if not tensors:
            return
        first = tensors[0]
        origin = self.book.origin(first)
        if path and not origin.weight and (origin.name is None or path in self.names):
            origin.name, origin.call, origin.view = path, frame.call, self.view(first)
        last = next((e for e in reversed(self.events) if e.what not in ("unknown", "mask", *SUMS)), None)
        if last is not None and last.module == path and last.what == "linear" and first.numel() <= _LOGITS:
            self.layers[path].append((first.detach(), self.view(first)))

    # ---------------------------------------------------------------- afterwards
    def finish(self, outputs: Any) -> None:
        """The pass has ended: note what came out, and which step of a loop each operation belongs to."""
        self.outputs = [x for x in tensors_in(outputs) if x.dim()]  # a single number is a loss, and no logits
        self.output_views = [self.view(x) for x in self.outputs]
        self._take(self.outputs)
        self.events = told_apart(self.events)
        self.labeller.settle_by_calls()
        neurons = [event for event in self.events if event.what == NEURON]
        self.labeller.number_steps([e.out_view.label for e in neurons], neurons[0].module if neurons else "")
        single: dict[tuple[str, int], int] = {}
        for event in neurons:
            steps = self.labeller.time.steps(event.out_view.label) if self.labeller.time else None
            if steps is not None and steps.numel() == 1 and int(steps.flatten()[0]) != ANY:
                step = single[event.module, event.call] = int(steps.flatten()[0])
                for origin in event.out.parents:
                    origin.needed = step if origin.needed is None else min(step, origin.needed)
        for event in self.events:  # what a neuron does inside, it does at the step of its call
            if event.name and (event.module, event.call) in single:
                event.out.needed = single[event.module, event.call]
        for origin in reversed(self._made):
            if origin.needed is None or origin.maker == NEURON:
                continue
            for parent in origin.parents:
                if not parent.weight:
                    parent.needed = origin.needed if parent.needed is None else min(origin.needed, parent.needed)

    def mixing(self) -> str | None:
        """What joins several images, if that reaches a neuron or what is counted or the model's output; else None."""
        counted = [event for event in self.events if event.what != "unknown"]
        views = [view for event in counted for view in event.views]
        # What a sum over everything is for (a log, an assertion) is nothing that anybody waits for.
        views += [event.out_view for event in counted if event.what not in SUMS]
        for view in [*views, *self.output_views]:
            why = view.label.joined.get(IMAGE)
            if why is not None:
                return why
        return None


class _TracingStack(ModuleStack):
    """The module stack of a trace: tells it what goes into the model, and what modules hand out.

    Attributes:
        opaque: above 0 while one of SpikingJelly's neurons is at work.
    """

    def __init__(self, trace: Trace, model: nn.Module, neurons: Mapping[str, nn.Module]) -> None:
        super().__init__(model, neurons)
        self._trace = trace
        self.opaque = 0

    def __enter__(self) -> ModuleStack:
        self.opaque = 0
        return super().__enter__()

    def enter(self, path: str, args: Any) -> None:
        super().enter(path, args)
        frame = self.frames[-1]
        with self._trace.aside():
            if path == "" and frame.argument is not None:
                self._trace.entered(frame)
            if path in self._neurons:
                self._trace.neuron_entered(frame, self.module(path))

    def leave(self, path: str, output: Any) -> Frame | None:
        frame = super().leave(path, output)
        if frame is not None:
            tensors = list(tensors_in(output))
            with self._trace.aside():
                if path in self._neurons:
                    self._trace.ordinals[path, frame.call] = dict(frame.ordinals)
                    self._trace.neuron_left(path, frame, tensors, self.module(path))
                else:
                    self._trace.left(path, frame, tensors)
        return frame


def _is_operation(module: nn.Module) -> bool:
    """Whether a module is a layer with weights and nothing else, so that its name names the operation."""
    parts = {name for name, _ in module.named_children()}
    return parts <= {"parametrizations"} and any(True for _ in module.parameters())


def _unruled(name: str, out: Tensor) -> str:
    return f"{name} on {out.numel():,} real numbers of the traced batch multiplies them and has no counting rule"


def _told_apart(labeller: Labeller, call: Call, label: Label) -> frozenset[str]:
    """The fields along which a constant with values of its own has met data that were the same everywhere."""
    found: set[str] = set()
    if call.name in ("cumsum", "cumprod", "tril", "triu"):  # sums up to a position, and triangles, differ along an axis
        return frozenset(n for n, values in label.fields.items() if n != IMAGE and values.numel() > 1)
    if rule_of(call.func, call.name) is not pointwise or len(call.given) < 2:
        return frozenset()
    constants = [x for x in call.given if not labeller.label(x).fields and x.numel() > 1]
    for name, values in label.fields.items() if constants else ():
        if name != TIME and name not in labeller.alike:
            continue
        for axis, size in enumerate(values.shape):
            for x in constants if size > 1 else ():
                place = axis - values.dim() + x.dim()
                if place >= 0 and x.shape[place] > 1:
                    found.add(name)
    return frozenset(found)


def _numbers(value: Any) -> Any:
    """The arguments of an operation without its tensors."""
    if isinstance(value, Tensor):
        return None
    if isinstance(value, (tuple, list)):
        return [_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    return value


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Tensors that an operation writes into: of `add_`, `copy_`, and `out=`."""
    found: list[Tensor] = []
    for index, argument in overload(func).written:
        found += tensors_in(args[index] if index < len(args) else kwargs.get(argument))
    return found


def _keeps_values(before: Tensor, after: Tensor) -> bool:
    """Whether a copy in another type has the same values: real numbers that become integers do not."""
    return after.is_floating_point() or not before.is_floating_point()
