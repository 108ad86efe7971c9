"""Small networks with attention whose significance is made up, and spikes per token by ordinary hooks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from spikingjelly.activation_based import functional

import spikeattn as sa
from spikeattn.attention.significance import Significance


def made_up(attention, seed: int = 0):
    """The attention with made-up significance: half of all lfdr is 1, some tokens are below the null."""
    rng = np.random.default_rng(seed)

    def anew(found: Significance) -> Significance:
        shape = found.z.shape
        lfdr = np.where(rng.random(shape) < 0.5, 1.0, rng.random(shape) * 0.3)
        return Significance(rng.standard_normal(shape), rng.random(shape), 1.0, rng.random(shape), lfdr)

    return replace(attention, significance=tuple(anew(found) for found in attention.significance))


def case(model, images, start: int = 0, **options):
    labels = torch.arange(len(images))
    profile = sa.profile(model, [(torch.cat([images] * (1 + start)), labels.repeat(1 + start))][: 1 + start])
    attention = sa.attend(model, images, "pixel", 3, layer="all", tokens=True, **options)
    return profile, made_up(attention)


def spikes_of(model, images, *names):
    seen = {}
    handles = [
        model.get_submodule(n).register_forward_hook(lambda m, a, out, n=n: seen.update({n: out})) for n in names
    ]
    with torch.no_grad():
        functional.reset_net(model)
        model(images)
        functional.reset_net(model)
    for handle in handles:
        handle.remove()
    return [seen[name].sum((0, 2)).flatten(1).double().numpy() for name in names]  # [B, N]


def spikes_by_head(model, images, name):
    seen = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.no_grad():
        model(images)
        functional.reset_net(model)
    handle.remove()
    return seen[0].unflatten(2, (4, -1)).sum((0, 3)).flatten(2).double().numpy()
