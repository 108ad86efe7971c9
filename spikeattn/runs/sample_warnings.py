"""What to say where the images of a run are few, or no fair sample of their data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note

FEW = 5  # images: of 2 and 3 the limits are Student's, of 4 one studentised limit in ten is some 9 to 50 times the mean


def few_images(n_images: int) -> list[Note]:
    """A warning where the interval over so many images says little; none from five images on."""
    if n_images >= FEW:
        return []
    if n_images == 1:
        return [Note("few-images", "1 image has no interval: nothing is known of how far others are from it")]
    return [Note("few-images", f"{n_images} images: an interval over so few says little")]


def missing_classes(labels: NDArray[np.integer], classes: int | None, data: Mapping[str, Any]) -> list[Note]:
    """A warning where the images that were chosen lack classes that the data set has; none for a random sample.

    Data sets are often sorted by class. The first images of such a set are no sample of it, and no interval over them
    covers what the others do.

    Args:
        labels: [N], -1 where unknown.
        classes: how many the data set names, None where it names none.
        data: provenance of the data: `limit` and `sample`, where the loader is one of ours.
    """
    held = len(np.unique(labels[labels >= 0]))
    n, limit = len(labels), data.get("limit")
    ours = "limit" in data
    whole = ours and (limit is None or limit >= data.get("number", limit))
    if not classes or not held or held >= classes or whole or data.get("sample") is not None:
        return []
    images = "image holds" if n == 1 else f"{n:,} images hold"
    which = f"the {'first ' if ours else ''}{images}"
    advice = f"give --sample {limit} (sample={limit} in Python)" if ours else "shuffle the data set before it is cut"
    text = f"{which} {held} of {classes} classes, so their intervals are not about the data set; {advice} for a random "
    return [Note("classes", text + "sample")]
