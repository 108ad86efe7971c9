"""The result of a comparison: its tables, its sentences, and what they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.energy.gamma import GammaRange
from spikeattn.energy.scope_line import ScopeLine, interval_record
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES, Interval
from spikeattn.stats.quantity import Quantity


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a spiking network costs beside another network; ratio = the other's energy / the spiking one's.

    Attributes:
        name, against: the two networks.
        total: the ratio of the whole networks under the first cost table, with its interval; beside an ANN at gamma 0,
            with none of its multiply-accumulates skipped, or at the gamma that was measured: `gamma.measured` says
            which, and `gamma` what the ratio is elsewhere.
        parts: a row per pricing and part, and "total". Columns costs (cost table), against; part; rate (share of the
            dense operations behind spikes that take place, over all steps: the firing rate that the layers of the part
            see); energy_mj, ci_low, ci_high (of the spiking network, per image); against_mj; ratio, ratio_low,
            ratio_high, interval (the method); break_even (the rate at which both cost the same; NaN with a ratio below
            1: the spiking network costs more without a spike, it loses at any rate); cannot_lose (whether even spikes
            everywhere would cost no more, under accumulators of 8 and of 32 bits where the table is of int8); verdict
            ("wins", "loses", "undecided", "no interval", and NA where one network has no such part, or the ratio would
            rest on AND gates at no price). All at the gamma of `prices`. Beside another spiking network break_even and
            cannot_lose are NA.
        blocks: the same per transformer block, with column block.
        attention: the same for attention alone, without and with the Q, K and V layers, over all blocks; beside an ANN
            energy_mj holds AND gates and the leak of the q, k and v neurons, which parts and total do not, and column
            includes says so (`attention_alone`).
        prices: a row per pricing: gamma (the share of zeros: measured, as the mean over all layers but the first, or
            taken for every layer that may receive zeros), pJ of one multiply-accumulate of the ANN at that gamma (mean
            over all layers but the first) and of one synaptic operation, bits (the most of any layer) of the ANN,
            break_even of a layer.
        sentences: the outcome in words.
        notes: choices and limits a reader must know.
        provenance: settings of the comparison and what both figures rest on.
        lines: both networks in a line of text each: arithmetic alone, whose ratio is `total`; and arithmetic, neurons,
            addressing and memory together (`components()` of the spiking network, all of it), under the first cost
            table with prices of memories.
        zeros: beside an ANN, a row per pricing and part, and "total": the ratio over gamma. Columns costs, against,
            part, interval (the method), measured, low, high, break_even (the gamma at which both cost the same, NaN
            where there is none), ratio_at_zero, ratio_at_low, ratio_at_high, each with its limits in columns _from and
            _to, cannot_lose (as in parts, at gamma `high`).
        gammas: the rows "total" of zeros as records, one per pricing.
    """

    name: str
    against: str
    total: Quantity
    parts: pd.DataFrame
    blocks: pd.DataFrame
    attention: pd.DataFrame
    prices: pd.DataFrame
    sentences: tuple[str, ...]
    notes: tuple[Note, ...]
    provenance: dict[str, Any]
    lines: tuple[ScopeLine, ...]
    zeros: pd.DataFrame = field(default_factory=pd.DataFrame)
    gammas: tuple[GammaRange, ...] = ()

    @property
    def gamma(self) -> GammaRange | None:
        """The ratio of `total` over the zeros that the ANN may skip; None beside another spiking network."""
        return self.gammas[0] if self.gammas else None

    def __repr__(self) -> str:
        return f"<Comparison of {self.name} with {self.against}: the other's energy / this one's is {self.total}>"

    def _repr_html_(self) -> str:
        """In a notebook: both lines, the sentences, the table of parts, the notes."""
        said = "".join(f"<pre>{escape(str(line))}</pre>" for line in self.lines)
        said += "".join(f"<p>{escape(text)}</p>" for text in self.sentences)
        notes = "".join(f"<li>{escape(text)}</li>" for text in self.notes)
        return f"{said}{self.parts.to_html(index=False, na_rep='', float_format='{:.4g}'.format)}<ul>{notes}</ul>"

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON types; NaN, NA and infinity become None."""
        tables = {key: table_records(getattr(self, key)) for key in ("parts", "blocks", "attention", "prices")}
        return {
            "name": self.name,
            "against": self.against,
            "ratio": interval_record(self.total),
            "gamma": self._gammas(),
            "lines": [line.to_dict() for line in self.lines],
            "sentences": list(self.sentences),
            **tables,
            "notes": list(self.notes),
            "provenance": self.provenance,
        }

    def _gammas(self) -> dict[str, Any] | None:
        """The range of the first pricing, that of every other, and the table of parts."""
        if self.gamma is None:
            return None
        every = [_gamma_record(each) for each in self.gammas]
        return every[0] | {"pricings": every, "parts": table_records(self.zeros)}


def _gamma_record(gamma: GammaRange) -> dict[str, Any]:
    record: dict[str, Any] = {
        key: _plain(getattr(gamma, key))
        for key in ("costs", "against", "measured", "source", "low", "high", "break_even", "why")
    }
    for name in ("zero", "low", "high"):
        at: Interval = getattr(gamma, f"at_{name}")
        record[f"ratio_at_{name}"] = _plain(at.value)
        record[f"interval_at_{name}"] = [_plain(at.low), _plain(at.high)]
    return record


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


def table_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table in JSON types; NaN, NA and infinity become None."""
    return [{str(key): _plain(value) for key, value in row.items()} for row in frame.astype(object).to_dict("records")]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
