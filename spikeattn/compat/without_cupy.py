"""Neurons of SpikingJelly before version 2 that ask for CuPy, on a machine without CuPy or without CUDA.

Published networks are written with `backend="cupy"`, which their constructors refuse where CuPy is missing, and whose
kernels take no tensor of the CPU. `backend="torch"` computes the same dynamics.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from spikeattn.compat.replacements import Replacements


def has_cupy() -> bool:
    """Whether neurons with `backend="cupy"` run here."""
    return torch.cuda.is_available() and find_spec("cupy") is not None


@contextmanager
def torch_in_place_of_cupy(replaced: Replacements) -> Iterator[None]:
    """For the time of a block: neurons that are made with `backend="cupy"`, or switched to it, take "torch"."""
    with ExitStack() as stack:
        if find_spec("spikingjelly.clock_driven"):
            neuron = import_module("spikingjelly.clock_driven.neuron")
            for cls in {each for each in vars(neuron).values() if isinstance(each, type)}:
                init = vars(cls).get("__init__")
                if init is not None and "backend" in inspect.signature(init).parameters:
                    stack.callback(setattr, cls, "__init__", init)
                    type.__setattr__(cls, "__init__", _on_torch(init, replaced))
        if find_spec("spikingjelly.activation_based"):
            module: Any = import_module("spikingjelly.activation_based.base").MemoryModule
            stack.callback(setattr, module, "backend", module.backend)
            module.backend = _switch(module.backend, replaced)
        yield


def _on_torch(init: Callable[..., None], replaced: Replacements) -> Callable[..., None]:
    signature = inspect.signature(init)

    @wraps(init)
    def __init__(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        if bound.arguments.get("backend") == "cupy":
            bound.arguments["backend"] = _torch(replaced)
        init(*bound.args, **bound.kwargs)

    return __init__


def _switch(backend: Any, replaced: Replacements) -> property:
    def chosen(self: Any, value: str) -> None:
        backend.__set__(self, _torch(replaced) if value == "cupy" else value)

    return property(backend.fget, chosen)


def _torch(replaced: Replacements) -> str:
    missing = "CuPy is not installed here" if find_spec("cupy") is None else "there is no CUDA here"
    replaced.say(f"backend='cupy': backend='torch' stands for it, {missing}")
    return "torch"
