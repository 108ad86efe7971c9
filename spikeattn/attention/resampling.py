"""The attention of some images again, tested against a random half of the replicates."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeattn.attention.bootstrap_test import Attention, assess_maps
from spikeattn.attention.significance import AttentionWarning
from spikeattn.errors import SpikeattnError


def halved(attention: Attention, seed: int, rows: NDArray[np.intp] | None = None) -> Attention:
    """The same maps against half of their replicates, drawn without replacement for every image on its own.

    Layers, heads and steps of an image share its half, as they share the passes of the replicates. What `assess` would
    warn of was said of the attention itself.

    Args:
        seed: of the draw; with it and the image's number the half is fixed, also in another attention of the image.
        rows: of the images, all by default.

    Raises:
        SpikeattnError: fewer than two replicates; null="exact" has none.
    """
    replicates = 0 if attention.null_maps is None else attention.null_maps.shape[1]
    if attention.null_maps is None or replicates < 2:
        raise SpikeattnError(f"{replicates} replicates have no half; attend with two or more, and 200 for a p of .05")
    rows = np.arange(len(attention.maps)) if rows is None else rows
    numbers = [attention.provenance["indices"][row] for row in rows]
    drawn = np.stack([np.random.default_rng([seed, n]).permutation(replicates)[: replicates // 2] for n in numbers])
    maps, null_maps = attention.maps[rows], attention.null_maps[rows[:, None], drawn]
    settings = attention.provenance | {"indices": numbers, "replicates": replicates // 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttentionWarning)
        found = assess_maps(maps, null_maps, attention.unit, settings)
    return replace(attention, maps=maps, significance=found, null_maps=null_maps, provenance=settings, tokens=None)
