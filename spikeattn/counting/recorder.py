"""Hooks that count during ordinary forward passes: every tensor of a plan, per image and time step.

The model is exactly as before when the recorder is left, also after an exception.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.compat.torch_modes import KeepsHandler, autograd_inside_dispatch, top_mode
from spikeattn.counting.on_cpu import FanOuts
from spikeattn.counting.tally import Tally
from spikeattn.errors import SpikeattnError
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.stack import Frame, Hook, ModuleStack, in_parts
from spikeattn.tracing.taps import Pairs, Plan, Tap

_Taps = dict[int, list[tuple[Tap, int | None]]]  # by call: what to count there, and the time step that the call is


_counting: ContextVar[bool] = ContextVar("counting", default=False)  # of any recorder, for all of them
_own_passes: ContextVar[int] = ContextVar("own_passes", default=0)


def _none_left(path: str, x: Tensor) -> Mapping[str, Tensor]:
    return {}


@contextmanager
def own_passes() -> Iterator[None]:
    """Passes inside are spikeattn's own: recordings of the user's, which are open around them, do not count them."""
    token = _own_passes.set(_own_passes.get() + 1)
    try:
        yield
    finally:
        _own_passes.reset(token)


def in_own_passes() -> bool:
    """Whether the pass that runs is one of spikeattn's own."""
    return _own_passes.get() > 0


class Recorder:
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
        self._leaves_counts = getattr(model, "leaves_counts", False) is True
        self.model, self.plan = model, replace(plan, neurons={}) if self._leaves_counts else plan
        self.tally: Tally | None = None
        self.apart: Container[str] = ()
        self.left: Callable[[str, Tensor], Mapping[str, Tensor]] = _none_left
        self._unplanned = unplanned
        self._depth = 0
        self._dropped: dict[int, tuple[Tensor, Tensor]] = {}
        self._calls: dict[str, int] = defaultdict(int)
        self._fan_outs: FanOuts = {}
        self._watching = ExitStack()
        self._operations: _Operations | None = None

    def __enter__(self) -> Recorder:
        with ExitStack() as stack:
            self._watch(stack)
            self._watching = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._watching.close()
        self._operations = self.tally = None

    def _watch(self, stack: ExitStack) -> None:
        """Register the hooks; closing the stack removes them."""
        modules = dict(self.model.named_modules())
        arguments: dict[str, _Taps] = defaultdict(lambda: defaultdict(list))
        outputs: dict[str, _Taps] = defaultdict(lambda: defaultdict(list))
        operations = [tap for tap in self.plan.taps if tap.where == "operation"]
        for tap in self.plan.taps:
            if tap.where in ("output", "argument"):
                for number, (call, _) in enumerate(tap.at):
                    place = (outputs if tap.where == "output" else arguments)[tap.module][call]
                    place.append((tap, tap.step(number)))
        for path in dict.fromkeys((*arguments, *outputs)):
            before, after = self._hooks(path, arguments[path], outputs[path])
            stack.enter_context(modules[path].register_forward_pre_hook(Hook(before), with_kwargs=True))
            stack.enter_context(modules[path].register_forward_hook(Hook(after)))
        if not self._leaves_counts:  # a copy for speed runs layers within others
            for path in self.plan.calls.keys() - arguments.keys() - outputs.keys():
                stack.enter_context(modules[path].register_forward_hook(Hook(self._note_call(path))))
        if self.plan.logits_from is not None:
            stack.enter_context(modules[self.plan.logits_from].register_forward_hook(Hook(self._keep_logits)))
        if operations or self.plan.pairs:
            self._operations = _Operations(self, operations)
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
        self._depth = _own_passes.get()
        self.tally = Tally(self.plan, batch, self._calls, self._unplanned)
        self.tally.fan_outs = self._fan_outs
        self.tally.partial = self._leaves_counts
        self.tally.apart, self.tally.kept = self.apart, kept
        try:
            if self._operations is None:
                yield self.tally
            else:
                self._operations.ran.clear()
                self.tally.ran = self._operations.ran
                self._operations.stack.begin()
                with self._operations.watching():
                    if inside is not None:
                        self._operations.stack.enter("", inside)
                    yield self.tally
        finally:
            self.tally = None
            self._dropped.clear()

    def show(self, images: Tensor) -> None:
        """Count the batch of a pass, where the network is called with no tensor that holds it (`Tap.where`)."""
        with self.muting():
            for tap in self.plan.taps:
                if tap.where == "batch":
                    self.counting.count(tap, images, None)

    @property
    def counts(self) -> bool:
        """Whether what runs is part of the pass that is counted."""
        return self.tally is not None and self._depth == _own_passes.get()

    @property
    def counting(self) -> Tally:
        """The tally of the pass that is counted."""
        assert self.tally is not None
        return self.tally

    @contextmanager
    def muting(self) -> Iterator[None]:
        """What runs inside is counting, and no operation of the model.

        The mode that watches operations is left meanwhile: to be asked about each of them costs more than they do.
        """
        token, mode = _counting.set(True), self._operations
        graph = self.tally is not None and self.tally.graph is not None  # where gradients are wanted, autograd needs it
        apart = mode is not None and not graph and top_mode() is mode
        if mode is not None and apart:
            mode.__exit__(None, None, None)
        try:
            yield
        finally:
            if mode is not None and apart:
                mode.__enter__()
            _counting.reset(token)

    def _hooks(self, path: str, arguments: _Taps, outputs: _Taps) -> tuple[Callable[..., None], Callable[..., None]]:
        neuron = path in self.plan.neurons

        def count(taps: _Taps, values: Any, module: nn.Module) -> None:
            due = taps.get(self._calls[path])
            if not due:
                return
            left = getattr(module, "counts", {}) if self._leaves_counts else {}
            with self.muting():
                for tap, step in due:
                    x = list(tensors_in(values))[tap.index]
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

    def note_dropout(self, before: Tensor, after: Tensor) -> None:
        """Spikes that dropout has changed: what receives them is counted as if it had not."""
        if after is not before and before.shape == after.shape:
            self._dropped[id(after)] = (after, before)

    def before_dropout(self, x: Tensor) -> Tensor:
        """A tensor as it would be without the dropout that it, or what it is a view of, has gone through."""
        while self._dropped:
            if id(x) in self._dropped:
                x = self._dropped[id(x)][1]
                continue
            after, before = self._dropped.get(id(x._base), (None, None))
            if after is None or before is None or after.stride() != before.stride():
                break
            offset = x.storage_offset() - after.storage_offset() + before.storage_offset()
            x = before.as_strided(x.size(), x.stride(), offset)
        return x

    def _note_call(self, path: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self.counts:
                self._calls[path] += 1

        return note

    def _keep_logits(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.counts:
            self.counting.logits.append(next(tensors_in(output)).detach())


class _Stack(ModuleStack):
    """Has the mode that watches operations leave while a module is at work that has none to count."""

    def __init__(self, model: nn.Module, neurons: Mapping[str, nn.Module], mode: _Operations) -> None:
        super().__init__(model, neurons)
        self._mode = mode

    def enter(self, path: str, args: Any) -> None:
        super().enter(path, args)
        self._mode.stand(path not in self._mode.watched)

    def leave(self, path: str, output: Any) -> Frame | None:
        frame = super().leave(path, output)
        self._mode.stand(not self.frames or self.frames[-1].path not in self._mode.watched)
        return frame


class _Operations(KeepsHandler, TorchDispatchMode):
    """Counts operands and pairs of functional operations; entered only for models that have some to count.

    Attributes:
        ran: how often each watched operation ran, by (module, call, operation).
        watched: modules in whose own calls operations are counted, not in those of modules inside.
    """

    def __init__(self, recorder: Recorder, taps: list[Tap]) -> None:
        super().__init__()
        self.stack = _Stack(recorder.model, recorder.plan.neurons, self)
        self._away = False
        self.ran: dict[tuple[str, int, str], int] = defaultdict(int)
        self._recorder = recorder
        self._entries: dict[tuple[str, int, str, int], list[tuple[Tap | Pairs, int | None]]] = defaultdict(list)
        watched: tuple[Tap | Pairs, ...] = (*taps, *recorder.plan.pairs)
        for entry in watched:
            for number, (call, ordinal) in enumerate(entry.at):
                self._entries[entry.module, call, entry.op, ordinal].append((entry, entry.step(number)))
        self._names = {op for _, _, op, _ in self._entries}
        self._known: dict[Any, str] = {}
        self.watched = {path for path, *_ in self._entries}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Operations that run inside are seen where some are counted."""
        with self:
            try:
                yield
            finally:
                self.stand(aside=False)

    def stand(self, aside: bool) -> None:
        """Leave for as long as nothing is counted: to be asked about each operation costs more than a small one."""
        if aside == self._away:
            return
        tally = self._recorder.tally
        graph = tally is not None and tally.graph is not None  # where gradients are wanted, autograd needs the mode
        if aside and not graph and top_mode() is self:
            self._away = True
            self.__exit__(None, None, None)
        elif self._away:
            self._away = False
            self.__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        recorder = self._recorder
        if recorder.tally is not None and recorder.tally.late and not _counting.get():
            # Before this operation, which may change the result of the last one in place.
            with recorder.muting(), self._autograd(recorder.tally):
                recorder.tally.count_late()
        out = in_parts(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        name = self._known.get(func)
        if name is None:  # a pass runs thousands of few operations
            name = self._known[func] = func._schema.name.split("::")[1].rstrip("_")
        if name not in self._names or not self.stack.frames or _counting.get() or not self._recorder.counts:
            return func(*args, **kwargs)
        frame = self.stack.frames[-1]
        if frame.path not in self.watched:
            return func(*args, **kwargs)
        found = self._entries.get((frame.path, frame.call, name, frame.ordinal(name)), ())
        self.ran[frame.path, frame.call, name] += 1
        operands = list(tensors_in(args))
        if not found:
            return func(*args, **kwargs)
        tally = self._recorder.counting
        with self._recorder.muting(), self._autograd(tally):
            operands = [self._recorder.before_dropout(operand) for operand in operands]
            for entry, step in found:  # before the operation, which may work in place
                if isinstance(entry, Pairs):
                    a, b = (operands[i] for i in entry.operands)
                    tally.count_pairs(entry, a, b, step)
                elif entry.operand >= 0:
                    operand = operands[entry.operand]
                    operand = operand if entry.columns is None else operand.narrow(*entry.columns)
                    tally.count(entry, operand, step)
        out = func(*args, **kwargs)
        results = [(entry, step) for entry, step in found if isinstance(entry, Tap) and entry.operand < 0]
        if results:
            tally.late.append(partial(self._count_results, tally, results, next(tensors_in(out))))
            if tally.graph is None:  # nothing to wait for
                tally.count_late()
        return out

    def _count_results(self, tally: Tally, results: list[tuple[Tap, int | None]], result: Tensor) -> None:
        with self._recorder.muting():
            for tap, step in results:
                tally.count(tap, result, step)

    @contextmanager
    def _autograd(self, tally: Tally) -> Iterator[None]:
        """Autograd, which stands above what a dispatch mode sees, where the counts are to have gradients."""
        if tally.graph is None:
            yield
            return
        with autograd_inside_dispatch(), self:  # the restored state expects a mode at work; `muting` passes all on
            yield
