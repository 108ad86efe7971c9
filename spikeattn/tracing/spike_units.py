"""What the spikes of a neuron are whole multiples of: 1, a threshold, 1/4 for levels k/4."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from spikeattn.compat.torch_modes import without_dispatch
from spikeattn.errors import SpikeattnError
from spikeattn.tracing.kinds import distinct, unit_of
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.neurons import emits_binary, evaluating, is_spiking_neuron, reset, spike_place
from spikeattn.tracing.quantisers import Quantiser, quantiser_of

_PLAIN = (bool, int, float, str, type(None))
_SIZES = 4096  # of one call; more than kinds.LEVELS are real numbers, whatever the others are


def units_of(
    model: nn.Module,
    neurons: Mapping[str, nn.Module],
    run: Callable[[], Any],
    spike_output: int | None = None,
    tried: Container[str] = (),
) -> tuple[dict[str, float | None], dict[str, int]]:
    """What the spikes of a neuron are whole multiples of (None: of nothing), for neurons that do not just give 0 and 1.

    Every level of a neuron must be seen, whatever the data: besides the forward pass `run`, each of them is shown
    seeded noise, weak and strong, in the place of what it received there. Of neurons that are alike, which have the
    same levels, two are shown it for all: the one that received the weakest input, and the strongest.

    Args:
        tried: neurons that are shown noise even where their operations say the levels: these were seen to be others.
        spike_output: which of the tensors that a neuron returns are its spikes; by default the first one that holds
            whole multiples of something (a membrane potential does not).

    Returns:
        The units, and the position of the spikes among what the neuron returns, where that is not the first.
    """
    levelled = {name: neuron for name, neuron in neurons.items() if not emits_binary(neuron)}
    stated = {} if spike_output is not None else _stated(levelled, tried)
    levelled = {name: neuron for name, neuron in levelled.items() if name not in stated}
    received: dict[str, tuple[Any, ...]] = {}
    levels: dict[str, list[list[torch.Tensor]]] = {name: [] for name in levelled}

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        received.setdefault(name, args)
        levels[name].append(_sizes(output))

    if not levelled:
        return stated, {}
    handles = [neuron.register_forward_hook(partial(note, name)) for name, neuron in levelled.items()]
    with evaluating(model), torch.no_grad():
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()
        for alike in _groups(levelled, received):
            answers = [
                answer
                for name in _ends(alike, received)
                for answer in _answers_to_noise(levelled[name], received[name])
            ]
            for name in alike:
                levels[name] += answers
    units: dict[str, float | None] = {**stated}
    places: dict[str, int] = {}
    for name, found in levels.items():
        if not found:
            continue
        columns = [_unit(levelled[name], torch.cat(column)) for column in zip(*found, strict=False)]
        if not columns:
            raise SpikeattnError(
                f"neuron {name} returns no tensor that can be seen, but {type(levelled[name]).__name__} objects of its "
                "own; let it return its spikes as a tensor, or in a tuple, dict or dataclass"
            )
        told = spike_place(levelled[name])
        place = next((i for i, unit in enumerate(columns) if unit is not None), 0) if told is None else told
        if spike_output is not None:
            if not 0 <= spike_output < len(columns):
                raise SpikeattnError(
                    f"spike_output is {spike_output}; neuron {name} returns {len(columns)} tensors, counted from 0"
                )
            place = spike_output
        units[name] = columns[place]
        if place:
            places[name] = place
    return units, places


def _stated(neurons: Mapping[str, nn.Module], tried: Container[str]) -> dict[str, float | None]:
    """Units of the neurons whose levels are read off their operations, but of those that were `tried`."""
    found: dict[Any, float | None] = {}
    units = {}
    for name, neuron in neurons.items():
        if name in tried or (nature := nature_of(neuron)) is None:
            continue
        if nature not in found:
            quantiser = quantiser_of(neuron)
            levels = None if quantiser is None else quantiser.levels()
            found[nature] = None if levels is None else _unit(neuron, distinct(levels.abs()))
        if found[nature] is not None:
            units[name] = found[nature]
    return units


@contextmanager
def doubting(neurons: Mapping[str, nn.Module], doubted: set[str]) -> Iterator[None]:
    """Names of neurons that do other things in the pass inside than where their levels were read off their operations.

    Each is tried once more for every shape and type that it is given, and for what it is given beside the tensor.
    """
    quantisers: dict[Any, Quantiser | None] = {}
    seen: dict[Any, bool] = {}

    def try_again(name: str, nature: Any, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        quantiser = quantisers[nature]
        x = args[0] if args else None
        plain = isinstance(x, torch.Tensor) and all(isinstance(each, _PLAIN) for each in args[1:]) and not kwargs
        if quantiser is None or not isinstance(x, torch.Tensor) or not plain:
            doubted.add(name)
            return
        key = nature, x.shape, x.dtype, repr(args[1:])
        if key not in seen:
            with without_dispatch():  # none of the network's operations
                seen[key] = quantiser.is_what(module, x, *args[1:])
        if not seen[key]:
            doubted.add(name)

    with ExitStack() as stack:
        for name, neuron in neurons.items():
            nature = None if emits_binary(neuron) else nature_of(neuron)
            if nature is None:
                continue
            if nature not in quantisers:
                quantisers[nature] = quantiser_of(neuron)
            if quantisers[nature] is not None:
                hook = partial(try_again, name, nature)
                stack.callback(neuron.register_forward_hook(hook, with_kwargs=True).remove)
        yield


def _unit(neuron: nn.Module, levels: torch.Tensor) -> float | None:
    """The unit of what a neuron returns; where one of the table may emit many spikes in a step, their number is whole,
    however large."""
    unit = unit_of(levels)
    if unit is None and is_spiking_neuron(neuron) and bool((levels == levels.round()).all()):
        return 1.0
    return unit


def _groups(neurons: Mapping[str, nn.Module], received: Mapping[str, tuple[Any, ...]]) -> list[list[str]]:
    """Names of the neurons that received something, those together that nothing but their input can tell apart: of one
    class, without weights, buffers, parts or hooks of their own, with the same plain attributes, for one shape."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for name in received:
        nature, x = nature_of(neurons[name]), next(tensors_in(received[name]), None)
        groups[name if nature is None or x is None else (*nature, x.shape, x.dtype)].append(name)
    return list(groups.values())


def nature_of(neuron: nn.Module) -> tuple[Any, ...] | None:
    """What a neuron does, hashable; None where its attributes may hold more than can be compared."""
    bare = vars(nn.Module())
    if any(neuron._parameters) or any(neuron._buffers) or any(neuron._modules):
        return None
    if any(vars(neuron)[name] for name, value in bare.items() if isinstance(value, dict)):
        return None  # hooks
    own = {name: value for name, value in vars(neuron).items() if name not in bare}
    if not all(isinstance(value, _PLAIN) for value in own.values()):
        return None
    return type(neuron), *sorted((name, repr(value)) for name, value in own.items())


def _ends(names: list[str], received: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """The neuron that received the weakest input, and the strongest."""
    strength = {name: _strength(next(tensors_in(received[name]), None)) for name in names}
    return list(dict.fromkeys((min(names, key=strength.__getitem__), max(names, key=strength.__getitem__))))


def _strength(x: torch.Tensor | None) -> float:
    return 0.0 if x is None or not x.numel() else float(x.abs().max().nan_to_num())


def _answers_to_noise(neuron: nn.Module, args: tuple[Any, ...]) -> Iterator[list[torch.Tensor]]:
    """Sizes of the spikes that a neuron gives to noise of several strengths, in place of its first tensor."""
    generator = torch.Generator().manual_seed(0)
    x = next(tensors_in(args), None)
    if x is None or x is not args[0] or not x.is_floating_point():
        return
    usual = _strength(x)
    drawn = torch.rand(x.shape, generator=generator) * 2 - 0.5  # once: to draw takes longer than a neuron does
    # From a threshold's usual size to the levels that large inputs reach, and around what the neuron has received.
    for strength in (1, 4, 16, 64, usual / 4, usual, 4 * usual):
        reset(neuron)
        yield _sizes(neuron((drawn * strength).to(x), *args[1:]))
    reset(neuron)


def _sizes(output: Any) -> list[torch.Tensor]:
    """The sizes that occur in every tensor that a neuron returns; many are no levels, so not all are kept."""
    return [distinct(x.detach().abs())[:_SIZES] for x in tensors_in(output)]
