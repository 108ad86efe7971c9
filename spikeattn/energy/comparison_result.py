"""The result of a comparison: its tables, and how a row of them comes from operations, prices and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.energy.by_part import Cells, Key, Scope
from spikeattn.energy.costs import CostTable
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES, Floats, Interval, Intervals, mean_intervals
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor

Ratios = tuple[Floats, Floats, Floats, NDArray[np.str_]]  # value, low, high, method
_TABLES = ("parts", "blocks", "attention")
_LIMITS = {"binary": (0.0, 1.0), "ternary": (-1.0, 1.0)}  # values of a kind of spikes where nobody looked


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
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        ratio = f"{self.total.value:.4g} [{self.total.low:.4g}, {self.total.high:.4g}]"
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
    """How intervals are made."""

    replicates: int = REPLICATES
    seed: int = 0
    confidence: float = CONFIDENCE

    @property
    def arguments(self) -> tuple[int, int, float]:
        """As the functions of `statistics` take them."""
        return self.replicates, self.seed, self.confidence


def matched_bits(ledger: Ledger) -> tuple[dict[str, int], int]:
    """Bits that tell apart as many levels as the spikes of T steps: b = ceil(log2((max - min) x T + 1)).

    max and min are in units of the spikes, so 0 and 1 give ceil(log2(T + 1)).

    Returns:
        The bits by synapse and product, of the operand with the most levels; and the most bits of any of these.
    """
    T = ledger.time_steps
    read = {synapse.name: (synapse.input,) for synapse in ledger.synapses}
    read |= {product.name: product.operands for product in ledger.products}
    bits = {
        name: max((T * _levels(ledger.tensor(operand))).bit_length() for operand in operands)
        for name, operands in read.items()
    }
    return bits, max(bits.values(), default=T.bit_length())


def _levels(tensor: CountedTensor) -> int:
    """How many units the largest value of a tensor lies above its smallest, silence being one of the values.

    1, as of binary spikes, for a tensor that is no train of spikes, and for integer spikes whose limits nobody knows.
    """
    if tensor.number or tensor.summed or not tensor.spikes or tensor.maker == "input":
        return 1
    low, high = tensor.low, tensor.high
    if low is None or high is None:
        low, high = _LIMITS.get(tensor.kind, (0.0, 1.0))
    return max(round(max(high, 0.0) - min(low, 0.0)), 1)


def frame_of(
    cells: Cells,
    scopes: Sequence[Scope],
    table: CostTable,
    against: str,
    own: Intervals,
    theirs: Floats,
    ratios: Ratios,
) -> pd.DataFrame:
    """One row per scope under one pricing: the columns of `Comparison.parts` and block, break-even left open."""
    fixed, full, _ = cells.limits(table, scopes)
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
    frame: pd.DataFrame, cells: Cells, scopes: Sequence[Scope], table: CostTable, theirs: Floats
) -> pd.DataFrame:
    """The rate at which each scope costs what the ANN costs, and whether any rate of binary spikes costs more."""
    fixed, full, bounded = cells.limits(table, scopes)
    cannot_lose = pd.array(bounded & (fixed + full <= theirs), dtype="boolean")
    return frame.assign(break_even=divided(theirs - fixed, full), cannot_lose=cannot_lose)


def inverted(theirs: Floats, own: Intervals) -> Ratios:
    """Ratio of constants to means with their limits: those of the means, turned round."""
    method = np.where(own.method == "upper bound", "lower bound", own.method)
    return divided(theirs, own.value), divided(theirs, own.high), divided(theirs, own.low), method


def intervals_of(
    cells: Cells, scopes: Sequence[Scope], tables: Sequence[CostTable], resampling: Resampling
) -> dict[str, Intervals]:
    """mJ of every scope with intervals by name of the cost table, all of them from the same resampled images."""
    named = {table.name: table for table in tables}
    columns = np.concatenate([cells.energies(table, scopes) for table in named.values()], axis=1)
    least, most = [], []
    for table in named.values():
        fixed, full, bounded = cells.limits(table, scopes)
        least.append(fixed)
        most.append(np.where(bounded, fixed + full, np.inf))
    made = mean_intervals(columns, *resampling.arguments, ceiling=np.concatenate(most), floor=np.concatenate(least))
    return {name: _columns(made, i * len(scopes), (i + 1) * len(scopes)) for i, name in enumerate(named)}


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
    return np.array([bool((scope.cells & has).any()) for scope in scopes])


def _columns(made: Intervals, start: int, stop: int) -> Intervals:
    arrays = (made.value, made.low, made.high, made.method, made.nonzero_images)
    return Intervals(*(array[start:stop] for array in arrays), made.n_images, made.confidence)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{key: _plain(value) for key, value in row.items()} for row in frame.astype(object).to_dict("records")]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
