"""The attention of some images again, tested against other replicates: a bootstrap of the replicates themselves."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeattn.attention.bootstrap_test import Attention, assess_maps
from spikeattn.attention.significance import AttentionWarning
from spikeattn.errors import SpikeattnError


def resampled(attention: Attention, seed: int, rows: NDArray[np.intp] | None = None) -> Attention:
    """The same maps against as many of their replicates, drawn with replacement for every image on its own.

    Layers, heads and steps of an image share its draw, as they share the passes of the replicates. What `assess` would
    warn of was said of the attention itself.

    Args:
        seed: of the draw; with it and the image's number the draw is fixed, also in another attention of the image.
        rows: of the images, all by default.

    Raises:
        SpikeattnError: null="exact", which has no replicates.
    """
    if attention.null_maps is None:
        raise SpikeattnError('null="exact" has no replicates to draw from; its p-values are those of a distribution')
    rows = np.arange(len(attention.maps)) if rows is None else rows
    numbers = [attention.provenance["indices"][row] for row in rows]
    replicates = attention.null_maps.shape[1]
    drawn = np.stack([np.random.default_rng([seed, n]).integers(0, replicates, replicates) for n in numbers])
    maps, null_maps = attention.maps[rows], attention.null_maps[rows[:, None], drawn]
    settings = attention.provenance | {"indices": numbers}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttentionWarning)
        found = assess_maps(maps, null_maps, attention.unit, settings)
    return replace(
        attention, maps=maps, significance=found, null_maps=null_maps, provenance=settings, tokens=None
    )
