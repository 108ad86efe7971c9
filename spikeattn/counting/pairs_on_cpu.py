"""Counting the pairs of spikes of a product on the CPU by the C kernel; torch counts where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from spikeattn.counting.findings import Findings
from spikeattn.counting.on_cpu import Kept, truths
from spikeattn.fast import count
from spikeattn.fast import pairs as product
from spikeattn.tracing.taps import Pairs


def count_pairs_again(
    into: Findings, pairs: Pairs, a: Tensor, b: Tensor, t: int | None, kept: Kept, batch: int, dropout: bool
) -> bool:  # fmt: skip
    """Count the pairs of a product that has been counted of operands like these; False as in `count_again`."""
    reader = kept.pair_readers.get(_pairs_key(pairs, a, b, batch))
    if reader is None or not count.readable(a) or not count.readable(b):
        return False
    return _take_pairs(into, pairs, reader(a, b, kept.slots), t, dropout)


def count_pairs(
    into: Findings, pairs: Pairs, operands: tuple[Tensor, Tensor], parted: Sequence[Tensor], t: int | None,
    kept: Kept, dropout: bool,
) -> bool:  # fmt: skip
    """Count the pairs of two operands, in their parts [P, B, ...]; False, with nothing noted, where torch has to."""
    left, right = parted
    reader = product.reader(left, right, pairs.units, pairs.by_value)
    if reader is None:
        return False
    if all(x.data_ptr() == each.data_ptr() for x, each in zip(operands, parted, strict=True)):  # and no copies
        kept.pair_readers[_pairs_key(pairs, operands[0], operands[1], left.shape[1])] = reader
    return _take_pairs(into, pairs, reader(left, right, kept.slots), t, dropout)


def _pairs_key(pairs: Pairs, a: Tensor, b: Tensor, batch: int) -> tuple[Any, ...]:
    return id(pairs), a.shape, a.stride(), b.shape, b.stride(), batch


def _take_pairs(into: Findings, pairs: Pairs, read: product.Read | None, t: int | None, dropout: bool) -> bool:
    if read is not None:
        into.later(partial(_note_pairs, into, pairs, read, t, dropout))
    return read is not None


def _note_pairs(into: Findings, pairs: Pairs, read: product.Read, t: int | None, dropout: bool) -> None:
    found, axes = read.pairs(), pairs.axes[0] if pairs.axes[0].timed else pairs.axes[1]
    into.add("pairs", pairs.name, t, found.pairs, axes)
    if found.by_value is not None:
        into.add("pairs_abs", pairs.name, t, found.by_value, axes)
    elif dropout:
        into.add_broken(pairs.name, truths(found.not_binary))
