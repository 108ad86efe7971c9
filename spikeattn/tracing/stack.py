"""Which module is at work: the stack of calls of a forward pass, kept by hooks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.tracing.nested_tensors import tensors_in


@dataclass
class Frame:
    """One call of a module: the number of the call, its first argument, and how often each operation ran in it."""

    path: str
    call: int
    argument: Tensor | None
    ordinals: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def ordinal(self, op: str) -> int:
        """The position of this run of an operation among those of its name in this call."""
        number = self.ordinals[op]
        self.ordinals[op] += 1
        return number


class Hook:
    """A hook that does nothing in a copy of its module, deep or pickled: it belongs to the module that it watches."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (nothing,)


def nothing(*args: Any, **kwargs: Any) -> None:
    """What a `Hook` calls in a copy."""


class ModuleStack:
    """The modules at work, innermost last; neurons are opaque. Use as a context manager around forward passes.

    Attributes:
        frames: the open calls.
        calls: calls of each module so far.
        called_by: (caller, module) of those that began while others were at work.
        in_neuron: above 0 while a neuron is at work.
    """

    def __init__(self, model: nn.Module, neurons: Mapping[str, nn.Module]) -> None:
        self.frames: list[Frame] = []
        self.calls: dict[str, int] = defaultdict(int)
        self.called_by: set[tuple[str, str]] = set()
        self.in_neuron = 0
        self._neurons = neurons
        inside = tuple(f"{path}." for path in neurons)
        self._paths = {
            path: module
            for path, module in model.named_modules()
            # Scripted parts take no hooks; their operations are seen all the same, as those of the module around them.
            if not path.startswith(inside) and not isinstance(module, torch.jit.ScriptModule)
        }
        self._handles: list[Any] = []

    @property
    def weighted(self) -> tuple[str, ...]:
        """Paths of the modules with weights of their own, whether they are called or not."""
        return tuple(p for p, m in self._paths.items() if any(w.dim() > 1 for w in m.parameters(recurse=False)))

    def module(self, path: str) -> nn.Module:
        """The module of a path; the model itself has the empty one."""
        return self._paths[path]

    def enter(self, path: str, args: Any) -> None:
        """A call begins."""
        if self.frames:
            self.called_by.add((self.frames[-1].path, path))
        self.frames.append(Frame(path, self.calls[path], next(tensors_in(args), None)))
        self.calls[path] += 1
        self.in_neuron += path in self._neurons

    def leave(self, path: str, output: Any) -> Frame | None:
        """A call ends; frames that an exception left open are dropped."""
        while self.frames:
            frame = self.frames.pop()
            self.in_neuron -= frame.path in self._neurons
            if frame.path == path:
                return frame
        return None

    def _entering(self, path: str) -> Callable[..., None]:
        return lambda module, args, kwargs: self.enter(path, (args, kwargs))

    def _leaving(self, path: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self.leave(path, output)

        return leave

    def begin(self) -> None:
        """A forward pass begins: no module is at work, none has been called."""
        self.frames.clear()
        self.calls.clear()
        self.in_neuron = 0

    def __enter__(self) -> ModuleStack:
        self.begin()
        for path, module in self._paths.items():
            self._handles.append(module.register_forward_pre_hook(Hook(self._entering(path)), with_kwargs=True))
            self._handles.append(module.register_forward_hook(Hook(self._leaving(path))))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.frames.clear()


def in_parts(mode: TorchDispatchMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Run a composite operation so that `mode` sees its parts; NotImplemented if it has none.

    In inference mode `linear`, `matmul` or `conv2d` reach a dispatch mode whole.
    """
    if not torch.is_inference_mode_enabled():
        return NotImplemented
    TorchDispatchMode.__enter__(mode)
    try:
        return func.decompose(*args, **kwargs)
    finally:
        TorchDispatchMode.__exit__(mode, None, None, None)
