"""Thresholds of a network's neurons multiplied by one number, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError
from spikeattn.tracing.neurons import NeuronPredicate, find_neurons, is_spiking_neuron

THRESHOLD = "v_threshold"  # of SpikingJelly's neurons, whose own code compares the membrane potential with it
_READERS = (
    "forward", "single_step_forward", "multi_step_forward", "single_step_functional_forward", "neuronal_fire",
    "neuronal_charge", "neuronal_reset",
)  # fmt: skip  # of a class that changes one of them nobody knows whether it compares with `v_threshold`
_OWNERS = ("spikingjelly", "spikeattn.compat", "torch.nn")
_SHOWN = 3  # neurons in an error


def threshold_neurons(model: nn.Module, neurons: NeuronPredicate = is_spiking_neuron) -> dict[str, nn.Module]:
    """The spiking neurons of a network by their dotted path, all of which SpikingJelly's code fires at `v_threshold`.

    Raises:
        SpikeattnError: a neuron that has none, or of a class that changes how it fires: half a network at another
            threshold is no point of a sweep.
    """
    found = find_neurons(model, neurons)
    if others := [path for path, neuron in found.items() if not _fires_at_threshold(neuron)]:
        more = " and others" if len(others) > _SHOWN else ""
        named = ", ".join(f"{path} ({type(found[path]).__name__})" for path in others[:_SHOWN])
        raise SpikeattnError(
            f"thresholds cannot be scaled: {len(others)} of {len(found)} neurons do not fire at SpikingJelly's "
            f"{THRESHOLD}: {named}{more}. In Python give sa.measured_sweep a function that returns the network at a "
            "scale: sa.measured_sweep(build, loader, threshold_scales=[0.8, 1, 1.2])"
        )
    return found


@contextmanager
def scaled_thresholds(
    model: nn.Module, scale: float, neurons: NeuronPredicate = is_spiking_neuron
) -> Iterator[Mapping[str, nn.Module]]:
    """Inside, every `v_threshold` is `scale` times as large; what it was afterwards. Resets and weights stay.

    Yields:
        The neurons, by their dotted path.
    """
    found = threshold_neurons(model, neurons)
    before = {path: getattr(neuron, THRESHOLD) for path, neuron in found.items()}
    try:
        scale_thresholds(model, scale, neurons)
        yield found
    finally:
        for path, neuron in found.items():
            setattr(neuron, THRESHOLD, before[path])


def scale_thresholds(model: nn.Module, scale: float, neurons: NeuronPredicate = is_spiking_neuron) -> None:
    """Multiply every `v_threshold` for good; each neuron once, wherever it stands."""
    check_scale(scale)
    for neuron in threshold_neurons(model, neurons).values():
        threshold: Any = getattr(neuron, THRESHOLD)
        if isinstance(threshold, nn.Parameter):
            scaled: Any = nn.Parameter(threshold.detach() * scale, requires_grad=threshold.requires_grad)
        else:
            scaled = threshold * scale
        setattr(neuron, THRESHOLD, scaled)


def check_scale(scale: Any) -> float:
    """A factor of thresholds: at 0 or below every neuron fires at rest.

    Raises:
        SpikeattnError: it is no finite number above 0.
    """
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not number or not 0 < scale < float("inf"):
        raise SpikeattnError(f"a threshold scale is {shown(scale)}; give a finite number above 0, and 1 for no change")
    return float(scale)


def _fires_at_threshold(neuron: nn.Module) -> bool:
    threshold = getattr(neuron, THRESHOLD, None)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | torch.Tensor):
        return False
    owners = (next((c for c in type(neuron).__mro__ if name in vars(c)), None) for name in _READERS)
    return all(owner is None or owner.__module__.startswith(_OWNERS) for owner in owners)
