"""The input of a model as a picture: photographs before normalisation, event frames as their polarities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import ArrayLike, NDArray

from spikeattn.errors import SpikeattnError

ON, OFF = "#0072b2", "#d55e00"  # Okabe and Ito's blue and vermilion, told apart by readers with any colour vision
BRIGHTEST = 0.99  # quantile of the event counts from which on a pixel has its full colour


def picture_of(values: ArrayLike, preparation: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
    """RGB in [0, 1], [H, W, 3], of one input of a model.

    Photographs lose the normalisation that `preparation` names. Event frames become the events of all time steps on
    white: blue for ON, vermilion for OFF, grey where both fired alike, the darker the more (as the root of the count).

    Args:
        values: image [C, H, W] with 1 or 3 channels, or frames [T, C, H, W] with 1, 2 (OFF, ON) or 3.
        preparation: of the data set; "mean" and "std" per channel are taken from it where it has them.

    Raises:
        SpikeattnError: another number of channels or axes, or values that are not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    channels = x.shape[-3] if x.ndim in (3, 4) else 0
    if channels not in (1, 2, 3) or not np.isfinite(x).all():
        raise SpikeattnError(
            f"a picture is made of finite values [C, H, W] or [T, C, H, W] with 1, 2 or 3 channels, not of {x.shape}"
        )
    if channels == 2:
        return _polarities(x if x.ndim == 3 else x.sum(0))
    x = x.mean(0) if x.ndim == 4 else x
    known = preparation or {}
    mean, std = (np.ravel(known.get(key, default)) for key, default in (("mean", 0.0), ("std", 1.0)))
    x = np.clip(x * std.reshape(-1, 1, 1) + mean.reshape(-1, 1, 1), 0, 1)
    return np.repeat(x, 3, 0).transpose(1, 2, 0) if channels == 1 else x.transpose(1, 2, 0)


def is_events(values: ArrayLike) -> bool:
    """Whether an input has the two channels of an event camera."""
    return np.ndim(values) in (3, 4) and np.shape(values)[-3] == 2


def _polarities(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Events [2, H, W] as ink on white."""
    total = counts.sum(0)
    fired = total[total > 0]
    full = np.quantile(fired, BRIGHTEST) if fired.size else 1.0
    amount = np.sqrt(np.clip(total / full, 0, 1))[..., None]
    on = (counts[1] / np.where(total > 0, total, 1))[..., None]
    ink = on * (1 - np.array(to_rgb(ON))) + (1 - on) * (1 - np.array(to_rgb(OFF)))
    return 1 - amount * ink
