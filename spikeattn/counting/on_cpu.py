"""Counting at a tap on the CPU in one pass over the tensor, by the C kernels; torch counts where they cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikeattn.counting import sums
from spikeattn.counting.findings import Findings
from spikeattn.counting.weighed_ahead import weighed
from spikeattn.fast import count
from spikeattn.fast import pairs as product
from spikeattn.tracing.kinds import whole
from spikeattn.tracing.taps import Fan, Pairs, Tap


class Reading(NamedTuple):
    """How the tensors of a tap are counted: once for each fan-out, or once without.

    Attributes:
        ahead: the fan-out is not this tap's, but that of a layer which will receive the tensor.
    """

    readers: tuple[tuple[Fan | None, count.Reader], ...]
    ahead: bool


@dataclass
class Kept:
    """What counting keeps from pass to pass.

    Attributes:
        fans: fan-outs as the kernels read them, by the id of the plan's and the device.
        readings: of the tensors of a tap, by its id, their shape, their strides and the batch.
        ahead: see `fans_ahead`.
        pair_readers: what counts the pairs of a product, by its id, those of both operands and the batch.
    """

    fans: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    readings: dict[tuple[int, torch.Size, tuple[int, ...], int], Reading] = field(default_factory=dict)
    ahead: Mapping[str, Fan] = field(default_factory=dict)
    pair_readers: dict[tuple[Any, ...], product.PairReader] = field(default_factory=dict)


def count_again(into: Findings, tap: Tap, x: Tensor, t: int | None, kept: Kept, batch: int, dropout: bool) -> bool:
    """Count a tensor of a tap that has had one like it; False, with nothing noted, where there was none, or where the
    kernels cannot."""
    reading = kept.readings.get((id(tap), x.shape, x.stride(), batch)) if x.layout == torch.strided else None
    if reading is None or not count.readable(x):
        return False
    _, reader = reading.readers[0]
    return _note(into, tap, x, t, reading, dropout, lambda: x.detach().as_strided(reader.shape, reader.strides))


def count_tap(
    into: Findings, tap: Tap, x: Tensor, parted: Tensor, t: int | None, kept: Kept, number: bool, dropout: bool
) -> bool:  # fmt: skip
    """Count a tensor, in its parts [P, B, ...]; False, with nothing noted, where torch has to.

    Args:
        kept: takes what the next pass can use again.
        number: the plan knows that its values are numbers, so nobody asks for the extremes.
        dropout: it is at work.

    Raises:
        SpikeattnError: a count that float64 cannot hold exactly.
    """
    unit = None if tap.binary and tap.unit == 1.0 else tap.unit
    extremes = tap.tensor and not tap.binary and not number
    ahead = kept.ahead.get(tap.name) if tap.tensor and not tap.fans else None
    if ahead is not None and (number or ahead.weights.shape != parted.shape[parted.dim() - ahead.weights.dim() :]):
        ahead = None
    readers: list[tuple[Fan | None, count.Reader]] = []
    for fan in tap.fans or (ahead,):
        weights = None if fan is None else _in_kernel(fan.weights, kept.fans)
        if fan is not None and weights is None and fan is not ahead:
            return False
        reader = count.reader(parted, unit, weights, extremes=extremes and not readers)
        if reader is None and fan is ahead:
            reader = count.reader(parted, unit, None, extremes)
        if reader is None:
            return False
        readers.append((fan, reader))
    reading = Reading(tuple(readers), ahead is not None)
    if parted.data_ptr() == x.data_ptr():  # and no copy
        kept.readings[id(tap), x.shape, x.stride(), parted.shape[1]] = reading
    else:
        x = parted
    return _note(into, tap, x, t, reading, dropout, lambda: parted)


def _note(
    into: Findings, tap: Tap, x: Tensor, t: int | None, reading: Reading, dropout: bool, parted: Callable[[], Tensor]
) -> bool:  # fmt: skip
    """Count a tensor whose parts lie as the readers expect, by its pointer."""
    if not tap.tensor and not dropout and _note_weighed(into, tap, x, t, reading):
        return True
    found: list[tuple[Fan | None, count.Counted]] = []
    for fan, reader in reading.readers:
        counted = reader(x)
        unusable = tap.binary or (fan is not None and not reading.ahead)
        if counted is None or (counted.fraction and unusable):
            return False  # fractions have no exact sum, whatever is asked of them
        found.append((fan, counted))
    first = found[0][1]
    if tap.binary and (tap.tensor or dropout):
        into.add_broken(tap.name, _truths(first.not_binary))
    if tap.tensor:
        _note_tensor(into, tap, t, first, parted)
    if reading.ahead:
        fan, reader = reading.readers[0]
        if fan is not None and first.fan_nonzero is not None and not first.fraction and not first.inexact:
            place = x.data_ptr(), reader.shape, reader.strides
            into.weighed[tap.name] = weighed(x, place, t, fan.weights, first.fan_nonzero, first.fan_sum)
        return True
    for fan, counted in found:
        if fan is None or counted.fan_nonzero is None:
            continue
        into.add("fan_nnz", fan.synapse, t, counted.fan_nonzero, tap.axes)
        if not tap.binary and counted.fan_sum is not None:
            into.add("fan_abs", fan.synapse, t, _exact(sums.WEIGHED, counted, counted.fan_sum), tap.axes)
    return True


def _note_tensor(into: Findings, tap: Tap, t: int | None, counted: count.Counted, parted: Callable[[], Tensor]) -> None:
    into.add("nnz", tap.name, t, counted.nonzero, tap.axes)
    if tap.binary or counted.sum is None:
        return
    flags = [counted.fraction, counted.negative, counted.above]
    if tap.name == "input":
        x = parted()
        flags.append(len(x) > 1 and bool((x != x[:1]).any()))
    into.add_flags(tap.name, _truths(*flags))
    if counted.extremes is not None:
        into.add_extremes(tap.name, torch.tensor(counted.extremes))
    # Numbers are added in torch's order, so that their sum is the same with kernels and without.
    real = counted.fraction
    total = sums.sum_abs(whole(parted(), tap.unit)) if real else _exact(sums.VALUES, counted, counted.sum)
    into.add("abs", tap.name, t, total, tap.axes)


def _note_weighed(into: Findings, tap: Tap, x: Tensor, t: int | None, reading: Reading) -> bool:
    """Take the counts of a tensor that were weighed when it was made; False where there are none of it as it is."""
    made = into.weighed.get(tap.name)
    if made is None or len(reading.readers) > 1:
        return False
    fan, reader = reading.readers[0]
    place = x.data_ptr(), reader.shape, reader.strides
    if fan is None or not made.holds_for(x, place, t, fan.weights):
        return False
    into.add("fan_nnz", fan.synapse, t, made.nonzero, tap.axes)
    if made.total is not None:
        into.add("fan_abs", fan.synapse, t, made.total, tap.axes)
    return True


def _exact(what: str, counted: count.Counted, total: Tensor) -> Tensor:
    return sums.exact(what, total) if counted.inexact else total


def count_pairs_again(
    into: Findings, pairs: Pairs, a: Tensor, b: Tensor, t: int | None, kept: Kept, batch: int, dropout: bool
) -> bool:  # fmt: skip
    """Count the pairs of a product that has been counted of operands like these; False as in `count_again`."""
    reader = kept.pair_readers.get(_pairs_key(pairs, a, b, batch))
    if reader is None or not count.readable(a) or not count.readable(b):
        return False
    return _note_pairs(into, pairs, reader(a, b), t, dropout)


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
    return _note_pairs(into, pairs, reader(left, right), t, dropout)


def _pairs_key(pairs: Pairs, a: Tensor, b: Tensor, batch: int) -> tuple[Any, ...]:
    return id(pairs), a.shape, a.stride(), b.shape, b.stride(), batch


def _note_pairs(into: Findings, pairs: Pairs, found: product.Pairs | None, t: int | None, dropout: bool) -> bool:
    if found is None:
        return False
    axes = pairs.axes[0] if pairs.axes[0].timed else pairs.axes[1]
    into.add("pairs", pairs.name, t, found.pairs, axes)
    if found.by_value is not None:
        into.add("pairs_abs", pairs.name, t, found.by_value, axes)
    elif dropout:
        into.add_broken(pairs.name, _truths(found.not_binary))
    return True


@cache
def _truths(*values: bool) -> Tensor:
    """A tensor of them, or a scalar of one; nobody writes into it."""
    return torch.tensor(values if len(values) > 1 else values[0])


def _in_kernel(weights: Tensor, fans: dict[tuple[int, str], Tensor]) -> Tensor | None:
    key = id(weights), "cpu"
    if key not in fans:
        made = count.fan_out(weights)
        if made is None:
            return None
        fans[key] = made
    return fans[key]
