"""Which modules of a network are spiking neurons, by the names of their classes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib import import_module

from torch import nn

from spikeattn.errors import SpikeattnError, unknown
from spikeattn.models.repository import REPOSITORIES
from spikeattn.tracing.neurons import is_spiking_neuron


def neuron_predicate(model: nn.Module, names: list[str]) -> Callable[[nn.Module], bool]:
    """Says of a module whether it is a spiking neuron: one of the table, or of the classes named.

    Args:
        names: bare, of a class in the model's own files or of one of its modules; or dotted, of an importable module.

    Raises:
        SpikeattnError: no such class, several of that name, or one that no module of the model is of.
    """
    classes = tuple(_neuron_class(model, name) for name in names)
    return lambda module: isinstance(module, classes) or is_spiking_neuron(module)


def _neuron_class(model: nn.Module, name: str) -> type:
    home, _, last = name.rpartition(".")
    used = {cls for module in model.modules() for cls in type(module).__mro__ if issubclass(cls, nn.Module)}
    repository = REPOSITORIES.get(model)
    room = repository.modules() if repository is not None else {}
    if home:
        candidates = {cls for cls in used if cls.__qualname__ == last and _is_home(cls.__module__, home)}
        if not candidates:
            with contextlib.suppress(ImportError, ValueError):
                value = vars(room.get(home) or import_module(home)).get(last)
                candidates = {value} if isinstance(value, type) else set()
    else:
        candidates = {cls for cls in used if cls.__name__ == last}
        candidates = candidates or {
            value for module in room.values() if isinstance(value := vars(module).get(last), type)
        }
    plain = repository.plain if repository is not None else str
    if not candidates:
        known = {cls.__name__ for cls in used} - {"Module"}
        raise unknown("class of a neuron (--neuron-class)", name, known)
    if len(candidates) > 1:
        where = ", ".join(sorted(f"{plain(cls.__module__)}.{cls.__qualname__}" for cls in candidates))
        raise SpikeattnError(f"--neuron-class {name}: there are several, {where}; give one of these")
    found = candidates.pop()
    if found is nn.Module or found not in used:
        raise SpikeattnError(f"--neuron-class {name}: no module of the model is a {found.__name__}")
    return found


def _is_home(module: str, home: str) -> bool:
    return module == home or module.endswith(f".{home}")
