"""Small networks with attention whose significance is made up, and spikes per token by ordinary hooks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

import spikeattn as sa
from spikeattn.attention.significance import Significance
from tests.attention.cases import outputs_of


def made_up(attention, seed: int = 0):
    """The attention with made-up significance, without replicates: half of all lfdr is 1, some tokens are below."""
    rng = np.random.default_rng(seed)

    def anew(found: Significance) -> Significance:
        shape = found.z.shape
        lfdr = np.where(rng.random(shape) < 0.5, 1.0, rng.random(shape) * 0.3)
        return Significance(rng.standard_normal(shape), rng.random(shape), 1.0, rng.random(shape), lfdr)

    return replace(attention, significance=tuple(map(anew, attention.significance)), null_maps=None)


def case(model, images, start: int = 0, **options):
    labels = torch.arange(len(images))
    profile = sa.profile(model, [(torch.cat([images] * (1 + start)), labels.repeat(1 + start))][: 1 + start])
    attention = sa.attend(model, images, "pixel", 3, layer="all", tokens=True, **options)
    return profile, made_up(attention)


def spikes_of(model, images, *names):
    return [found.sum((0, 2)).flatten(1).double().numpy() for found in outputs_of(model, images, *names)]  # [B, N]


def spikes_by_head(model, images, name):
    (found,) = outputs_of(model, images, name)
    return found.unflatten(2, (4, -1)).sum((0, 3)).flatten(2).double().numpy()
