"""Watch one forward pass operation by operation: which module made each tensor, and what every synapse receives.

A `Trace` is a dispatch mode: it sees the tensor operations that a model really executes, so functional calls
(`F.conv2d`, `q @ k`, `k * v`) are found like modules. Every tensor on the way has an origin (what it is: spikes, a
weight, a number) and a label (which image and time step its rows belong to). What happens inside the neurons of
`neuron_table` is passed over, but for the synapses inside them (`inside`); a user's own neuron is looked into for its
labels, and counts as one neuron all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.compat.torch_modes import top_mode
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.book import TensorBook
from spikeattn.tracing.concat import told_apart
from spikeattn.tracing.event_log import EventLog
from spikeattn.tracing.labeller import Labeller
from spikeattn.tracing.labels import ANY, IMAGE
from spikeattn.tracing.layout import TimeAxis
from spikeattn.tracing.module_events import ModuleEvents
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.operation_facts import written_tensors
from spikeattn.tracing.origins import Origin, View
from spikeattn.tracing.outputs import LOGITS, form_of, scores_in
from spikeattn.tracing.overloads import overload
from spikeattn.tracing.pass_events import BATCH_ITSELF, NEURON, SUMS, Event
from spikeattn.tracing.stack import Frame, ModuleStack, in_parts

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
        outputs, output_views: what came out of the pass.
        scores: which of them may be class scores; None where nothing says it.
        output_form: what came out, in words.
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
        self.outputs: list[Tensor] = []
        self.output_views: list[View] = []
        self.scores: int | None = None
        self.output_form = ""
        self.batch = batch
        self.book = TensorBook()
        self.labeller = Labeller(self.book, time_steps, totals, expected, steps)
        self._model = model
        self._shown: Tensor | None = None
        self._entered = self._paused = self._aside = False
        self._stack = _TracingStack(self, model, neurons)
        self._log = EventLog(type(model).__name__, self._stack, self.book, self.labeller, units or {})
        self.modules = ModuleEvents(self._log, names, spikes or {})

    @property
    def events(self) -> list[Event]:
        """What happened, in the order of execution."""
        return self._log.events

    @property
    def additions(self) -> list[Event]:
        """The additions without weights, of numbers or of two tensors, in the order of execution."""
        return self._log.additions

    @property
    def looks_up(self) -> bool:
        """Whether the input picks rows of a table that the model holds, as token ids do."""
        return self._log.looks_up

    @property
    def weighted(self) -> tuple[str, ...]:
        """Paths of the modules with weights of their own, whether they are called or not."""
        return self._stack.weighted

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each module was called, by path."""
        return self._stack.calls

    @property
    def called_by(self) -> frozenset[tuple[str, str]]:
        """(caller, module) of the modules that were called while others were at work."""
        return frozenset(self._stack.called_by)

    @property
    def inputs(self) -> list[Tensor]:
        """What went into the model, once per call of it."""
        return self.modules.inputs

    @property
    def layers(self) -> dict[str, list[tuple[Tensor, View]]]:
        """What small layers with weights gave, call by call, by path."""
        return self.modules.layers

    @property
    def ordinals(self) -> Mapping[tuple[str, int], Mapping[str, int]]:
        """How often each operation ran in each call, by (path, call)."""
        return self.modules.ordinals

    def show(self, images: Tensor) -> Tensor:
        """Note the batch that the pass will be given; image after image along axis 0."""
        self.book.put(images, Origin(stateless=True, of_input=True, varies=True), self.labeller.batch(images))
        self._shown = images
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
        if self._stack.in_neuron and facts.site in _LAYERS and not self._log.synapses():
            self._log.inside_neuron(name)
        if self._stack.opaque:
            return func(*args, **kwargs)
        written = written_tensors(func, args, kwargs)
        given = list(tensors_in((args, tuple(kwargs.values()))))
        for tensor in given:
            self.book.origin(tensor)
        for tensor in written:
            if self.book.origin(tensor).spiky:
                self.book.observe(tensor)
        before = given[0].shape if written and given else None
        out = func(*args, **kwargs)
        self._log.observe(func, name, args, kwargs, given, out, written, before)
        return out

    # ---------------------------------------------------------------- the model
    def model_entered(self, frame: Frame, tensors: Sequence[Tensor]) -> None:
        """The model is called with these tensors: the first that holds the images is its input.

        Where none does, as in a list of images or an object of the user's own, its input is the batch itself.
        """
        holding = [i for i, x in enumerate(tensors) if self._holds_images(x)]
        if holding:
            self.modules.model_entered(frame, tensors[holding[0]], holding[0])
        elif len(tensors) == 1:  # nothing tells its rows apart, as the plan will say
            self.modules.model_entered(frame, tensors[0], 0)
        elif self._shown is not None and not self.inputs:
            self.modules.model_entered(frame, self._shown, BATCH_ITSELF)

    def _holds_images(self, x: Tensor) -> bool:
        """Whether the rows of a tensor belong to the images of the batch, each to one."""
        image = self.book.label(x).get(IMAGE)
        return image is not None and (self.batch == 1 or image.numel() > 1) and self.book.origin(x).varies

    # ---------------------------------------------------------------- neurons
    def neuron_entered(self, frame: Frame, module: nn.Module) -> None:
        """A neuron begins to work."""
        if nodes.is_opaque(module):
            self._stack.opaque += 1
            if not any(p.dim() > 0 for p in module.parameters()):  # weights inside it are to be seen
                self.pause()
        elif frame.argument is not None and not nodes.is_known(module):
            with self.book.muting():
                self.labeller.own_axes(frame.argument)

    def neuron_left(self, frame: Frame, module: nn.Module, tensors: Sequence[Tensor]) -> None:
        """A neuron has handed out tensors."""
        if nodes.is_opaque(module):
            self._stack.opaque -= 1
            self.go_on()
        self.modules.ordinals[frame.path, frame.call] = dict(frame.ordinals)
        self.modules.neuron_left(frame.path, frame, tensors, module)

    # ---------------------------------------------------------------- afterwards
    def finish(self, outputs: Any) -> None:
        """The pass has ended: note what came out, and which step of a loop each operation belongs to."""
        self.outputs = [x for x in tensors_in(outputs) if x.dim()]  # a single number is a loss, and no logits
        self.output_views = [self._log.view(x) for x in self.outputs]
        scores = scores_in(outputs)
        self.scores = next((i for i, x in enumerate(self.outputs) if x is scores), None)
        views = {id(x): view for x, view in zip(self.outputs, self.output_views, strict=True)}
        self.output_form = form_of(outputs, views, self.batch)
        if self.scores is None and len(self.outputs) > 1:
            self.output_form += f", none of them called {LOGITS!r}"
        self._log.take(self.outputs)
        self._log.events = told_apart(self.events)
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
        for origin in reversed(self._log.origins):
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
            if path == "":
                self._trace.model_entered(frame, list(tensors_in(args)))
            if path in self._neurons:
                self._trace.neuron_entered(frame, self.module(path))

    def leave(self, path: str, output: Any) -> Frame | None:
        frame = super().leave(path, output)
        if frame is not None:
            tensors = list(tensors_in(output))
            with self._trace.aside():
                if path in self._neurons:
                    self._trace.neuron_left(frame, self.module(path), tensors)
                else:
                    self._trace.modules.module_left(path, frame, tensors)
        return frame
