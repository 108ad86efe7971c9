"""A copy of a spiking network with ReLUs in place of its neurons: an ordinary network with the same layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError, failing
from spikeattn.tracing.neurons import NeuronPredicate, evaluating, find_neurons, uncompiled
from spikeattn.tracing.state import state_kept


def check_like_relu(model: nn.Module, neurons: Mapping[str, nn.Module], run: Callable[[nn.Module], Any]) -> str:
    """Run a spiking network once; say which neuron a ReLU cannot stand for, and why; "" where there is none.

    A ReLU takes one tensor and returns one of its shape, be it one time step or all of them. The model is left as it
    was.

    Args:
        neurons: by path.
        run: calls the model that it is handed.
    """
    unlike: dict[str, str] = {}

    def look(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given = [*args, *kwargs.values()]
            if len(given) != 1 or not isinstance(given[0], Tensor):
                unlike.setdefault(path, f"takes {len(given)} arguments where a ReLU takes one tensor")
            elif not isinstance(output, Tensor):
                unlike.setdefault(path, f"returns a {type(output).__name__} where a ReLU returns one tensor")
            elif output.shape != given[0].shape:
                unlike.setdefault(path, f"makes {tuple(output.shape)} of {tuple(given[0].shape)}, a ReLU keeps shapes")

        return hook

    handles = [neuron.register_forward_hook(look(path), with_kwargs=True) for path, neuron in neurons.items()]
    try:
        with torch.no_grad(), uncompiled(), state_kept(model), evaluating(model):
            run(model)
    finally:
        for handle in handles:
            handle.remove()
    return next((f"{path}, a {type(neurons[path]).__name__}, {why}" for path, why in unlike.items()), "")


def relu_copy(model: nn.Module, predicate: NeuronPredicate) -> nn.Module:
    """A deep copy in which a ReLU stands for every neuron, also where one neuron stands in several places.

    Raises:
        SpikeattnError: the network cannot be copied.
    """
    with failing(f"{type(model).__name__} cannot be copied"):
        copy = deepcopy(model)
    relus: dict[nn.Module, nn.Module] = {neuron: nn.ReLU() for neuron in find_neurons(copy, predicate).values()}
    for module in list(copy.modules()):
        for name, child in module._modules.items():
            if child in relus:
                module._modules[name] = relus[child]
    if left := next((path for path, module in copy.named_modules() if predicate(module)), None):
        raise SpikeattnError(f"the neuron {left} of its copy is no module of a module, so no ReLU can take its place")
    return copy
