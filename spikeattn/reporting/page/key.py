"""The key of the gallery on the page: what its colours mean, once for all pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.colors import Colormap, to_hex

from spikeattn.boundary.number_format import joules, significant
from spikeattn.reporting.figures.attention_drawing import heat_colours
from spikeattn.reporting.figures.attention_panels import ENERGY

STOPS = 9  # colours of a gradient: the browser mixes those between, evenly as the scales are


@dataclass(frozen=True)
class Scale:
    """A scale of colours: its ends and what it measures, or of which blocks, as text, and its colours for CSS."""

    low: str
    high: str
    measure: str
    colours: str


@dataclass(frozen=True)
class Key:
    """The scale of the maps and, where energies were measured, theirs."""

    attention: Scale
    energy: Scale | None


def key_of_page(scales: Mapping[str, Any]) -> Key:
    """The key of what `gallery_pictures.key_of` says of the scales."""
    low, high = (significant(float(scales[end]), 2) for end in ("low", "high"))
    attention = Scale(low, high, str(scales["score"]), gradient(heat_colours()))
    most = scales.get("most_mj")
    if most is None:
        return Key(attention, None)
    return Key(attention, Scale("0", joules(float(most)), str(scales["blocks"]), gradient(heat_colours(ENERGY))))


def gradient(colours: Colormap) -> str:
    """A colour map as the colour stops of a CSS gradient."""
    return ", ".join(to_hex(colours(stop / (STOPS - 1))) for stop in range(STOPS))
