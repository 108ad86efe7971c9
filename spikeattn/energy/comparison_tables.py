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
from spikeattn.stats.column_blocks import intervals_by_columns
from spikeattn.stats.intervals import Floats, Intervals
from spikeattn.stats.quantity import Quantity

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
    extra: Floats | float = 0.0,
) -> pd.DataFrame:
    """One row per scope under one pricing: the columns of `Comparison.parts` and block, break-even left open.

    Args:
        extra: mJ that the spiking network is charged besides what it does, the same for every image.
    """
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
            "energy_mj": own.value + extra,
            "ci_low": own.low + extra,
            "ci_high": own.high + extra,
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
    frame: pd.DataFrame,
    amounts: Amounts[Key],
    scopes: Sequence[Scope],
    table: CostTable,
    theirs: Floats,
    extra: Floats,
    cannot_lose: NDArray[np.bool_],
) -> pd.DataFrame:
    """The rate at which each scope costs what the ANN costs, NaN where it costs more without a spike."""
    fixed, full, _ = limits_of(amounts, table, scopes)
    fixed = fixed + extra
    even = np.where(fixed > theirs, np.nan, divided(theirs - fixed, full))
    return frame.assign(break_even=even, cannot_lose=pd.array(cannot_lose, dtype="boolean"))


def never_dearer(
    amounts: Amounts[Key], scopes: Sequence[Scope], pricings: Sequence[tuple[CostTable, Floats, Floats]]
) -> NDArray[np.bool_]:
    """[scopes], whether even spikes everywhere cost no more than the ANN, under every one of some pricings.

    Args:
        pricings: cost table, [scopes] mJ of the ANN, [scopes] mJ of what the spiking network is charged besides; none
            where nothing is known of a wider accumulator, and then nothing is said.
    """
    never = np.full(len(scopes), bool(pricings))
    for table, theirs, extra in pricings:
        fixed, full, bounded = limits_of(amounts, table, scopes)
        never &= bounded & (fixed + full + extra <= theirs)
    return never


def inverted(theirs: Floats, own: Intervals, extra: Floats | float = 0.0) -> Ratios:
    """Ratio of constants to means, and what is added to them, with their limits: those of the means, turned round."""
    method = np.where(own.method == "upper bound", "lower bound", own.method)
    value, low, high = own.value + extra, own.low + extra, own.high + extra
    return divided(theirs, value), divided(theirs, high), divided(theirs, low), method


def intervals_of(
    amounts: Amounts[Key], scopes: Sequence[Scope], tables: Sequence[CostTable], resampling: Resampling
) -> dict[str, Intervals]:
    """mJ of every scope with intervals by name of the cost table, all of them from the same resampled images."""
    named = {table.name: table for table in tables}
    least, most = [], []
    for table in named.values():
        fixed, full, bounded = limits_of(amounts, table, scopes)
        least.append(fixed)
        most.append(np.where(bounded, fixed + full, np.inf))
    every = intervals_by_columns(
        lambda part: _energies_of_columns(amounts, list(named.values()), scopes, part),
        amounts.n_images,
        len(named) * len(scopes),
        *resampling.arguments,
        ceiling=np.concatenate(most),
        floor=np.concatenate(least),
        labels=resampling.labels,
    )
    return {name: _columns(every, i * len(scopes), (i + 1) * len(scopes)) for i, name in enumerate(named)}


def _energies_of_columns(
    amounts: Amounts[Key], tables: Sequence[CostTable], scopes: Sequence[Scope], part: slice
) -> Floats:
    """mJ per image of some of all scopes under the first table, then all under the second one, and so on."""
    n, found = len(scopes), []
    for i, table in enumerate(tables):
        chosen = scopes[max(part.start - i * n, 0) : max(part.stop - i * n, 0)]
        if chosen:
            found.append(energies_of(amounts, table, chosen))
    return np.concatenate(found, axis=1)


def tables_of(
    frames: Sequence[pd.DataFrame], scopes: Sequence[Scope], keys: Sequence[Key], sides: Sequence[set[Key]]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The tables parts, blocks and attention; where one of the networks has no operations nothing is compared."""
    one_sided = ~in_both(scopes, keys, sides)
    kinds = np.array([scope.table for scope in scopes])
    for frame in frames:
        frame.loc[one_sided, ["ratio", "ratio_low", "ratio_high", "break_even"]] = np.nan
        frame.loc[one_sided, ["cannot_lose", "interval", "verdict"]] = None
    parts, blocks, attention = (
        pd.concat([frame[kinds == kind] for frame in frames], ignore_index=True) for kind in _TABLES
    )
    only = [column for column in ("includes",) if column in parts]  # of attention alone
    return parts.drop(columns=["block", *only]), blocks.drop(columns=only), attention.drop(columns="block")


def in_both(scopes: Sequence[Scope], keys: Sequence[Key], sides: Sequence[set[Key]]) -> NDArray[np.bool_]:
    """[scopes], whether both networks have operations there."""
    return np.asarray(np.logical_and(*(_present(scopes, keys, side) for side in sides)))


def total_of(parts: pd.DataFrame, confidence: float) -> Quantity:
    """The ratio in the first row called "total"."""
    row = parts[parts["part"] == "total"].iloc[0]
    value, low, high = (float(row[key]) for key in ("ratio", "ratio_low", "ratio_high"))
    return Quantity(value, low, high, str(row["interval"]), confidence, unit="", per="")


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
