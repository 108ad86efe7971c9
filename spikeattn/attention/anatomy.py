"""The attention of a network read off a pass, by its structure and its survey."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from spikeattn.attention.capture import Forward, call_model
from spikeattn.attention.roles import Anatomy
from spikeattn.attention.survey import fingerprint, survey
from spikeattn.errors import SpikeattnError, failing
from spikeattn.structure.cores import Core
from spikeattn.structure.infer import infer
from spikeattn.structure.reading import graph_of
from spikeattn.tracing import neurons as nodes

_KNOWN: WeakKeyDictionary[nn.Module, dict[Any, Anatomy]] = WeakKeyDictionary()


def anatomy(model: nn.Module, images: Tensor, forward: Forward = call_model) -> Anatomy:
    """The attention of a network; kept for the next call.

    Raises:
        SpikeattnError: the model fails on these images, or has no attention.
    """
    known = _KNOWN.setdefault(model, {})
    key = (fingerprint(model, images), forward)
    if key not in known:
        known[key] = _read(model, images, forward)
    return known[key]


def fails(model: nn.Module, images: Tensor) -> str:
    """The beginning of the error for a model that fails on two of the images."""
    return (
        f"{type(model).__name__} is no model whose attention is known here, so it is read off a pass, and it fails on "
        f"images of shape {tuple(images.shape)}"
    )


def _read(model: nn.Module, images: Tensor, forward: Forward) -> Anatomy:
    name = type(model).__name__
    shown = torch.cat([images[:1]] * 2)
    neurons = nodes.neurons_of(model)
    made = None
    for values in (False, True):
        try:
            with failing(fails(model, images)):
                nodes.reset(model)
                made = infer(graph_of(model, shown, forward, neurons, values))
        except SpikeattnError:
            if values:
                raise
            continue
        finally:
            nodes.reset(model)
        break
    assert made is not None
    with failing(fails(model, images)):
        seen = survey(model, images, forward)
    cores: dict[int, Core] = {}
    for core in made.cores:
        block = made.readings[core.last.number].block
        if block is not None and (block not in cores or cores[block].last.place != core.last.place):
            cores[block] = cores.get(block, core) if _later_step(cores.get(block), core) else core
    return Anatomy(name, seen, made, cores)


def _later_step(first: Core | None, core: Core) -> bool:
    """Whether a core is one that is known already, at a later time step."""
    return first is not None and first.last.place == core.last.place
