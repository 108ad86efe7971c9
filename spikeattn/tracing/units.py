"""What the spikes of a neuron are whole multiples of: 1, a threshold, 1/4 for levels k/4."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from spikeattn.recording.counting import unit_of
from spikeattn.tracing.neurons import emits_binary, evaluating, reset
from spikeattn.tracing.origins import tensors_in


def units_of(
    model: nn.Module, neurons: Mapping[str, nn.Module], run: Callable[[], Any]
) -> dict[str, float | None]:
    """What the spikes of a neuron are whole multiples of (None: of nothing), for neurons that do not just give 0 and 1.

    Every level of a neuron must be seen, whatever the data: besides the forward pass `run`, each of them is shown
    seeded noise, weak and strong, in the place of what it received there.
    """
    levelled = {name: neuron for name, neuron in neurons.items() if not emits_binary(neuron)}
    received: dict[str, tuple[Any, ...]] = {}
    levels: dict[str, list[torch.Tensor]] = {name: [] for name in levelled}

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        received.setdefault(name, args)
        levels[name].append(_sizes(output))

    if not levelled:
        return {}
    handles = [neuron.register_forward_hook(partial(note, name)) for name, neuron in levelled.items()]
    with evaluating(model), torch.no_grad():
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()
        for name, args in received.items():
            levels[name] += _answers_to_noise(levelled[name], args)
    return {name: unit_of(torch.cat(found)) for name, found in levels.items() if found}


def _answers_to_noise(neuron: nn.Module, args: tuple[Any, ...]) -> Iterator[torch.Tensor]:
    """Sizes of the spikes that a neuron gives to noise of several strengths, in place of its first tensor."""
    generator = torch.Generator().manual_seed(0)
    x = next(tensors_in(args), None)
    if x is None or x is not args[0] or not x.is_floating_point():
        return
    usual = float(x.abs().max().nan_to_num())
    for strength in (1, 4, 16, 64, usual / 4, usual, 4 * usual):
        noise = (torch.rand(x.shape, generator=generator) * 2 - 0.5) * strength
        reset(neuron)
        yield _sizes(neuron(noise.to(x), *args[1:]))
    reset(neuron)


def _sizes(output: Any) -> torch.Tensor:
    return next(tensors_in(output)).detach().abs().flatten().unique()[:4096]
