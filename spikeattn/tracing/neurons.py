"""Find the spiking neurons of a model, know what they emit, and reset their state."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from spikeattn.compat.torch_modes import force_eager
from spikeattn.errors import SpikeattnError
from spikeattn.tracing.modes import in_eval
from spikeattn.tracing.neuron_kind import ALL, BY_MODE, FOUND, ONE, InnerSynapse, NeuronKind
from spikeattn.tracing.neuron_table import kind_of

NeuronPredicate = Callable[[nn.Module], bool]


def is_spiking_neuron(module: nn.Module) -> bool:
    """Whether a module is a spiking neuron of the table (`neuron_table`), or of a class that derives from one."""
    kind = kind_of(module)
    return kind is not None and kind.spiking


def find_neurons(model: nn.Module, predicate: NeuronPredicate = is_spiking_neuron) -> dict[str, nn.Module]:
    """Dotted path -> neuron, outermost only: a neuron inside a neuron is part of it.

    Raises:
        SpikeattnError: the model has none, or is one; the predicate is no function of a module.
    """
    if isinstance(predicate, type) or not callable(predicate):
        raise SpikeattnError(
            f"neurons is {predicate!r}; give a function that says of a module whether it is a spiking neuron, e.g. "
            "neurons=lambda module: isinstance(module, YourNeuron)"
        )
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()

    def visit(module: nn.Module, path: str) -> None:
        if id(module) in seen:
            return
        seen.add(id(module))
        if predicate(module):
            found[path] = module
            return
        for name, child in module.named_children():
            visit(child, f"{path}.{name}" if path else name)

    visit(model, "")
    if "" in found:
        raise SpikeattnError(
            f"the model is itself one spiking neuron, a {type(model).__name__}; profile the network around it, or wrap "
            "it: torch.nn.Sequential(model)"
        )
    if not found:
        raise SpikeattnError(
            f"{type(model).__name__} has no spiking neurons: none of its {sum(1 for _ in model.modules())} modules "
            "is in the table of neurons (of SpikingJelly, snnTorch, norse, sinabs and BrainCog). For neurons of your "
            "own pass neurons=lambda module: isinstance(module, YourNeuron); a network without spikes has no firing "
            "rates to record"
        )
    return found


_STATED: WeakKeyDictionary[nn.Module, NeuronPredicate] = WeakKeyDictionary()


@contextmanager
def stated(model: nn.Module, predicate: NeuronPredicate) -> Iterator[None]:
    """Inside, `predicate` says for the maps of a model which of its modules are spiking neurons, not the table."""
    before = _STATED.get(model)
    _STATED[model] = predicate
    try:
        yield
    finally:
        if before is None:
            del _STATED[model]
        else:
            _STATED[model] = before


def predicate_of(model: nn.Module) -> NeuronPredicate:
    """What says of the modules of a model which are spiking neurons: the table, unless something else is `stated`."""
    return _STATED.get(model, is_spiking_neuron)


def has_neurons(model: nn.Module) -> bool:
    """Whether a model has spiking neurons."""
    return any(map(predicate_of(model), model.modules()))


def neurons_of(model: nn.Module) -> dict[str, nn.Module]:
    """The spiking neurons of a model as `find_neurons` gives them; empty where it has none."""
    return find_neurons(model, predicate_of(model)) if has_neurons(model) else {}


def neuron_class(neuron: nn.Module) -> str:
    """Name of the framework's class that a neuron is or derives from; its own class where it is the user's own."""
    kind = kind_of(neuron)
    package = kind.package if kind is not None else ()
    return next((c.__name__ for c in type(neuron).__mro__ if c.__module__.startswith(package)), type(neuron).__name__)


def emits_binary(neuron: nn.Module) -> bool:
    """Whether a neuron emits nothing but 0 and 1 by construction (a Heaviside step in the forward pass)."""
    kind = kind_of(neuron)
    heaviside = bool(getattr(getattr(neuron, "surrogate_function", None), "spiking", False))
    return kind is not None and kind.binary and heaviside


def is_known(neuron: nn.Module) -> bool:
    """Whether a neuron runs by its framework's own code alone, so that the table says which rows its spikes belong to.

    A subclass that changes how the neuron is called may turn its axes first, so its labels are derived instead.
    """
    kind = kind_of(neuron)
    if kind is None or not kind.spiking or kind.order != "TB" or _steps(neuron, kind) in (None, FOUND):
        return False
    frameworks = {package.partition(".")[0] for package in kind.package}
    methods = ("forward", "multi_step_forward", "single_step_forward")
    owners = (next((c for c in type(neuron).__mro__ if name in vars(c)), None) for name in methods)
    return all(owner is None or owner.__module__.partition(".")[0] in frameworks for owner in owners)


def is_opaque(neuron: nn.Module) -> bool:
    """Whether nothing inside a neuron is looked at: it is known, and has no synapses inside."""
    return is_known(neuron) and not inner_synapses(neuron)


def inner_synapses(neuron: nn.Module) -> tuple[InnerSynapse, ...]:
    """The weights inside a neuron of the table that its spikes or currents meet."""
    kind = kind_of(neuron)
    if kind is None or not kind.synapses or not (kind.steps == FOUND or is_known(neuron)):
        return ()
    return tuple(each for synapse in kind.synapses for each in _told_apart(synapse, neuron))


def _told_apart(synapse: InnerSynapse, neuron: nn.Module) -> list[InnerSynapse]:
    """A synapse of the table; of "path.*", one for every weight matrix below that path."""
    below = synapse.weight.removesuffix("*")
    if below == synapse.weight:
        return [synapse]
    weights = neuron.named_parameters()
    return [replace(synapse, weight=name) for name, w in weights if name.startswith(below) and w.dim() > 1]


def runs_over_time(neuron: nn.Module) -> bool:
    """Whether one call of a neuron of the table covers all time steps, [T, B, ...] in and out."""
    kind = kind_of(neuron)
    return kind is not None and _steps(neuron, kind) == ALL


def spike_place(neuron: nn.Module) -> int | None:
    """Which of the tensors that a neuron returns are its spikes, where the table says it."""
    kind = kind_of(neuron)
    return None if kind is None else kind.spikes


def state_spikes(neuron: nn.Module) -> bool:
    """Whether what a neuron returns beside its spikes is 0 or 1 as well."""
    kind = kind_of(neuron)
    return kind is not None and kind.state_spikes


def _steps(neuron: nn.Module, kind: NeuronKind) -> str | None:
    """How many time steps a call covers; None where the neuron does not say."""
    if kind.steps != BY_MODE:
        return kind.steps
    return {"m": ALL, "s": ONE}.get(getattr(neuron, "step_mode", ""))


def memories(neuron: nn.Module) -> list[torch.Tensor]:
    """Membrane potentials and other tensors that SpikingJelly's neurons, or those in a wrapper, keep between calls."""
    kept = (value for module in neuron.modules() for value in getattr(module, "_memories", {}).values())
    return [value for value in kept if isinstance(value, torch.Tensor)]


def reset(model: nn.Module) -> None:
    """Put every module that has a `reset`, or what the table calls so, back to its state before the first step."""
    for module in model.modules():
        kind = kind_of(module)
        for name in kind.state if kind is not None else ():
            if isinstance(kept := module._buffers.get(name), torch.Tensor):
                module._buffers[name] = kept.new_zeros(0)
        name = "reset" if kind is None else kind.reset
        if name in vars(module) or name in module._modules or _may_have(type(module), name):
            method = getattr(module, name, None)
            if callable(method) and not _needs_arguments(method):
                method()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model reset and in eval mode; afterwards reset again and in the modes it was in."""
    reset(model)
    try:
        with in_eval(model):
            yield
    finally:
        reset(model)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Whatever `torch.compile` has compiled runs as plain Python: hooks in compiled code would not see every call."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with force_eager():
        yield


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel and `torch.compile`."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def leftover_state(neurons: Mapping[str, nn.Module]) -> str | None:
    """The first neuron that still holds a membrane potential of an earlier forward pass, or None."""
    for name, neuron in neurons.items():
        initial = getattr(neuron, "_memories_rv", {})
        for key, value in getattr(neuron, "_memories", {}).items():
            if isinstance(value, torch.Tensor) and not isinstance(initial.get(key), torch.Tensor):
                return name
    return None


def membrane_sums(neurons: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    """Sum of the membrane potential of each neuron that holds one, a scalar on its device.

    A NaN charge never reaches the threshold, so it leaves the network as silence; only the membrane keeps it, and the
    sum is non-finite where the potential is.
    """
    sums = {}
    for name, neuron in neurons.items():
        v = getattr(neuron, "_memories", {}).get("v")
        if isinstance(v, torch.Tensor) and v.is_floating_point():
            sums[name] = v.detach().sum(dtype=torch.float32)
    return sums


def _may_have(cls: Any, name: str) -> bool:
    """Whether objects of a class may have an attribute that is not their own; to ask one that has none takes longer."""
    usual = cls.__getattr__ is nn.Module.__getattr__ and cls.__getattribute__ is nn.Module.__getattribute__
    return not usual or hasattr(cls, name)


def _needs_arguments(method: Callable[..., Any]) -> bool:
    function = getattr(method, "__func__", None)
    if isinstance(function, FunctionType):
        return len(_arguments_of(function)) > 1  # its own object is the first
    return bool(_required(method))


@lru_cache(maxsize=1024)
def _arguments_of(function: FunctionType) -> list[str]:
    return _required(function)


def _required(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments without which a function cannot be called."""
    needed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in, without a signature
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind in needed]


@contextmanager
def unregistered_forbidden(model: nn.Module, predicate: NeuronPredicate) -> Iterator[None]:
    """A neuron in a plain list, dict or tuple, which PyTorch does not know to be part of the model, may not be called.

    Raises:
        SpikeattnError: one was; nobody would reset or count it.
    """
    known = {id(module) for module in model.modules()}

    def hidden(value: Any, depth: int = 3) -> Iterator[nn.Module]:
        if isinstance(value, nn.Module):
            if id(value) not in known:
                yield from (module for module in value.modules() if predicate(module))
        elif depth and isinstance(value, (tuple, list, dict)):
            for item in value.values() if isinstance(value, dict) else value:
                yield from hidden(item, depth - 1)

    def refuse(place: str, module: nn.Module, args: Any) -> None:
        raise SpikeattnError(
            f"module {place} keeps spiking neurons in a plain list, dict or tuple, where PyTorch does not see them: "
            "they are neither reset nor counted; use torch.nn.ModuleList or ModuleDict"
        )

    handles = []
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if not key.startswith("_") and isinstance(value, (tuple, list, dict)):
                place = partial(refuse, f"{path or type(model).__name__}.{key}")
                handles += [neuron.register_forward_pre_hook(place) for neuron in hidden(value)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
