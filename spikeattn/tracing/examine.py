"""Examine a model before a run: what to count in it and where.

The model runs once with two images, operation by operation (`trace`). Labels tell which image and time step every row
of every tensor belongs to, origins what it is. The result is a `Plan`: the ledger (what exists) and the taps (where and
how to count it).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.boundary.arguments import whole_number
from spikeattn.errors import SpikeattnError, failing
from spikeattn.storage.ledger import Ledger
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.labeller import steps_of_calls
from spikeattn.tracing.layout import BATCH
from spikeattn.tracing.network import paper_names_of
from spikeattn.tracing.pass_events import NEURON
from spikeattn.tracing.planner import Planner
from spikeattn.tracing.spike_units import doubting, units_of
from spikeattn.tracing.state import changed, state_of
from spikeattn.tracing.step_matching import time_steps_of
from spikeattn.tracing.taps import Plan
from spikeattn.tracing.tracer import Trace

Forward = Callable[[nn.Module, Tensor], Any]
INPUTS = ("events", "pixels")


def call_model(model: nn.Module, images: Tensor) -> Any:
    """The default forward pass: the model called on the batch."""
    return model(images)


def plan(
    model: nn.Module,
    images: Tensor,
    *,
    forward: Forward = call_model,
    neurons: nodes.NeuronPredicate = nodes.is_spiking_neuron,
    time_steps: int | None = None,
    input: str | None = None,
    spike_output: int | None = None,
    levels: int | None = None,
) -> Plan:
    """Trace `model` on two of `images` and decide what to count; the model is left as it was.

    Args:
        images: a batch as `forward` takes it, [B, C, H, W] or [B, T, C, H, W]; B = 1 is shown twice.
        forward: calls the model on a batch.
        neurons: which modules are spiking neurons.
        time_steps: T, where the network does not tell.
        input: "events" or "pixels", where whole numbers in the input are to be taken for the other thing than they
            are by default (events in frames, pixels in a still image).
        levels: the largest spike of a user's own neurons, in units of the smallest one.
        spike_output: which of the tensors that a neuron of the user's own returns are its spikes, from 0.

    Raises:
        SpikeattnError: no neurons, contradicting time steps, a network whose images influence each other, rows whose
            image cannot be derived, or a model that fails on so few images.
    """
    check_options(time_steps, input, spike_output, levels)
    time_steps, levels = (None if n is None else int(n) for n in (time_steps, levels))  # numpy's, too
    found = nodes.find_neurons(model, neurons)
    names = paper_names_of(model)
    nodes.reset(model)
    before = state_of(model)
    with nodes.unregistered_forbidden(model, neurons), _strangers_forbidden(model, neurons):

        def levels_of(tried: Container[str] = ()) -> tuple[dict[str, float | None], dict[str, int]]:
            with _failing(model, BATCH, images):
                return units_of(model, found, lambda: forward(model, images[:BATCH].clone()), spike_output, tried)

        units, spikes = levels_of()
        doubted: set[str] = set()

        def trace(batch: int) -> Trace:
            made = Trace(model, found, batch, names, units, spikes, time_steps)
            with doubting({} if spike_output is not None else found, doubted):
                _run(made, model, forward, images, batch, before)
            frames = made.labeller.frames
            shared = frames is not None and any(made.calls[name] > frames for name in found)
            if made.labeller.early or shared or _numbered_wrongly(made, found):
                totals = {name: made.calls[name] for name in found}
                expected = made.labeller.time if made.labeller.early or shared else None
                again = (model, found, batch, names, units, spikes, time_steps, totals, expected)
                made = Trace(*again, frames if shared else None)
                _run(made, model, forward, images, batch, before)
                seen, told = made.labeller.latest + 1, made.labeller.T is not None or time_steps is not None or shared
                if not told and seen > steps_of_calls(list(totals.values())):
                    made = Trace(*again, seen)  # neurons that skip steps are no neurons that run twice in each
                    _run(made, model, forward, images, batch, before)
            return made

        made = trace(BATCH)
        if doubted or _off_their_levels(made, units):  # a neuron does other things here than where it was tried
            units, spikes = levels_of(tried=found)
            made = trace(BATCH)
        mixed = made.mixing()
        if mixed is not None and len(images) > 1:
            raise _mixes(model, mixed)
        if mixed is not None:
            made = trace(1)
    kept = changed(before, state_of(model))
    result = Planner(found, made, names, kept, input, levels).build()
    if mixed is None:
        return result
    warning = (
        f"mixed images: the network mixes the images of a batch ({mixed}), so each image was profiled alone, in a "
        "batch of its own; in larger batches its spikes would be others"
    )
    return replace(result, ledger=replace(result.ledger, warnings=(*result.ledger.warnings, warning)))


def check_options(time_steps: Any, input: Any, spike_output: Any, levels: Any, layout: Any = None) -> None:
    """Refuse options of `plan`, and the order of a loader, that are none, before anything runs.

    Raises:
        SpikeattnError: naming the option.
    """
    if layout not in (None, "TB", "BT"):
        raise SpikeattnError(
            f"layout is {layout!r}; valid are 'TB' (the loader gives [T, B, ...]) and 'BT' ([B, ...] or [B, T, ...])"
        )
    if input is not None and input not in INPUTS:
        raise SpikeattnError(f"input is {input!r}; valid are 'events' (added by value) and 'pixels' (multiplied)")
    for name, value, least in (("time_steps", time_steps, 1), ("levels", levels, 1), ("spike_output", spike_output, 0)):
        if value is not None:
            whole_number(name, value, least, why=", or leave it out")


def _off_their_levels(trace: Trace, units: Mapping[str, float | None]) -> bool:
    """Whether a neuron gave what is no whole multiple of its unit."""
    origins = [
        event.origins[0] for event in trace.events if event.what == NEURON and units.get(event.module) is not None
    ]
    return any(origin.flags is not None and bool(origin.flags[0]) for origin in origins)


def _numbered_wrongly(trace: Trace, neurons: Mapping[str, nn.Module]) -> bool:
    """Whether neurons that are called step by step are called other numbers of times, so that T was needed first."""
    labeller = trace.labeller
    if labeller.T is not None or not any(trace.calls[name] for name in neurons):
        return False
    T = time_steps_of(neurons, trace.calls, labeller)
    return any(trace.calls[name] != T for name in neurons if trace.calls[name])


def _mixes(model: nn.Module, why: str) -> SpikeattnError:
    """The error of a network whose images influence each other, with the advice that fits."""
    name = type(model).__name__
    if why.startswith("neuron "):
        path = why.split()[1]
        return SpikeattnError(
            f"{name} mixes images: {why}, so it hands its state from one image to the next. Let it see [T, B, ...]:\n"
            f"    x = x.unflatten(0, (T, -1))\n    x = self.{path}(x).flatten(0, 1)\n"
            "or profile it in batches of one image"
        )
    return SpikeattnError(
        f"{name} mixes images: {why}, so that the counts of an image depend on the others in its batch. Compute it per "
        "image, or profile in batches of one image"
    )


def ledger_of(model: nn.Module) -> Ledger:
    """The ledger of one of spikeattn's models without data: traced on seeded random input of its own size."""
    config = getattr(model, "config", {})
    if not hasattr(model, "img_size") or not config:
        raise SpikeattnError(f"{type(model).__name__} does not say its input size; profile it on real input instead")
    generator = torch.Generator().manual_seed(0)
    own: Any = model
    shape = (2, own.in_chans, *own.img_size)
    images = torch.randn(shape, generator=generator)
    if own.in_chans == 2:  # event counts, one frame per time step; 0.77 of the values are 0, the others 1
        images = torch.rand((2, own.time_steps, *shape[1:]), generator=generator).mul(1.3).floor()
    device = next(model.parameters()).device
    return plan(model, images.to(device)).ledger


def _run(
    trace: Trace, model: nn.Module, forward: Forward, images: Tensor, batch: int, state: Mapping[str, Any]
) -> None:
    """One traced pass over so many of the images."""
    shown = (torch.cat([images] * batch)[:batch] if len(images) < batch else images[:batch]).clone()
    with nodes.evaluating(model):
        kept = changed(state, state_of(model))
        with _failing(model, batch, images, kept), torch.no_grad(), trace:
            trace.finish(forward(model, trace.show(shown)))
    if not trace.inputs:
        raise SpikeattnError(
            "forward(model, images) never called the model with a tensor; pass forward= a function that does"
        )


def _failing(model: nn.Module, batch: int, images: Tensor, state: str = "") -> AbstractContextManager[None]:
    """What a model raises while it is examined, as one clear error; `state` names what survives a reset."""
    number = min(batch, len(images))
    some = f"{number} of the {len(images)} images" if len(images) > 1 else f"its single image, shown {batch} times,"
    return failing(
        f"{type(model).__name__} fails on {some} of the first batch, of shape {tuple(images.shape)} and type "
        f"{images.dtype}, which is how it is examined before the run",
        (f" (state of an earlier pass survives the reset in {state})" if state else "") + _of_type(model, images),
    )


def _of_type(model: nn.Module, images: Tensor) -> str:
    """What to do where a model that fails has weights of another type than its images; "" where the types agree, or
    the images may be token ids, which are whole numbers beside weights that are none."""
    weights = next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype)
    if weights == images.dtype or any(isinstance(module, nn.Embedding) for module in model.modules()):
        return ""
    pixels = ", scaled as they were in training" if images.dtype == torch.uint8 else ""
    return (
        f"; its weights are {weights}, so convert the images{pixels}, in the loader or by "
        f"forward=lambda model, images: model(images.to({weights}){' / 255' if pixels else ''})"
    )


@contextmanager
def _strangers_forbidden(model: nn.Module, predicate: nodes.NeuronPredicate) -> Iterator[None]:
    """A neuron that is called and no part of the model, as one that `forward` makes on its way, is an error.

    Raises:
        SpikeattnError: nobody would reset or count it.
    """
    known = {id(module) for module in model.modules()}

    def refuse(module: nn.Module, args: Any, output: Any) -> None:
        if id(module) not in known and predicate(module):
            raise SpikeattnError(
                f"{type(model).__name__} calls a {type(module).__name__} that is no part of it when the run begins, so "
                "that it is neither reset nor counted; make it in __init__ and keep it as an attribute, in a "
                "torch.nn.ModuleList or a ModuleDict"
            )

    # After its call: `unregistered_forbidden`, which names the list that a neuron stands in, comes before it.
    handle = torch.nn.modules.module.register_module_forward_hook(refuse)
    try:
        with warnings.catch_warnings():  # that compiled parts call such hooks twice; these only look
            warnings.filterwarnings("ignore", message=r"Using `torch\.compile\(module\)` when there are global hooks")
            yield
    finally:
        handle.remove()
