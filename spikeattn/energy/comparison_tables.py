"""The tables of a comparison: how a row comes from operations, prices and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.energy.amounts import Amounts
from spikeattn.energy.by_part import Key, Scope, energies_of, limits_of
from spikeattn.energy.comparison_result import Resampling
from spikeattn.energy.costs import CostTable
from spikeattn.stats.intervals import Floats, Interval, Intervals, mean_intervals

Ratios = tuple[Floats, Floats, Floats, NDArray[np.str_]]  # value, low, high, method
_TABLES = ("parts", "blocks", "attention")


def frame_of(
    amounts: Amounts[Key],
    scopes: Sequence[Scope],
    table: CostTable,
    against: str,
    own: Intervals,
    theirs: Floats,
    ratios: Ratios,
) -> pd.DataFrame:
    """One row per scope under one pricing: the columns of `Comparison.parts` and block, break-even left open."""
    fixed, full, _ = limits_of(amounts, table, scopes)
    value, low, high, method = ratios
    verdict = np.select([low > 1, high < 1, ~np.isnan(low)], ["wins", "loses", "undecided"], "no interval")
    return pd.DataFrame(
        {
            "costs": table.name,
            "against": against,
            "part": [scope.part for scope in scopes],
            "block": pd.array([scope.block for scope in scopes], dtype="Int64"),
            "rate": divided(own.value - fixed, full),
            "energy_mj": own.value,
            "ci_low": own.low,
            "ci_high": own.high,
            "against_mj": theirs,
            "ratio": value,
            "ratio_low": low,
            "ratio_high": high,
            "interval": np.asarray(method, dtype=object),
            "break_even": np.nan,
            "cannot_lose": pd.array([None] * len(scopes), dtype="boolean"),
            "verdict": np.asarray(verdict, dtype=object),
        }
    )


def with_break_even(
    frame: pd.DataFrame, amounts: Amounts[Key], scopes: Sequence[Scope], table: CostTable, theirs: Floats
) -> pd.DataFrame:
    """The rate at which each scope costs what the ANN costs, and whether any rate of binary spikes costs more."""
    fixed, full, bounded = limits_of(amounts, table, scopes)
    cannot_lose = pd.array(bounded & (fixed + full <= theirs), dtype="boolean")
    return frame.assign(break_even=divided(theirs - fixed, full), cannot_lose=cannot_lose)


def inverted(theirs: Floats, own: Intervals) -> Ratios:
    """Ratio of constants to means with their limits: those of the means, turned round."""
    method = np.where(own.method == "upper bound", "lower bound", own.method)
    return divided(theirs, own.value), divided(theirs, own.high), divided(theirs, own.low), method


def intervals_of(
    amounts: Amounts[Key], scopes: Sequence[Scope], tables: Sequence[CostTable], resampling: Resampling
) -> dict[str, Intervals]:
    """mJ of every scope with intervals by name of the cost table, all of them from the same resampled images."""
    named = {table.name: table for table in tables}
    columns = np.concatenate([energies_of(amounts, table, scopes) for table in named.values()], axis=1)
    least, most = [], []
    for table in named.values():
        fixed, full, bounded = limits_of(amounts, table, scopes)
        least.append(fixed)
        most.append(np.where(bounded, fixed + full, np.inf))
    every = mean_intervals(
        columns,
        *resampling.arguments,
        ceiling=np.concatenate(most),
        floor=np.concatenate(least),
        labels=resampling.labels,
    )
    return {name: _columns(every, i * len(scopes), (i + 1) * len(scopes)) for i, name in enumerate(named)}


def tables_of(
    frames: Sequence[pd.DataFrame], scopes: Sequence[Scope], keys: Sequence[Key], sides: Sequence[set[Key]]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The tables parts, blocks and attention; where one of the networks has no operations nothing is compared."""
    one_sided = ~np.logical_and(*(_present(scopes, keys, side) for side in sides))
    kinds = np.array([scope.table for scope in scopes])
    for frame in frames:
        frame.loc[one_sided, ["ratio", "ratio_low", "ratio_high", "break_even"]] = np.nan
        frame.loc[one_sided, ["cannot_lose", "interval", "verdict"]] = None
    parts, blocks, attention = (
        pd.concat([frame[kinds == kind] for frame in frames], ignore_index=True) for kind in _TABLES
    )
    return parts.drop(columns="block"), blocks, attention.drop(columns="block")


def total_of(parts: pd.DataFrame, confidence: float) -> Interval:
    """The ratio in the first row called "total"."""
    row = parts[parts["part"] == "total"].iloc[0]
    value, low, high = (float(row[key]) for key in ("ratio", "ratio_low", "ratio_high"))
    return Interval(value, low, high, str(row["interval"]), confidence)


def divided(above: Any, below: Any) -> Floats:
    """Quotients, infinite or NaN where the divisor is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above, dtype=float) / np.asarray(below, dtype=float)


def _present(scopes: Sequence[Scope], keys: Sequence[Key], side: set[Key]) -> NDArray[np.bool_]:
    has = np.array([key in side for key in keys])
    return np.array([bool((scope.members & has).any()) for scope in scopes])


def _columns(every: Intervals, start: int, stop: int) -> Intervals:
    """Those of some columns."""
    part = slice(start, stop)
    return replace(
        every,
        value=every.value[part],
        low=every.low[part],
        high=every.high[part],
        method=every.method[part],
        nonzero_images=every.nonzero_images[part],
    )
