"""Counting at a tap on the CPU in one pass over the tensor, by the C kernels; torch counts where they cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikeattn.counting import sums
from spikeattn.counting.findings import Findings
from spikeattn.counting.weighed_ahead import Counts, weighed
from spikeattn.fast import count
from spikeattn.fast import pairs as product
from spikeattn.tracing.kinds import whole
from spikeattn.tracing.taps import Fan, Tap


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
        slots: memory of the pass that is counted; new ones for each.
        pair_readers: what counts the pairs of a product, by its id, those of both operands and the batch.
        muting: operations of torch inside are none of the model's.
    """

    fans: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    readings: dict[tuple[int, torch.Size, tuple[int, ...], int], Reading] = field(default_factory=dict)
    ahead: Mapping[str, Fan] = field(default_factory=dict)
    slots: count.Slots = field(default_factory=count.Slots)
    pair_readers: dict[tuple[Any, ...], product.PairReader] = field(default_factory=dict)
    muting: Callable[[], AbstractContextManager[None]] = nullcontext


def count_again(
    into: Findings, tap: Tap, x: Tensor, t: int | None, kept: Kept, batch: int, dropout: bool,
    made: count.Read | None = None,
) -> bool:  # fmt: skip
    """Count a tensor of a tap that has had one like it; False, with nothing noted, where there was none, or where the
    kernels cannot.

    Args:
        made: what its `only_reader` has found in it already.
    """
    reading = kept.readings.get((id(tap), x.shape, x.stride(), batch)) if x.layout == torch.strided else None
    return reading is not None and count.readable(x) and _read(into, tap, x, t, reading, kept, dropout, made)


def only_reader(tap: Tap, x: Tensor, kept: Kept, batch: int) -> count.Reader | None:
    """What alone counts a tensor like `x`, as is known since a tap has had one; None where that is not so."""
    reading = kept.readings.get((id(tap), x.shape, x.stride(), batch)) if x.layout == torch.strided else None
    return None if reading is None or len(reading.readers) > 1 else reading.readers[0][1]


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
    readers: list[tuple[Fan | None, count.Reader]] = []
    ahead = kept.ahead.get(tap.name) if tap.tensor and not tap.fans and not number else None
    if ahead is not None and ahead.weights.shape == parted.shape[parted.dim() - ahead.weights.dim() :]:
        weights = _in_kernel(ahead.weights, kept.fans)
        reader = None if weights is None else count.reader(parted, unit, weights, extremes)
        readers += [] if reader is None else [(ahead, reader)]
    reads_ahead = bool(readers)
    for fan in () if reads_ahead else tap.fans or (None,):
        weights = None if fan is None else _in_kernel(fan.weights, kept.fans)
        reader = count.reader(parted, unit, weights, extremes and not readers, number)
        if reader is None or (fan is not None and weights is None):
            return False
        readers.append((fan, reader))
    reading = Reading(tuple(readers), reads_ahead)
    if parted.data_ptr() == x.data_ptr():  # and no copy
        kept.readings[id(tap), x.shape, x.stride(), parted.shape[1]] = reading
    else:
        x = parted
    return _read(into, tap, x, t, reading, kept, dropout)


def _read(
    into: Findings, tap: Tap, x: Tensor, t: int | None, reading: Reading, kept: Kept, dropout: bool,
    made: count.Read | None = None,
) -> bool:  # fmt: skip
    """Count a tensor whose parts lie as the readers expect."""
    if not tap.tensor and not dropout and _take_weighed(into, tap, x, t, reading):
        return True
    found: list[tuple[Fan | None, count.Read]] = []
    for fan, reader in reading.readers:
        read = reader(x, kept.slots) if made is None else made
        unusable = tap.binary or (fan is not None and not reading.ahead)
        if read is None or (read.fraction and unusable):
            return False  # fractions have no exact sum, whatever is asked of them
        found.append((fan, read))
    fan, first = found[0]
    if reading.ahead and fan is not None and not first.fraction:
        place = x.data_ptr(), *first.reader.lies
        into.weighed[tap.name] = weighed(x, place, t, fan.weights, partial(_weighed, first))
    varies = total = None
    if first.fraction or tap.name == "input":
        with kept.muting(), torch.no_grad():
            parted = x.detach().as_strided(first.reader.shape, first.reader.strides)
            varies = tap.name == "input" and len(parted) > 1 and bool((parted != parted[:1]).any())
            # Numbers are added in an order of their own, so that their sum is the same with kernels and without.
            total = sums.sum_abs(whole(parted, tap.unit)) if first.fraction else None
    into.later(partial(_note, into, tap, t, found, reading.ahead, dropout, varies, total))
    return True


def _note(
    into: Findings, tap: Tap, t: int | None, found: list[tuple[Fan | None, count.Read]], ahead: bool, dropout: bool,
    varies: bool | None, total: Tensor | None,
) -> None:  # fmt: skip
    counts = [(fan, read.counted()) for fan, read in found]
    first = counts[0][1]
    if tap.binary and (tap.tensor or dropout):
        into.add_broken(tap.name, truths(first.not_binary))
    if tap.tensor:
        into.add("nnz", tap.name, t, first.nonzero, tap.axes)
    if tap.tensor and not tap.binary and first.sum is not None:
        more = (bool(varies),) if tap.name == "input" else ()
        into.add_flags(tap.name, truths(first.fraction, first.negative, first.above, *more))
        if first.extremes is not None:
            into.add_extremes(tap.name, first.extremes)
        total = _exact(sums.VALUES, first, first.sum) if total is None else total
        into.add("abs", tap.name, t, total, tap.axes)
    for fan, counted in counts if not ahead else ():
        if fan is not None and counted.fan_nonzero is not None:
            into.add("fan_nnz", fan.synapse, t, counted.fan_nonzero, tap.axes)
            if not tap.binary and counted.fan_sum is not None:
                into.add("fan_abs", fan.synapse, t, _exact(sums.WEIGHED, counted, counted.fan_sum), tap.axes)


def _weighed(read: count.Read) -> tuple[Tensor, Tensor | None]:
    counted = read.counted()
    assert counted.fan_nonzero is not None  # it was read for them
    total = None if counted.fan_sum is None else _exact(sums.WEIGHED, counted, counted.fan_sum)
    return counted.fan_nonzero, total


def _take_weighed(into: Findings, tap: Tap, x: Tensor, t: int | None, reading: Reading) -> bool:
    """Take the counts of a tensor that were weighed when it was made; False where there are none of it as it is."""
    made = into.weighed.get(tap.name)
    if made is None or len(reading.readers) > 1:
        return False
    fan, reader = reading.readers[0]
    if fan is None or not made.holds_for(x, (x.data_ptr(), *reader.lies), t, fan.weights):
        return False
    into.later(partial(_note_weighed, into, tap, t, fan, made.counts))
    return True


def _note_weighed(into: Findings, tap: Tap, t: int | None, fan: Fan, counts: Counts) -> None:
    nonzero, total = counts()
    into.add("fan_nnz", fan.synapse, t, nonzero, tap.axes)
    if total is not None:
        into.add("fan_abs", fan.synapse, t, total, tap.axes)


def _exact(what: str, counted: count.Counted, total: Tensor) -> Tensor:
    return sums.exact(what, total) if counted.inexact else total


@cache
def truths(*values: bool) -> Tensor:
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
