"""The operations that a recorder counts: a dispatch mode that is asked where some are to be counted, and only there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.compat.torch_modes import KeepsHandler, autograd_inside_dispatch, top_mode
from spikeattn.counting.counted_pass import CountedPass, counting_now
from spikeattn.counting.tally import Tally
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.stack import Frame, Hook, ModuleStack, in_parts
from spikeattn.tracing.taps import Pairs, Plan, Tap


class _Stack(ModuleStack):
    """The calls of the modules that are watched, and of those that they call; the mode is at work in the former alone.

    A hook costs some microseconds a call. So there are none on modules that no watched one holds, or has called while
    the plan was made; were one called by it later, the watched operations inside would be too many, which a tally
    refuses.
    """

    def __init__(self, model: nn.Module, plan: Plan, mode: Operations) -> None:
        super().__init__(model, plan.neurons)
        self._mode = mode
        inside = {path for watched in mode.watched for path in _held(self._paths, watched)}
        called = {path for caller, path in plan.called_by if caller in mode.watched}
        self._inside = ((inside | called) & self._paths.keys()) - mode.watched

    def __enter__(self) -> ModuleStack:
        self.begin()
        hooks = [(path, self._entering(path), self._leaving(path)) for path in self._mode.watched & self._paths.keys()]
        hooks += [(path, self._covering(path), self._uncovering(path)) for path in self._inside]
        for path, before, after in hooks:
            module = self._paths[path]
            self._handles.append(module.register_forward_pre_hook(Hook(before), with_kwargs=True))
            self._handles.append(module.register_forward_hook(Hook(after)))
        return self

    def enter(self, path: str, args: Any) -> None:
        super().enter(path, args)
        self._mode.stand(path not in self._mode.watched)

    def leave(self, path: str, output: Any) -> Frame | None:
        frame = super().leave(path, output)
        self._mode.stand(not self.frames or self.frames[-1].path not in self._mode.watched)
        return frame

    def _covering(self, path: str) -> Callable[..., None]:
        watched, frames = self._mode.watched, self.frames

        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            if frames and (frames[-1].path in watched or frames[-1].path == path):  # it may call itself
                self.enter(path, ())

        return enter

    def _uncovering(self, path: str) -> Callable[..., None]:
        frames = self.frames

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            if frames and frames[-1].path == path:
                self.leave(path, output)

        return leave


def _held(modules: Mapping[str, nn.Module], path: str) -> Iterator[str]:
    """Paths of the modules that a module holds, in lists and dicts of modules too."""
    for name, child in modules[path].named_children() if path in modules else ():
        inner = f"{path}.{name}".lstrip(".")
        yield inner
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _held(modules, inner)


class Operations(KeepsHandler, TorchDispatchMode):
    """Counts operands and pairs of functional operations; entered only for models that have some to count.

    Attributes:
        ran: how often each watched operation ran, by (module, call, operation).
        watched: modules in whose own calls operations are counted, not in those of modules inside.
    """

    def __init__(self, model: nn.Module, plan: Plan, counted: CountedPass, taps: list[Tap]) -> None:
        super().__init__()
        self._away = False
        self.ran: dict[tuple[str, int, str], int] = defaultdict(int)
        self._counted = counted
        self._entries: dict[tuple[str, int, str, int], list[tuple[Tap | Pairs, int | None]]] = defaultdict(list)
        watched: tuple[Tap | Pairs, ...] = (*taps, *plan.pairs)
        for entry in watched:
            for number, (call, ordinal) in enumerate(entry.at):
                self._entries[entry.module, call, entry.op, ordinal].append((entry, entry.step(number)))
        self._names = {op for _, _, op, _ in self._entries}
        self._known: dict[Any, str] = {}
        self.watched = {path for path, *_ in self._entries}
        self.stack = _Stack(model, plan, self)

    @contextmanager
    def watching(self, inside: Any = None) -> Iterator[None]:
        """Operations of the pass that runs inside are seen where some are counted.

        Args:
            inside: what the model was called with, where its call has begun already.
        """
        self.ran.clear()
        self.stack.begin()
        with self:
            try:
                self.stand(aside=True)
                if inside is not None:
                    self.stack.enter("", inside)
                yield
            finally:
                self.stand(aside=False)

    def stand(self, aside: bool) -> None:
        """Leave for as long as nothing is counted: to be asked about each operation costs more than a small one."""
        if aside == self._away:
            return
        tally = self._counted.tally
        graph = tally is not None and tally.graph is not None  # where gradients are wanted, autograd needs the mode
        if aside and not graph and top_mode() is self:
            self._away = True
            self.__exit__(None, None, None)
        elif self._away:
            self._away = False
            self.__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        counted = self._counted
        if counted.tally is not None and counted.tally.late and not counting_now.get():
            # Before this operation, which may change the result of the last one in place.
            with counted.muting(), self._autograd(counted.tally):
                counted.tally.count_late()
        out = in_parts(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        name = self._known.get(func)
        if name is None:  # a pass runs thousands of few operations
            name = self._known[func] = func._schema.name.split("::")[1].rstrip("_")
        if name not in self._names or not self.stack.frames or counting_now.get() or not self._counted.counts:
            return func(*args, **kwargs)
        frame = self.stack.frames[-1]
        if frame.path not in self.watched:
            return func(*args, **kwargs)
        found = self._entries.get((frame.path, frame.call, name, frame.ordinal(name)), ())
        self.ran[frame.path, frame.call, name] += 1
        operands = list(tensors_in(args))
        if not found:
            return func(*args, **kwargs)
        tally = self._counted.counting
        with self._counted.muting(), self._autograd(tally):
            operands = [self._counted.before_dropout(operand) for operand in operands]
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
        with self._counted.muting():
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
