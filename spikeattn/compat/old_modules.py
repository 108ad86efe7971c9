"""Modules of SpikingJelly, timm and torch under the names that they had, made of those that stand for them now."""

from __future__ import annotations

import collections.abc
import math
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from spikeattn.compat.absent import is_dunder
from spikeattn.compat.replacements import Replacements
from spikeattn.compat.spikingjelly_version import is_current

# Where a module stands now, by the longest beginning of its old name that is listed.
_MOVED = {
    "spikingjelly.clock_driven": "spikingjelly.activation_based",  # renamed after 0.0.0.0.12
    "spikingjelly.cext.neuron": "spikingjelly.activation_based.neuron",  # up to 0.0.0.0.4, neurons in CUDA
    "timm.models.layers": "timm.layers",  # moved in timm 0.9
    "timm.models.registry": "timm.models._registry",
    "timm.models.helpers": "timm.models._helpers",
}
_EMPTY = ("spikingjelly.cext",)
# What has gone from them, by the module that had it.
_ADDED: dict[str, dict[str, Any]] = {
    "torch._six": {
        "inf": math.inf,
        "nan": math.nan,
        "string_classes": (str, bytes),
        "int_classes": int,
        "container_abcs": collections.abc,
    },
}
if is_current():  # older versions have these names themselves
    from spikeattn.compat import old_neurons

    _ADDED |= {
        "spikingjelly.clock_driven.neuron": {each.__name__: each for each in old_neurons.MULTI_STEP},
        "spikingjelly.clock_driven.layer": {
            each.__name__: each for each in (old_neurons.MultiStepDropout, old_neurons.MultiStepDropout2d)
        },
        "spikingjelly.cext.neuron": {
            "MultiStepIFNode": old_neurons.CextIFNode,
            "MultiStepLIFNode": old_neurons.CextLIFNode,
            "MultiStepParametricLIFNode": old_neurons.CextParametricLIFNode,
        },
    }


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
            own = {key: value for key, value in vars(self._present).items() if not is_dunder(key)}
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
