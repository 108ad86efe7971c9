"""What `sa.attend` returned as pictures are made of it: its images, its layers, its captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.role_target import ROLES
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.figures.input_pictures import is_events
from spikeattn.reporting.study.captions import SCORES, details_text, score_text
from spikeattn.reporting.study.gallery_pictures import MOST
from spikeattn.reporting.study.views import Views, blocks_of, most_energy, scale_of_all
from spikeattn.spurious import SpuriousEnergy

BLANK = 0.92  # light grey, where the image is not known


def views_of(
    attention: Attention, each: Sequence[Attention], title: str, layer: float, depth: int, energy: SpuriousEnergy | None
) -> Views:
    """How the images are drawn; `depth` blocks have attention."""
    known = attention.provenance
    kind, drawn = str(known["statistic"]), min(len(each), MOST)
    block = None if np.isnan(layer) or not depth or "." in kind else (int(layer), depth)
    return Views(
        title,
        score_text(kind, attention.unit is not None) if is_named(kind) else kind,
        details_text(kind, block, known["null"], known["replicates"], known["estimator"]),
        scale_of_all(each[:drawn]),
        most_energy(energy, drawn),
        blocks_of(energy, depth),
    )


def pictures_of(attention: Attention, images: Any = None) -> list[np.ndarray]:
    """The inputs as pictures can be made of them; photographs are brought to 0..1, whatever their normalisation was.

    Args:
        images: the batch that was attended, in place of what the attention holds.

    Raises:
        SpikeattnError: images of another number or size.
    """
    n, images = len(attention.maps), attention.images if images is None else images
    if images is None:
        return [np.full((3, *attention.image_size), BLANK) for _ in range(n)]
    values = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images, dtype=np.float64)
    if values.ndim not in (4, 5) or len(values) != n or tuple(values.shape[-2:]) != tuple(attention.image_size):
        raise SpikeattnError(
            f"images are {tuple(values.shape)}; give the {n} that were attended, of {attention.image_size[0]} x "
            f"{attention.image_size[1]} pixels"
        )
    return [x if is_events(x) else (x - x.min()) / max(float(x.max() - x.min()), 1e-12) for x in values]


def is_named(kind: str) -> bool:
    """Whether a statistic is a kind of map, a role or a tensor's path, not a function of the user's own."""
    return kind in SCORES or kind in ROLES or "." in kind


def layers_of(attention: Attention, each: int, depth: int) -> list[float]:
    """The block of each map of an image among the `depth` that have attention; NaN where that is not known."""
    if "layer" not in attention.axes:
        layer, named = attention.provenance.get("layer"), is_named(str(attention.provenance["statistic"]))
        if not isinstance(layer, int) or (layer < 0 and not (depth and named)):
            return [float("nan")] * each
        return [layer % depth if layer < 0 else layer] * each
    axis = attention.axes.index("layer")
    return [int(i) for i in np.indices(attention.maps.shape[1:-2])[axis - 1].ravel()]
