"""Names and arguments of older SpikingJelly, timm, torch and numpy, for code written for them.

Published repositories were written for SpikingJelly 0.0.0.0.4 to 0.14, timm 0.5 and torch 1. While such a file is
loaded and its factory runs, `old_modules` finds the modules that have moved and `patched` stands in for what has gone.
Both act only on what the installed versions lack, say in a `Replacements` what was used, and leave no trace.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from spikeattn.compat.replacements import LOADS, Replacements
from spikeattn.compat.spikingjelly_version import is_current, spikingjelly_version
from spikeattn.compat.timm_names import registry
from spikeattn.compat.without_cupy import has_cupy, torch_in_place_of_cupy

# Gone from numpy since 1.24, each only another name of Python's own type.
_NUMPY = {"float": float, "int": int, "bool": bool, "object": object, "complex": complex, "str": str}


@contextmanager
def patched(replaced: Replacements) -> Iterator[None]:
    """For the time of a block: arguments and functions that have gone are taken, and CUDA is not asked for in vain.

    timm's registry is afterwards what it was, so that two repositories may register models of one name.
    """
    with ExitStack() as stack:
        LOADS.append(replaced)
        stack.callback(LOADS.pop)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", FutureWarning)  # of old names, which the user cannot change
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Overwriting .* in registry")
        if is_current():  # older versions take them
            from spikeattn.compat.old_neurons import backends_left_out

            stack.enter_context(backends_left_out())
        elif spikingjelly_version() is not None and not has_cupy():
            stack.enter_context(torch_in_place_of_cupy(replaced))
        stack.enter_context(_numpy_names(replaced))
        stack.enter_context(_torch_names(replaced))
        stack.enter_context(_without_cuda(replaced))
        stack.enter_context(_registry_kept())
        yield


@contextmanager
def _numpy_names(replaced: Replacements) -> Iterator[None]:
    missing = vars(np)["__getattr__"]

    def __getattr__(name: str) -> Any:
        if name in _NUMPY:
            replaced.say(f"numpy.{name}: {name} stands for it")
            return _NUMPY[name]
        return missing(name)

    np.__getattr__ = __getattr__  # type: ignore[method-assign]  # for the time of the load
    try:
        yield
    finally:
        np.__getattr__ = missing  # type: ignore[method-assign]  # as it was


@contextmanager
def _torch_names(replaced: Replacements) -> Iterator[None]:
    added = [name for name in ("custom_fwd", "custom_bwd") if not hasattr(torch.cuda.amp, name)]
    for name in added:
        setattr(torch.cuda.amp, name, partial(getattr(torch.amp, name), device_type="cuda"))
        replaced.say(f"torch.cuda.amp.{name}: torch.amp.{name} stands for it")
    try:
        yield
    finally:
        for name in added:
            delattr(torch.cuda.amp, name)


def _without_cuda(replaced: Replacements) -> AbstractContextManager[Any]:
    return nullcontext() if torch.cuda.is_available() else _OnCpu(replaced)


class _OnCpu(TorchFunctionMode):
    """Tensors that are to be made on, or moved to, a GPU that is not there stay on the CPU."""

    def __init__(self, replaced: Replacements) -> None:
        super().__init__()
        self._replaced = replaced

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.cuda:
            self._replaced.say(".cuda(): left out, there is no CUDA here")
            return args[0]
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = self._cpu()
        if func is torch.Tensor.to and len(args) > 1 and _is_cuda(args[1]):
            args = (args[0], self._cpu(), *args[2:])
        return func(*args, **kwargs)

    def _cpu(self) -> torch.device:
        self._replaced.say("device cuda: the CPU, there is no CUDA here")
        return torch.device("cpu")


def _is_cuda(device: Any) -> bool:
    """Whether a device is a GPU; a bare number is one, too."""
    if isinstance(device, int) and not isinstance(device, bool):
        return True
    return str(device).partition(":")[0] == "cuda" if isinstance(device, str | torch.device) else False


@contextmanager
def _registry_kept() -> Iterator[None]:
    tables = {key: value for key, value in vars(registry).items() if key.startswith(("_model", "_module", "_depr"))}
    tables = {key: value for key, value in tables.items() if isinstance(value, dict | set)}
    before = {key: _copied(table) for key, table in tables.items()}
    try:
        yield
    finally:
        for key, table in tables.items():
            table.clear()
            table.update(before[key])


def _copied(table: Any) -> Any:
    """A registry's table and the sets, lists and dictionaries in it."""
    if isinstance(table, dict):
        return {key: type(v)(v) if type(v) in (set, list, dict) else v for key, v in table.items()}
    return set(table)
