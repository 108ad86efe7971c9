"""Find the spiking neurons of a model, know what they emit, and reset their state."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from spikeattn.errors import SpikeattnError

NeuronPredicate = Callable[[nn.Module], bool]

_PACKAGE = "spikingjelly.activation_based.neuron"
# Neurons of that package whose output is not 0/1 by construction: levels, signs or learned amplitudes.
_NOT_BINARY = ("ILIF", "Ternary", "STBIF", "FewSpike", "FS", "DSR", "QANN", "IFNodeQ", "FlexSN")


def is_spiking_neuron(module: nn.Module) -> bool:
    """Whether a module is one of SpikingJelly's spiking neurons, or a subclass of one.

    SpikingJelly has spiking classes that are no `BaseNode` (PSN, GatedLIF ...) and `NonSpiking*` nodes that emit
    membrane potentials; so the module a class is defined in decides, not a base class alone.
    """
    classes = [c for c in type(module).__mro__ if c.__module__.startswith(_PACKAGE)]
    return bool(classes) and not any(c.__name__.startswith("NonSpiking") for c in classes)


def find_neurons(model: nn.Module, predicate: NeuronPredicate = is_spiking_neuron) -> dict[str, nn.Module]:
    """Dotted path -> neuron, outermost only: a neuron inside a neuron is part of it.

    Raises:
        SpikeattnError: the model has none.
    """
    found: dict[str, nn.Module] = {}

    def visit(module: nn.Module, path: str) -> None:
        if predicate(module):
            found[path] = module
            return
        for name, child in module.named_children():
            visit(child, f"{path}.{name}" if path else name)

    visit(model, "")
    if not found:
        raise SpikeattnError(
            f"{type(model).__name__} has no spiking neurons: none of its {sum(1 for _ in model.modules())} modules "
            "comes from SpikingJelly's neuron package. For neurons of your own pass neurons=lambda module: "
            "isinstance(module, YourNeuron); a network without spikes has no firing rates to record"
        )
    return found


def neuron_class(neuron: nn.Module) -> str:
    """Name of SpikingJelly's class that a neuron is or derives from; its own class where that is none of theirs."""
    names = (c.__name__ for c in type(neuron).__mro__ if c.__module__.startswith(_PACKAGE))
    return next(names, type(neuron).__name__)


def emits_binary(neuron: nn.Module) -> bool:
    """Whether a neuron emits nothing but 0 and 1 by construction (a Heaviside step in the forward pass)."""
    from spikingjelly.activation_based import neuron as sj

    names = [c.__name__ for c in type(neuron).__mro__]
    if not isinstance(neuron, sj.BaseNode) or any(name.startswith(_NOT_BINARY) for name in names):
        return False
    return bool(getattr(getattr(neuron, "surrogate_function", None), "spiking", False))


def is_multi_step(neuron: nn.Module, over_time: bool) -> bool:
    """Whether one call of the neuron covers all time steps ([T, B, ...] in and out).

    Args:
        over_time: what the shapes of its output suggest, for a neuron that does not say its step mode.
    """
    mode = getattr(neuron, "step_mode", None)
    return over_time if mode is None else mode == "m"


def reset(model: nn.Module) -> None:
    """Put every stateful SpikingJelly module of the model back to its initial state."""
    from spikingjelly.activation_based import base

    for module in model.modules():
        if isinstance(module, base.MemoryModule):
            module.reset()


def leftover_state(neurons: Mapping[str, nn.Module]) -> str | None:
    """The first neuron that still holds a membrane potential of an earlier forward pass, or None."""
    for name, neuron in neurons.items():
        if any(isinstance(value, torch.Tensor) for value in getattr(neuron, "_memories", {}).values()):
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
