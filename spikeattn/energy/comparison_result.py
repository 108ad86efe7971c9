"""The result of a comparison: its tables, its sentences, and what they rest on."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.boundary.number_format import NO_INTERVAL, NO_UPPER_LIMIT
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES, Interval


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a spiking network costs beside another network; ratio = the other's energy / the spiking one's.

    Attributes:
        name, against: the two networks.
        total: the ratio of the whole networks under the first cost table, with its interval.
        parts: a row per pricing and part, and "total". Columns costs (cost table), against; part; rate (share of the
            dense operations behind spikes that take place, over all steps: the firing rate that the layers of the part
            see); energy_mj, ci_low, ci_high (of the spiking network, per image); against_mj; ratio, ratio_low,
            ratio_high, interval (the method); break_even (the rate at which both cost the same); cannot_lose (whether
            even spikes everywhere would cost no more); verdict ("wins", "loses", "undecided", "no interval", and NA
            where one network has no such part). Beside another spiking network break_even and cannot_lose are NA.
        blocks: the same per transformer block, with column block.
        attention: the same for attention alone, without and with the Q, K and V layers, over all blocks.
        prices: a row per pricing: pJ of one multiply-accumulate of the ANN (mean over all layers but the first, zeros
            skipped) and of one synaptic operation, bits (the most of any layer) and gamma of the ANN, break_even of a
            layer.
        sentences: the outcome in words.
        notes: choices and limits a reader must know.
        provenance: settings of the comparison and what both figures rest on.
    """

    name: str
    against: str
    total: Interval
    parts: pd.DataFrame
    blocks: pd.DataFrame
    attention: pd.DataFrame
    prices: pd.DataFrame
    sentences: tuple[str, ...]
    notes: tuple[Note, ...]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        low, high = self.total.low, self.total.high
        limits = f"[{low:.4g}, {NO_UPPER_LIMIT if np.isinf(high) else f'{high:.4g}'}]"
        ratio = f"{self.total.value:.4g} {NO_INTERVAL if np.isnan(low) else limits}"
        return f"<Comparison of {self.name} with {self.against}: the other's energy / this one's is {ratio}>"

    def _repr_html_(self) -> str:
        """In a notebook: the sentences, the table of parts, the notes."""
        said = "".join(f"<p>{escape(text)}</p>" for text in self.sentences)
        notes = "".join(f"<li>{escape(text)}</li>" for text in self.notes)
        return f"{said}{self.parts.to_html(index=False, na_rep='', float_format='{:.4g}'.format)}<ul>{notes}</ul>"

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON types; NaN, NA and infinity become None."""
        tables = {key: _records(getattr(self, key)) for key in ("parts", "blocks", "attention", "prices")}
        total = {key: _plain(getattr(self.total, key)) for key in ("value", "low", "high", "method", "confidence")}
        return {
            "name": self.name,
            "against": self.against,
            "ratio": total,
            "sentences": list(self.sentences),
            **tables,
            "notes": list(self.notes),
            "provenance": self.provenance,
        }


@dataclass(frozen=True)
class Resampling:
    """Settings of a bootstrap over images."""

    replicates: int = REPLICATES
    seed: int = 0
    confidence: float = CONFIDENCE
    labels: NDArray[np.integer] | None = None  # classes of the images, where these are clustered by class

    @property
    def arguments(self) -> tuple[int, int, float]:
        """As the functions of `stats` take them."""
        return self.replicates, self.seed, self.confidence


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): _plain(value) for key, value in row.items()} for row in frame.astype(object).to_dict("records")]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
