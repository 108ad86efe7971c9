"""Counting at a tap on the CPU in one pass over the tensor, by the C kernels; torch counts where they cannot."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from spikeattn.counting import sums
from spikeattn.counting.findings import Findings
from spikeattn.fast import count
from spikeattn.tracing.kinds import whole
from spikeattn.tracing.layout import Axes
from spikeattn.tracing.taps import Fan, Pairs, Tap

FanOuts = dict[tuple[int, str], Tensor]


def count_tap(into: Findings, tap: Tap, x: Tensor, t: int | None, fans: FanOuts, number: bool, dropout: bool) -> bool:
    """Count a tensor [P, B, ...]; False, with nothing noted, where torch has to.

    Args:
        fans: fan-outs as the kernels read them, by the id of the plan's and the device; takes new ones.
        number: the plan knows that its values are numbers, so nobody asks for the extremes.
        dropout: it is at work.

    Raises:
        SpikeattnError: a count that float64 cannot hold exactly.
    """
    unit = None if tap.binary and tap.unit == 1.0 else tap.unit
    extremes = tap.tensor and not tap.binary and not number
    found: list[tuple[Fan | None, count.Counted]] = []
    for fan in tap.fans or (None,):
        weights = None if fan is None else _in_kernel(fan.weights, fans)
        if fan is not None and weights is None:
            return False
        counted = count.count(x, unit, weights, extremes=extremes and not found)
        if counted is None or (counted.fraction and (fan is not None or tap.binary)):
            return False  # fractions have no exact sum, whatever is asked of them
        found.append((fan, counted))
    if tap.binary and (tap.tensor or dropout):
        into.add_broken(tap.name, _truths(found[0][1].not_binary))
    if tap.tensor:
        _note_tensor(into, tap, x, t, found[0][1])
    for fan, counted in found:
        if fan is None or counted.fan_nonzero is None:
            continue
        into.add("fan_nnz", fan.synapse, t, counted.fan_nonzero, tap.axes)
        if not tap.binary and counted.fan_sum is not None:
            into.add("fan_abs", fan.synapse, t, sums.exact(sums.WEIGHED, counted.fan_sum), tap.axes)
    return True


def _note_tensor(into: Findings, tap: Tap, x: Tensor, t: int | None, counted: count.Counted) -> None:
    into.add("nnz", tap.name, t, counted.nonzero, tap.axes)
    if tap.binary or counted.sum is None:
        return
    into.add_flags(tap.name, _truths(counted.fraction, counted.negative, counted.above))
    if counted.extremes is not None:
        into.add_extremes(tap.name, torch.tensor(counted.extremes))
    # Numbers are added in torch's order, so that their sum is the same with kernels and without.
    total = sums.sum_abs(whole(x, tap.unit)) if counted.fraction else sums.exact(sums.VALUES, counted.sum)
    into.add("abs", tap.name, t, total, tap.axes)


def count_pairs(
    into: Findings, pairs: Pairs, operands: list[Tensor], t: int | None, axes: Axes, dropout: bool
) -> bool:  # fmt: skip
    """Count the pairs of two operands [P, B, ...]; False, with nothing noted, where torch has to.

    Raises:
        SpikeattnError: a count that float64 cannot hold exactly.
    """
    ways = {"pairs": False, "pairs_abs": True} if pairs.by_value else {"pairs": False}
    found = {}
    for measure, by_value in ways.items():
        each = sums.pairs_in_kernel(operands[0], operands[1], *pairs.units, by_value)
        if each is None:
            return False
        found[measure] = each
    for measure, (total, not_binary) in found.items():
        into.add(measure, pairs.name, t, total, axes)
        if dropout and not pairs.by_value:
            into.add_broken(pairs.name, _truths(not_binary))
    return True


@cache
def _truths(*values: bool) -> Tensor:
    """A tensor of them, or a scalar of one; nobody writes into it."""
    return torch.tensor(values if len(values) > 1 else values[0])


def _in_kernel(weights: Tensor, fans: FanOuts) -> Tensor | None:
    key = id(weights), "cpu"
    if key not in fans:
        made = count.fan_out(weights)
        if made is None:
            return None
        fans[key] = made
    return fans[key]
