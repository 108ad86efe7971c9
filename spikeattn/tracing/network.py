"""What a network must be before it is run: a torch module whose parts are Python's and whose weights have values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError, failing
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.nested_tensors import numbers_of

_STATISTICS = ("running_mean", "running_var")  # of a batch norm: infinite ones make every output 0 or NaN


def check_network(model: Any, predicate: nodes.NeuronPredicate) -> None:
    """Refuse what cannot be profiled as a network, in one sentence.

    Raises:
        SpikeattnError: no module, a class, a state_dict; a part that torch.jit or torch.export has turned into code of
            its own; no spiking neurons; weights without values, or with NaN.
    """
    check_module(model)
    for module in model.modules():
        if "_modules" not in vars(module) and not isinstance(module, torch.jit.ScriptModule):
            name = type(module).__name__
            raise SpikeattnError(f"{name} is no whole module: let {name}.__init__ call super().__init__() first")
    spiking: set[int] = set()
    if callable(predicate) and not isinstance(predicate, type):
        for module in model.modules():
            with failing(f"neurons= fails on a {type(module).__name__} of the model", _PREDICATE):
                spiking |= {id(module)} if predicate(module) else set()
    _check_compiled(model, spiking)
    nodes.find_neurons(model, predicate)
    _check_weights(model)


def check_module(model: Any) -> None:
    """Refuse what is no torch module.

    Raises:
        SpikeattnError: what was given, and what to do with it.
    """
    if not isinstance(model, nn.Module):
        raise SpikeattnError(f"the model is {_no_module(model)}")


_PREDICATE = "; it is called with every module and says whether that is a spiking neuron"


def paper_names_of(model: Any) -> Mapping[str, Any]:
    """What a model itself calls its layers and tensors, by path; empty where it has no `paper_names`."""
    names: Mapping[str, Any] = model.paper_names() if hasattr(model, "paper_names") else {}
    return names


def _no_module(model: Any) -> str:
    """What was given for a model, and what to do with it."""
    kind = type(model).__name__
    if isinstance(model, type) and issubclass(model, nn.Module):
        return f"the class {model.__name__}; give an instance of it, {model.__name__}(...)"
    if isinstance(model, Mapping) and any(isinstance(value, Tensor) for value in model.values()):
        return f"{kind} of weights, a state_dict; load it into its network with load_state_dict, and give that"
    if isinstance(model, Mapping):
        keys = ", ".join(map(repr, list(model)[:5]))
        return f"{kind} of {keys}; build the network, load the weights into it, and give that"
    if isinstance(model, torch.export.ExportedProgram):
        return f"{kind}, in which neurons have become plain operations; give the module that it was made of"
    if isinstance(model, str):
        return f"the text {shown(model)}; give a torch module, such as spikeattn.create_model makes of a name"
    return f"{kind}; give a torch module, and other calls as forward="


def _check_compiled(model: nn.Module, neurons: set[int]) -> None:
    """Refuse neurons that have become code of torch.jit or torch.export, where nobody can count what they emit."""
    for path, part in model.named_modules():
        place = f"part {path} of the model" if path else "the model"
        if isinstance(part, torch.jit.ScriptModule):
            names = (str(getattr(inner, "original_name", "")) for inner in part.modules())
            scripted: list[Any] = [inner._c for inner in part.modules() if hasattr(inner, "_c")]
            kinds = [str(inner._type().qualified_name()) for inner in scripted]
            spiking = any("spikingjelly." in kind and ".neuron." in kind for kind in kinds)
            if not path or spiking or any(id(inner) in neurons for inner in part.modules()):
                raise SpikeattnError(
                    f"{place} is a {next(names, '') or type(part).__name__} that torch.jit has scripted or traced, so "
                    "that its neurons are compiled code and cannot be watched; give the module that it was made of"
                )
        elif isinstance(part, torch.fx.GraphModule) and "train" in vars(part):  # torch.export puts its own there
            raise SpikeattnError(
                f"{place} is a graph that torch.export has made, in which modules have become plain operations and "
                "which cannot be put into eval mode; give the module that it was made of"
            )
        elif not path and isinstance(part, torch.fx.GraphModule) and not neurons:
            raise SpikeattnError(
                "the model is a graph of torch.fx without a spiking neuron: the tracer has looked into the neurons and "
                "turned them into plain operations; let its is_leaf_module say True of them, or give the module itself"
            )


def _check_weights(model: nn.Module) -> None:
    """Refuse weights without values and values that make every result NaN.

    A buffer may be infinite, as the mask of causal attention is, which adds -inf to what must not be seen.
    """
    parameters = {name for name, _ in model.named_parameters()}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise SpikeattnError(
                f"weight {name} of the model has no size yet, since a lazy layer has seen no data; call the model once "
                "on a batch, then reset it, before it is profiled"
            )
        if tensor.is_meta:
            raise SpikeattnError(
                f"weight {name} of the model is on the meta device, which holds shapes and no values; create the model "
                "on a real device, or load its weights with load_state_dict(..., assign=True)"
            )
        numbers = numbers_of(tensor.detach())
        if numbers is None:
            raise SpikeattnError(
                f"weight {name} of the model is a {type(tensor).__name__}, whose values cannot be read; give it as a "
                "plain tensor"
            )
        if not numbers.is_floating_point():
            continue
        infinite = name not in parameters and name.rpartition(".")[2] not in _STATISTICS
        good = ~torch.isnan(numbers) if infinite else torch.isfinite(numbers)
        if not bool(good.all()):
            what = "NaN" if infinite else "NaN or infinite values"
            raise SpikeattnError(f"weight {name} of the model holds {what}; load an intact checkpoint")
