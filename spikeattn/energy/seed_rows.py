"""The rows and sentences of a comparison by training seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.boundary.number_format import significant, with_limits
from spikeattn.energy.seed_result import QUANTITIES
from spikeattn.stats.intervals import Interval
from spikeattn.stats.training_seeds import Spread

Key = tuple[str, str | None, str | None, str | None]  # quantity, network, costs, against


@dataclass(frozen=True)
class Row:
    """One quantity of one side, or the ratio of both, under one pricing.

    Attributes:
        seeds: how many there are, in words.
        over_seeds: the mean with its interval over training seeds.
        over_images: of the same mean, over images.
        spread: between seeds; None where the values of single seeds do not exist.
    """

    quantity: str
    network: str | None
    costs: str | None
    against: str | None
    seeds: str
    over_seeds: Interval
    over_images: Interval
    spread: Spread | None

    def record(self) -> dict[str, Any]:
        """As a row of `SeedComparison.table`."""
        nan = float("nan")
        sd, least, most = (self.spread.sd, self.spread.least, self.spread.most) if self.spread else (nan, nan, nan)
        if self.spread is not None and self.spread.n == 1:
            least = most = nan
        return {
            "quantity": self.quantity,
            "network": self.network,
            "costs": self.costs,
            "against": self.against,
            "n_seeds": self.seeds,
            "value": self.over_images.value,
            "sd": sd,
            "least": least,
            "most": most,
            "seeds_low": self.over_seeds.low,
            "seeds_high": self.over_seeds.high,
            "seeds_interval": self.over_seeds.method,
            "images_low": self.over_images.low,
            "images_high": self.over_images.high,
            "images_interval": self.over_images.method,
        }


def rows_of(rows: Sequence[Row]) -> pd.DataFrame:
    """The table, quantity by quantity."""
    return pd.DataFrame([row.record() for row in sorted(rows, key=lambda row: QUANTITIES.index(row.quantity))])


def run_rows(name: str, runs: Sequence[str], key: Key, found: Sequence[Interval]) -> list[dict[str, Any]]:
    """One row per run, as of `SeedComparison.runs`."""
    quantity, _, costs, against = key
    return [
        {
            "network": name,
            "run": run,
            "quantity": quantity,
            "costs": costs,
            "against": against,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "interval": interval.method,
        }
        for run, interval in zip(runs, found, strict=True)
    ]


def sentences_of(name: str, against: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """Who is cheaper, over training seeds and over images apart."""
    return tuple(_sentence(name, against, row) for row in rows if row.quantity == "ratio")


def _sentence(name: str, against: str, row: Row) -> str:
    value = row.over_images.value
    beside = f"{row.costs}: {row.against or against} / {name}"
    if not np.isfinite(value):
        return f"{beside}: no ratio, no energy was spent."
    seeds, images = (_outcome(name, interval) for interval in (row.over_seeds, row.over_images))
    limits = [_limits(interval) for interval in (row.over_seeds, row.over_images)]
    over = (f"over training seeds {limits[0]}", f"over images {limits[1]}")
    said = f"{seeds} {over[0]} and {over[1]}" if seeds == images else f"{seeds} {over[0]}, {images} {over[1]}"
    return f"{beside} = {significant(value, 3)} ({row.seeds} seed{'' if row.seeds == '1' else 's'}): {said}."


def _outcome(name: str, interval: Interval) -> str:
    if interval.method == "none":
        return "unknown"
    if interval.low > 1:
        return f"{name} is cheaper"
    return f"{name} costs more" if interval.high < 1 else "undecided"


def _limits(interval: Interval) -> str:
    if interval.method == "none":
        return "(no interval)"
    if interval.method == "constant":
        return "(the same on every image)"
    return with_limits(interval.value, interval.low, interval.high)[1]
