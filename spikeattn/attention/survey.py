"""One forward pass in which every tensor knows where on the image it looks: token grids, their pixels, and N x N maps.

The pass needs no values where the model lets it (`shapes.without_values`). What it shows is kept for a model, as long
as its modules stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from spikeattn.attention.capture import Forward, call_model, unfused
from spikeattn.attention.place import Unplaced
from spikeattn.attention.place_mode import Places
from spikeattn.attention.survey_record import BATCH, Survey
from spikeattn.compat.torch_modes import math_attention, slow_attention
from spikeattn.errors import FAILURES
from spikeattn.structure.shapes import without_values
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.state import state_kept


@contextmanager
def plain_attention(model: nn.Module) -> Iterator[None]:
    """Attention without fused kernels, which show no matrix; layers of timm's form theirs as they say they do."""
    layers = [module for module in model.modules() if isinstance(vars(module).get("fused_attn"), bool)]
    with unfused(layers), slow_attention(), math_attention():
        yield


@contextmanager
def unobserved(model: nn.Module) -> Iterator[None]:
    """Hooks of a user's do not see the pass: it is none of theirs, and may have no values."""
    slots = ("_forward_hooks", "_forward_pre_hooks")
    kept = [(vars(module)[slot], dict(vars(module)[slot])) for module in model.modules() for slot in slots]
    try:
        for hooks, _ in kept:
            hooks.clear()
        yield
    finally:
        for hooks, before in kept:
            hooks.clear()
            hooks.update(before)


_KNOWN: WeakKeyDictionary[nn.Module, dict[Any, Survey]] = WeakKeyDictionary()


def survey(model: nn.Module, images: Tensor, forward: Forward = call_model) -> Survey:
    """Where the tensors of a forward pass on such images look; kept for the next call.

    Raises:
        RuntimeError and its like, where the model fails on two of these images.
    """
    key = (fingerprint(model, images), forward)
    known = _KNOWN.setdefault(model, {})
    if key not in known:
        shown = torch.cat([images[:1]] * BATCH)
        for values, hooked in ((False, False), (True, False), (True, True)):
            with ExitStack() as stack:
                if not hooked:
                    stack.enter_context(suppress(*FAILURES, Unplaced))
                    stack.enter_context(unobserved(model))
                known[key] = _run(model, shown, forward, values)
                break
    return known[key]


def fingerprint(model: nn.Module, images: Tensor) -> Any:
    """What a survey depends on: another input, time steps, modules or neurons need another one."""
    modules = tuple((path, id(module), type(module)) for path, module in model.named_modules())
    steps = [getattr(model, name, None) for name in ("time_steps", "T")]
    stated = nodes.predicate_of(model)
    return (tuple(images.shape[1:]), images.dtype, *(s for s in steps if isinstance(s, int)), hash(modules), stated)


def _run(model: nn.Module, images: Tensor, forward: Forward, values: bool) -> Survey:
    neurons = nodes.neurons_of(model)
    with ExitStack() as stack:
        for context in (nodes.uncompiled(), state_kept(model), nodes.evaluating(model), plain_attention(model)):
            stack.enter_context(context)
        stack.enter_context(torch.no_grad())
        if not values:
            stack.enter_context(without_values(model))
        shown = images.clone() if values else torch.empty_like(images, device="meta")
        mode = stack.enter_context(Places(model, neurons, strict=not values))
        mode.show(shown)
        forward(model, shown)
    return mode.found
