"""Examine a model before a run: what to count in it and where.

The model runs once with one image and once with two. The operations of both passes are compared: the axis that grew is
the batch. The result is a `Plan`: the ledger (what exists) and the taps (where and how to count it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.recording.ledger import Ledger
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.events import Event
from spikeattn.tracing.origins import tensors_in
from spikeattn.tracing.planner import Planner
from spikeattn.tracing.taps import Plan
from spikeattn.tracing.trace import Trace
from spikeattn.tracing.units import units_of

Forward = Callable[[nn.Module, Tensor], Any]


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
    layout: str = "TB",
) -> Plan:
    """Trace `model` on one and on two of `images` and decide what to count; the model is left as it was.

    Args:
        images: a batch as `forward` takes it, [B, C, H, W] or [B, T, C, H, W]; B = 1 is shown twice.
        forward: calls the model on a batch.
        neurons: which modules are spiking neurons.
        time_steps: T, where the neurons' calls do not tell.
        layout: order of time and batch inside the model, "TB" or "BT".

    Raises:
        SpikeattnError: no neurons, contradicting time steps, an axis layout that cannot be read, or a model that fails
            on so few images.
    """
    if layout not in ("TB", "BT"):
        raise SpikeattnError(f"layout is {layout!r}; valid are 'TB' ([T, B, ...] or [T*B, ...]) and 'BT' ([B, T, ...])")
    found = nodes.find_neurons(model, neurons)
    names = model.paper_names() if hasattr(model, "paper_names") else {}
    nodes.reset(model)
    before = nodes.state_of(model)
    with nodes.unregistered_forbidden(model, neurons):
        with _failing(model, f"on {min(len(images), 2)} of the {len(images)} images"):
            units = units_of(model, found, lambda: forward(model, images[:2].clone()))
        for sizes in ((1, 2), (2, 3)):  # a batch of one may take another kernel; then two and three are compared
            one, two = (_trace(model, found, forward, images, n, names, units, before) for n in sizes)
            if [_key(e) for e in one.events] == [_key(e) for e in two.events]:
                kept = nodes.changed(before, nodes.state_of(model))
                return Planner(found, one, two, names, time_steps, layout, kept).build()
    raise SpikeattnError(
        f"{type(model).__name__} runs other operations on two images than on three, so what belongs to which image "
        "cannot be told apart"
    )


def ledger_of(model: nn.Module) -> Ledger:
    """The ledger of one of spikeattn's models without data: traced on seeded random input of its own size."""
    config = getattr(model, "config", {})
    if not hasattr(model, "img_size") or not config:
        raise SpikeattnError(f"{type(model).__name__} does not say its input size; profile it on real input instead")
    generator = torch.Generator().manual_seed(0)
    shape = (2, model.in_chans, *model.img_size)
    images = torch.randn(shape, generator=generator)
    if model.in_chans == 2:  # event counts, one frame per time step
        images = torch.rand((2, model.time_steps, *shape[1:]), generator=generator).mul(1.3).floor()
    device = next(model.parameters()).device
    return plan(model, images.to(device)).ledger


def _trace(
    model: nn.Module, found: Mapping[str, nn.Module], forward: Forward, images: Tensor, n: int,
    names: Mapping[str, Any], units: Mapping[str, float | None], state: Mapping[str, Any],
) -> Trace:  # fmt: skip
    batch = torch.cat([images] * n)[:n] if len(images) < n else images[:n]
    trace = Trace(model, found, n, names, units)
    with nodes.evaluating(model):
        kept = nodes.changed(state, nodes.state_of(model))
        with _failing(model, f"on {n} of the {len(images)} images", kept), torch.no_grad(), trace:
            trace.outputs = list(tensors_in(forward(model, batch.clone())))
    if not trace.inputs:
        raise SpikeattnError(
            "forward(model, images) never called the model with a tensor; pass forward= a function that does"
        )
    return trace


@contextmanager
def _failing(model: nn.Module, images: str, kept: str = "") -> Iterator[None]:
    """What a model raises while it is examined, as one clear error; `kept` names state that survives a reset."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError, AttributeError) as error:
        raise SpikeattnError(
            f"{type(model).__name__} fails {images} of the first batch, which is how it is examined before the run: "
            f"{type(error).__name__}: {error}"
            + (f" (state of an earlier pass survives the reset in {kept})" if kept else "")
        ) from error


def _key(event: Event) -> tuple[Any, ...]:
    """What must be the same for both batches; `squeeze` drops the axis of a single image."""
    ranks = tuple(len(view.shape) for view in (*event.views, event.out_view))
    return event.what, event.module, event.call, event.op, event.ordinal, ranks
