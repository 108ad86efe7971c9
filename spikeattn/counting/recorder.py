"""Hooks that count during ordinary forward passes: every tensor of a plan, per image and time step.

The model is exactly as before when the recorder is left, also after an exception.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from spikeattn.counting.counted_pass import CountedPass
from spikeattn.counting.on_cpu import Kept
from spikeattn.counting.tally import Tally
from spikeattn.counting.watched_operations import Operations
from spikeattn.errors import SpikeattnError
from spikeattn.fast.count import Left, Reader, Slots
from spikeattn.fast.foreign import Fusion
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.stack import Hook
from spikeattn.tracing.taps import Plan, Tap, fans_ahead

_NOTHING: Mapping[str, Tensor] = {}
_Taps = dict[int, list[tuple[Tap, int | None]]]  # by call: what to count there, and the time step that the call is


def _none_left(path: str, x: Tensor) -> Left:
    return _NOTHING


def _tensor_of(values: Any, index: int) -> Tensor:
    return values if index == 0 and isinstance(values, Tensor) else list(tensors_in(values))[index]


class Recorder(CountedPass):
    """Counts the forward passes that run inside `with recorder.watching(batch):`, under a plan.

    Open the recorder itself with `with`: that registers the hooks and, at the end, removes them. The model may be the
    one that the plan was made of, or a copy of it whose modules have the same names and leave counts of their own
    (`fast`); those are taken, and what they did not count is counted here.

    Args:
        unplanned: takes the layers that the plan knows as unused and a pass calls all the same, as those of training
            alone; without it they are an error.

    Attributes:
        apart: neurons whose spikes are counted at every place of their output too; see `Tally`.
        left: gives the counts of a module's output, by its path and the output itself, that were taken when it was made
            (`fast.foreign`); empty where there are none.
    """

    def __init__(self, model: nn.Module, plan: Plan, unplanned: set[str] | None = None) -> None:
        super().__init__()
        self._leaves_counts = getattr(model, "leaves_counts", False) is True
        self.model, self.plan = model, replace(plan, neurons={}) if self._leaves_counts else plan
        self.apart: Container[str] = ()
        self.left: Callable[[str, Tensor], Left] = _none_left
        self._unplanned = unplanned
        self._calls: dict[str, int] = defaultdict(int)
        self._outputs: dict[str, _Taps] = {}
        self._kept = Kept(ahead=fans_ahead(plan), muting=self.muting)
        self._watching = ExitStack()
        self._operations: Operations | None = None

    def __enter__(self) -> Recorder:
        with ExitStack() as stack:
            self._watch(stack)
            self._watching = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._watching.close()
        self.mode = self._operations = self.tally = None

    def _watch(self, stack: ExitStack) -> None:
        """Register the hooks; closing the stack removes them."""
        modules = dict(self.model.named_modules())
        arguments: dict[str, _Taps] = defaultdict(lambda: defaultdict(list))
        outputs = self._outputs = defaultdict(lambda: defaultdict(list))
        operations = [tap for tap in self.plan.taps if tap.where == "operation"]
        for tap in self.plan.taps:
            if tap.where in ("output", "argument"):
                for number, (call, _) in enumerate(tap.at):
                    place = (outputs if tap.where == "output" else arguments)[tap.module][call]
                    place.append((tap, tap.step(number)))
        for path in dict.fromkeys((*arguments, *outputs)):
            before, after = self._hooks(path, arguments[path], outputs[path])
            if arguments[path]:
                stack.enter_context(modules[path].register_forward_pre_hook(Hook(before), with_kwargs=True))
            stack.enter_context(modules[path].register_forward_hook(Hook(after)))
        if not self._leaves_counts:  # a copy for speed runs layers within others
            for path in self.plan.calls.keys() - arguments.keys() - outputs.keys():
                stack.enter_context(modules[path].register_forward_hook(Hook(self._note_call(path))))
        if self.plan.logits_from is not None:
            stack.enter_context(modules[self.plan.logits_from].register_forward_hook(Hook(self._keep_logits)))
        if operations or self.plan.pairs:
            self.mode = self._operations = Operations(self.model, self.plan, self, operations)
            stack.enter_context(self._operations.stack)

    @contextmanager
    def watching(self, batch: int, inside: Any = None, kept: int | None = None) -> Iterator[Tally]:
        """Count what runs inside as one forward pass of `batch` images; `tally.collect(output)` gives the counts.

        Args:
            inside: what the model was called with, where its call began before there were hooks (`sa.record`).
            kept: so many of the images are wanted, the first ones; None for all.

        Raises:
            SpikeattnError: a neuron still holds the membrane potential of an earlier pass.
        """
        if self.plan.one_image and batch > 1:
            raise SpikeattnError(
                f"{type(self.model).__name__} mixes images, as its first batch, of one image, has shown; the next has "
                f"{batch}: give batches of one image throughout"
            )
        left = nodes.leftover_state(self.plan.neurons)
        if left is not None:
            raise SpikeattnError(
                f"neuron {left} still holds the membrane potential of an earlier forward pass, so these spikes would "
                "not belong to this batch alone; call spikingjelly.activation_based.functional.reset_net(model) before "
                "each batch"
            )
        self._calls.clear()
        tally = Tally(self.plan, batch, self._calls, self._unplanned)
        self._kept.slots = Slots(self._kept.slots.taken)
        tally.memory = self._kept
        tally.partial = self._leaves_counts
        tally.apart, tally.kept = self.apart, kept
        self._begin(tally)
        try:
            if self._operations is None:
                yield tally
            else:
                with self._operations.watching(inside):
                    tally.ran = self._operations.ran
                    yield tally
        finally:
            self._end()

    def take_from(self, kernels: Fusion) -> None:
        """Take the counts that kernels leave of what they make, in place of counting it again."""
        self.left, kernels.reader_of = kernels.left, self.reader_of

    def show(self, images: Tensor) -> None:
        """Count the batch of a pass, where the network is called with no tensor that holds it (`Tap.where`)."""
        with self.muting():
            for tap in self.plan.taps:
                if tap.where == "batch":
                    self.counting.count(tap, images, None)

    def _hooks(self, path: str, arguments: _Taps, outputs: _Taps) -> tuple[Callable[..., None], Callable[..., None]]:
        neuron = path in self.plan.neurons

        def count(taps: _Taps, values: Any, module: nn.Module) -> None:
            due = taps.get(self._calls[path])
            if not due:
                return
            left = getattr(module, "counts", {}) if self._leaves_counts else {}
            if not left and len(due) == 1 and self._count_again(path, *due[0], values):
                return
            with self.muting():
                for tap, step in due:
                    x = _tensor_of(values, tap.index)
                    known = left or (self.left(path, x) if tap.where == "output" else {})
                    self.counting.count(tap, self.before_dropout(x), step, known)

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self.counts:
                count(arguments, (args, kwargs), module)

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self.counts:
                count(outputs, output, module)
                if neuron and self.counting.graph is not None:
                    for tap, _ in outputs.get(self._calls[path], ()):
                        self.counting.graph.note_neuron(tap.name, tensors_in(args), list(tensors_in(output))[tap.index])
                self._calls[path] += 1

        return before, after

    def reader_of(self, path: str, x: Tensor) -> tuple[Reader, Slots] | None:
        """What counts the output of a module's present call, which has the shape and strides of `x`, and where to; None
        where no earlier pass has worked it out, or more is asked."""
        due = self._outputs[path].get(self._calls[path]) if self.counts and path in self._outputs else None
        if due is None or len(due) > 1 or due[0][0].index:
            return None
        return self.counting.reader_of(due[0][0], x)

    def _count_again(self, path: str, tap: Tap, step: int | None, values: Any) -> bool:
        """Count a tensor by what an earlier pass has worked out; False, with nothing done, where that is not enough."""
        x = _tensor_of(values, tap.index)
        return x is self.before_dropout(x) and self.counting.count_again(
            tap, x, step, self.left(path, x) if tap.where == "output" else _NOTHING
        )

    def _note_call(self, path: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self.counts:
                self._calls[path] += 1

        return note

    def _keep_logits(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.counts:
            self.counting.logits.append(next(tensors_in(output)).detach())
