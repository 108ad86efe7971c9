"""Maps against the exact null: a token's spikes if those of every channel were permuted over the tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeattn.attention.capture import capture, ready
from spikeattn.attention.family_maps import check_family
from spikeattn.attention.map_request import MapRequest
from spikeattn.attention.map_sources import SPIKE_DRIVEN, known_family, taps_of
from spikeattn.attention.nulls import poisson_binomial
from spikeattn.attention.replicates import Statistic
from spikeattn.attention.scores import scores
from spikeattn.attention.significance import Significance, assess_distribution
from spikeattn.errors import SpikeattnError

Floats = NDArray[np.float64]
EXACT = ("Vhat_S", "V_S", "drive")  # maps that count spikes of channels; the gate is a ratio of two


def exact_test(
    model: nn.Module, original: nn.Module, images: Tensor, own: Statistic | None, request: MapRequest
) -> tuple[Floats, tuple[Significance, ...], tuple[str, ...], nn.Module]:
    """Maps [image, (layer), (step), (head), h, w], their significance, axes, and the module whose tokens they are of.

    Args:
        original: the model that the user holds, of which `model` may be a copy in another type; the module is its own.
        own: a user's function, for which there is no exact null.

    Raises:
        SpikeattnError: another map than those of `EXACT`.
    """
    family = known_family(model)
    kind: Any = own or request.kind or (None if family is None else family.kinds[0])
    if kind not in EXACT or family is None or family.kinds is not SPIKE_DRIVEN:
        other = "pixel" if family is None else "token"
        raise SpikeattnError(
            f'null="exact" counts the spikes of {", ".join(EXACT)} of a Spike-driven Transformer; for '
            f'{kind or "the map"!r} of {type(model).__name__} take null="{other}"'
        )
    request = replace(request, kind=kind)
    layers = check_family(family, kind, request, model)
    maps: list[Floats] = []
    found: list[Significance] = []
    for image in images.split(1):
        observed = scores(model, image, request)
        with ready(model), torch.inference_mode():
            taps = tuple(tap for index in layers for tap in taps_of(family, kind, index))
            tensors, _, _ = capture(model, image, taps)
        for spikes in tensors:  # [T, 1, D, h, w]
            for part in _parts(spikes[:, 0].double().cpu(), family.heads, request):
                counts = part.sum((0, 1)).round().numpy()
                found.append(assess_distribution(counts, poisson_binomial(part.sum((2, 3)).round(), counts.size)))
        maps.append(observed.values[0].double().cpu().numpy())
    theirs = known_family(original)
    assert theirs is not None  # the model is `original` or a copy of it
    return np.stack(maps), tuple(found), request.axes, theirs.attentions[layers[-1]]


def _parts(spikes: Tensor, heads: int, request: MapRequest) -> list[Tensor]:
    """Spikes [T, D, h, w] of one layer, cut [.., .., h, w] into the steps and heads that have a map of their own."""
    rows = list(spikes.split(1) if request.steps == "each" else (spikes,))
    return [part for row in rows for part in (row.chunk(heads, 1) if request.heads == "each" else (row,))]
