"""The one place that knows versions: names of older SpikingJelly, timm, torch and numpy, for code written for them.

Published repositories were written for SpikingJelly 0.0.0.0.4 to 0.14, timm 0.5 and torch 1. While such a file is
loaded and its factory runs, `OldModules` finds the modules that have moved and `patched` stands in for what has gone.
Both act only on what the installed versions lack, say in a `Replacements` what was used, and leave no trace.
"""

from __future__ import annotations

import collections.abc
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
from timm.models import _registry as registry
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _python_dispatch as dispatch

from spikeattn.errors import SpikeattnError

# Where a module stands now, by the longest beginning of its old name that is listed.
_MOVED = {
    "spikingjelly.clock_driven": "spikingjelly.activation_based",  # renamed after 0.0.0.0.12
    "spikingjelly.cext.neuron": "spikingjelly.activation_based.neuron",  # up to 0.0.0.0.4, neurons in CUDA
    "timm.models.layers": "timm.layers",  # moved in timm 0.9
    "timm.models.registry": "timm.models._registry",
    "timm.models.helpers": "timm.models._helpers",
}
_EMPTY = ("spikingjelly.cext",)
# What was an implementation of the same dynamics; "lava" computes others.
_BACKENDS = ("torch", "cupy", "triton")
# Methods by which a neuron changed its dynamics up to SpikingJelly 1; its present neurons never call them.
_DYNAMICS = ("neuronal_charge", "neuronal_fire", "neuronal_reset")
# Gone from numpy since 1.24, each only another name of Python's own type.
_NUMPY = {"float": float, "int": int, "bool": bool, "object": object, "complex": complex, "str": str}


class Replacements:
    """What was put in the place of names and arguments that are no more; one sentence each, in the order of use."""

    def __init__(self) -> None:
        self._said: dict[str, None] = {}

    def say(self, sentence: str) -> None:
        """Note a replacement, once."""
        self._said[sentence] = None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._said))


_LOADS: list[Replacements] = []  # of the loads that go on now, the innermost last


# ---- Neurons of old


def _multi_step(old: str, parent: type[nn.Module], names: Sequence[str], needed: str = "") -> type[nn.Module]:
    """The class that ran over all time steps in one call: the present one with step_mode="m".

    Args:
        names: its positional arguments, in the order that they had.
        needed: an argument whose old default is not known here.
    """

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(names):
            raise TypeError(f"{old}() takes {len(names)} positional arguments and {len(args)} were given")
        arguments = dict(zip(names, args, strict=False)) | kwargs
        if needed and needed not in arguments:
            raise TypeError(f"{old}() of spikingjelly.cext needs {needed}=, whose old default is not known")
        _leave_out(arguments.pop("backend", "torch"))
        for implementation in ("cupy_fp32_inference", "lava_s_cale", "alpha"):
            arguments.pop(implementation, None)
        if isinstance(arguments.get("surrogate_function"), str):  # in cext; it is about gradients alone
            del arguments["surrogate_function"]
        parent.__init__(self, **arguments, step_mode="m")

    doc = f"{old} of older SpikingJelly: {parent.__name__} over all time steps."
    members = {"__init__": __init__, "__module__": __name__, "__qualname__": old, "__doc__": doc}
    return type(parent)(old, (parent,), members)


def _leave_out(backend: Any) -> None:
    """Check an implementation of neurons that was asked for, and note that the installed version chooses its own."""
    if backend not in _BACKENDS:
        raise SpikeattnError(
            f"backend={backend!r} of a neuron: its dynamics are not those of SpikingJelly's other backends "
            f"({', '.join(_BACKENDS)}), and the installed version does not have it"
        )
    if backend != "torch" and _LOADS:
        _LOADS[-1].say(f"backend={backend!r}: left out, the installed SpikingJelly chooses by the device")


_REST = ("v_threshold", "v_reset", "surrogate_function", "detach_reset", "backend")
MultiStepIFNode = _multi_step("MultiStepIFNode", neuron.IFNode, _REST)
MultiStepLIFNode = _multi_step("MultiStepLIFNode", neuron.LIFNode, ("tau", "decay_input", *_REST))
MultiStepParametricLIFNode = _multi_step(
    "MultiStepParametricLIFNode", neuron.ParametricLIFNode, ("init_tau", "decay_input", *_REST)
)
MultiStepEIFNode = _multi_step(
    "MultiStepEIFNode", neuron.EIFNode, ("tau", "delta_T", "theta_rh", "v_threshold", "v_rest", *_REST[1:])
)
# Of spikingjelly.cext, with the same names there; the order of their arguments is not known here.
CextIFNode = _multi_step("CextIFNode", neuron.IFNode, ())
CextLIFNode = _multi_step("CextLIFNode", neuron.LIFNode, (), "tau")
CextParametricLIFNode = _multi_step("CextParametricLIFNode", neuron.ParametricLIFNode, ())


class MultiStepDropout(layer.Dropout):
    """One mask for all time steps, of older SpikingJelly."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p, step_mode="m")


class MultiStepDropout2d(layer.Dropout2d):
    """One mask of whole channels for all time steps, of older SpikingJelly."""

    def __init__(self, p: float = 0.2) -> None:
        super().__init__(p, step_mode="m")


_MULTI_STEP = (MultiStepIFNode, MultiStepLIFNode, MultiStepParametricLIFNode, MultiStepEIFNode)
_ADDED: dict[str, dict[str, Any]] = {
    "spikingjelly.clock_driven.neuron": {each.__name__: each for each in _MULTI_STEP},
    "spikingjelly.clock_driven.layer": {each.__name__: each for each in (MultiStepDropout, MultiStepDropout2d)},
    "spikingjelly.cext.neuron": {
        "MultiStepIFNode": CextIFNode,
        "MultiStepLIFNode": CextLIFNode,
        "MultiStepParametricLIFNode": CextParametricLIFNode,
    },
    "torch._six": {
        "inf": math.inf,
        "nan": math.nan,
        "string_classes": (str, bytes),
        "int_classes": int,
        "container_abcs": collections.abc,
    },
}


def check_dynamics(model: nn.Module) -> None:
    """Refuse neurons whose own dynamics the installed SpikingJelly would silently leave aside.

    Raises:
        SpikeattnError: a class derived from one of its neurons overrides a method that is never called any more.
    """
    if hasattr(neuron.BaseNode, _DYNAMICS[0]):
        return
    for path, module in model.named_modules():
        if not isinstance(module, neuron.BaseNode):
            continue
        for cls in type(module).__mro__:
            theirs = cls.__module__.startswith("spikingjelly.")
            if not theirs and (own := [name for name in _DYNAMICS if name in vars(cls)]):
                raise SpikeattnError(
                    f"{cls.__name__} (module {path}) changes its dynamics by {', '.join(own)}, which the neurons of "
                    "the installed SpikingJelly never call: its spikes would be those of "
                    f"{next(c.__name__ for c in cls.__mro__ if c.__module__.startswith('spikingjelly.'))}. Derive it "
                    "from neuron.SimpleBaseNode, or write its forward"
                )


# ---- Modules that have moved


class OldModules(MetaPathFinder):
    """Finds modules under the names that they had; asked last, so what is installed under a name comes first."""

    def __init__(self, replaced: Replacements) -> None:
        self._replaced = replaced
        self._served: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module made of the one that stands for it now; None for all other names."""
        present = self._present(name)
        if present is None and name not in (*_ADDED, *_EMPTY):
            return None
        package = name in _EMPTY or (present is not None and hasattr(present, "__path__"))
        return ModuleSpec(name, _Filled(name, present, self), is_package=package)

    def filled(self, name: str, present: ModuleType | None) -> None:
        """A module has been made."""
        self._served.append(name)
        if name not in _EMPTY:
            self._replaced.say(f"{name}: {present.__name__ if present else 'made here'} stands for it")

    def leave(self) -> None:
        """Forget the modules that were made; whoever has imported them keeps them."""
        for name in self._served:
            module = sys.modules.pop(name, None)
            parent, _, last = name.rpartition(".")
            if module is not None and vars(sys.modules.get(parent, module)).get(last) is module:
                delattr(sys.modules[parent], last)
        self._served.clear()

    @staticmethod
    def _present(name: str) -> ModuleType | None:
        for old in sorted(_MOVED, key=len, reverse=True):
            if name == old or name.startswith(f"{old}."):
                now = _MOVED[old] + name.removeprefix(old)
                try:
                    known = find_spec(now) is not None
                except ModuleNotFoundError:  # of its parent
                    return None
                return import_module(now) if known else None
        return None


class _Filled(Loader):
    """Fills a module with the names of the present one and those that have gone."""

    def __init__(self, name: str, present: ModuleType | None, finder: OldModules) -> None:
        self._name, self._present, self._finder = name, present, finder

    def exec_module(self, module: ModuleType) -> None:
        if self._present is not None:
            own = {key: value for key, value in vars(self._present).items() if not _is_dunder(key)}
            if hasattr(self._present, "__path__"):  # what is inside has moved with it, and may have lost names
                own = {key: value for key, value in own.items() if not isinstance(value, ModuleType)}
                vars(module)["__getattr__"] = partial(_submodule, self._name)
            vars(module).update(own)
            if "__all__" in vars(self._present):
                added = _ADDED.get(self._name, {})
                vars(module)["__all__"] = [*self._present.__all__, *added]
        vars(module).update(_ADDED.get(self._name, {}))
        self._finder.filled(self._name, self._present)


def _submodule(package: str, name: str) -> Any:
    """A module inside a package that has moved, where it is an attribute before anybody has imported it."""
    try:
        return import_module(f"{package}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module {package!r} has no attribute {name!r}") from None


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


# ---- What a file may import and not use


class Absent:
    """Something of a package that is not installed: it may be imported and named, and is an error where it is used."""

    def __init__(self, path: str, package: str) -> None:
        vars(self).update(_path=path, _package=package)

    def __getattr__(self, name: str) -> Any:
        if _is_dunder(name):
            raise AttributeError(name)
        return Absent(f"{self._path}.{name}", self._package)

    def __getitem__(self, item: Any) -> Any:  # in annotations
        return self

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __or__

    def _use(self, *args: Any, **kwargs: Any) -> Any:
        raise SpikeattnError(
            f"{self._path} is used, and {self._package} is not installed here; install the package that has it"
        )

    __call__ = __mro_entries__ = __instancecheck__ = __iter__ = __len__ = __bool__ = __enter__ = __setattr__ = _use
    __contains__ = __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __truediv__ = __matmul__ = __lt__ = _use

    def __repr__(self) -> str:
        return f"<{self._path}, not installed>"


def absent(name: str, missing: str) -> ModuleType:
    """A module in the place of one that is not installed.

    Args:
        missing: the part of the name that is not there, for the error.
    """
    module = ModuleType(name, f"In the place of {missing}, which is not installed.")
    vars(module).update(__path__=[], __getattr__=lambda key: getattr(Absent(name, missing), key))
    return module


# ---- What is other for the time of a load


@contextmanager
def patched(replaced: Replacements) -> Iterator[None]:
    """For the time of a block: arguments and functions that have gone are taken, and CUDA is not asked for in vain.

    timm's registry is afterwards what it was, so that two repositories may register models of one name.
    """
    with ExitStack() as stack:
        _LOADS.append(replaced)
        stack.callback(_LOADS.pop)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", FutureWarning)  # of old names, which the user cannot change
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Overwriting .* in registry")
        stack.enter_context(_backends())
        stack.enter_context(_numpy_names(replaced))
        stack.enter_context(_torch_names(replaced))
        stack.enter_context(_without_cuda(replaced))
        stack.enter_context(_registry_kept())
        yield


@contextmanager
def _backends() -> Iterator[None]:
    """Neurons take `backend=` and leave it aside: the installed version chooses by the device of the tensor."""
    changed: list[tuple[type, Callable[..., None]]] = []
    for cls in {each for each in vars(neuron).values() if isinstance(each, type)}:
        init = vars(cls).get("__init__")
        if init is not None and cls.__module__.startswith(neuron.__name__) and not _takes_backend(init):
            cls.__init__ = _tolerant(init)
            changed.append((cls, init))
    added = not hasattr(functional, "set_backend")
    if added:

        def set_backend(net: nn.Module, backend: str, *args: Any, **kwargs: Any) -> None:
            _leave_out(backend)

        functional.set_backend = set_backend
    try:
        yield
    finally:
        for cls, init in changed:
            cls.__init__ = init  # type: ignore[misc]
        if added:
            del functional.set_backend


def _takes_backend(init: Callable[..., None]) -> bool:
    return "backend" in inspect.signature(init).parameters


def _tolerant(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if "backend" in kwargs:
            _leave_out(kwargs.pop("backend"))
        init(self, *args, **kwargs)

    return __init__


@contextmanager
def _numpy_names(replaced: Replacements) -> Iterator[None]:
    missing = vars(np)["__getattr__"]

    def __getattr__(name: str) -> Any:
        if name in _NUMPY:
            replaced.say(f"numpy.{name}: {name} stands for it")
            return _NUMPY[name]
        return missing(name)

    np.__getattr__ = __getattr__  # type: ignore[method-assign]
    try:
        yield
    finally:
        np.__getattr__ = missing  # type: ignore[method-assign]


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


def top_mode() -> Any:
    """The dispatch mode that sees an operation first, or None: the only one that may leave the stack of modes."""
    return dispatch._get_current_dispatch_mode()
