"""The counts of one forward pass as functions of its spikes, which autograd follows: the same numbers, with gradients.

A count is linear in the spikes: the gradient of a fan-out-weighted sum with respect to a spike is the fan-out of its
position, that of spike pairs is the number of spikes that it meets. So nothing is computed twice and, for 0/1 spikes,
nothing is kept for the backward pass: the value is the tally's, and the gradient is known beforehand.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointFunction

from spikeattn.storage.columns import Key
from spikeattn.tracing.kinds import whole
from spikeattn.tracing.layout import Axes
from spikeattn.tracing.taps import Pairs, Tap

Part = tuple[int | None, Axes, Tensor]  # time step where the calls are the steps, axes, [P, B]


class CountGraph:
    """The parts of the counts that are wanted, each with the way back to the spikes that it was counted from.

    Args:
        wanted: (measure, name) by value: "abs" of a tensor, "fan_abs" of a synapse, "pairs_abs" of a product; of 0/1
            spikes the same as "nnz", "fan_nnz" and "pairs".

    Attributes:
        enabled: gradients were enabled as the pass began.
        alone: the pass was one of a single image, counted again beside itself (`sa.record`).
        checkpointed: tensors that a checkpoint with use_reentrant=True has kept out of the graph.
        stopped: neurons that received what depends on a parameter and gave spikes that do not.
    """

    def __init__(self, batch: int, wanted: frozenset[Key]) -> None:
        self.batch, self.wanted = batch, wanted
        self.enabled = torch.is_grad_enabled()
        self.alone = False
        self.checkpointed: dict[str, None] = {}
        self.stopped: dict[str, None] = {}
        self.parts: dict[Key, list[Part]] = defaultdict(list)

    def tap(self, tap: Tap, x: Tensor, t: int | None, latest: Callable[[Key], Tensor]) -> None:
        """Take what was just counted at `tap`; `latest` gives the value of a column's newest part."""
        wanted: list[tuple[Key, Tensor | None]] = []
        if tap.tensor and ("abs", tap.name) in self.wanted:
            wanted.append((("abs", tap.name), None))
        wanted += [(key, fan.weights) for fan in tap.fans if (key := ("fan_abs", fan.synapse)) in self.wanted]
        if not wanted:
            return
        self._note_checkpoint(tap.name)
        with _own_saved_tensors():
            parted = tap.axes.split(x, self.batch) if x.requires_grad else None
            for key, weights in wanted:
                value = latest(key if not tap.binary else (key[0].replace("abs", "nnz"), key[1]))
                if parted is not None:
                    value = _Weighted.apply(parted, value, weights, tap.unit, tap.binary)
                self.parts[key].append((t, tap.axes, value))

    def pairs(self, pairs: Pairs, a: Tensor, b: Tensor, t: int | None, latest: Callable[[Key], Tensor]) -> None:
        """Take the pairs that were just counted in a @ b."""
        key = ("pairs_abs", pairs.name)
        if key not in self.wanted:
            return
        self._note_checkpoint(pairs.name)
        value = latest(key if pairs.by_value else ("pairs", pairs.name))
        if a.requires_grad or b.requires_grad:
            with _own_saved_tensors():
                left, right = (axes.split(x, self.batch) for x, axes in zip((a, b), pairs.axes, strict=True))
                value = _Pairs.apply(left, right, value, pairs.units, not pairs.by_value)
        axes = pairs.axes[0] if pairs.axes[0].timed else pairs.axes[1]
        self.parts[key].append((t, axes, value))

    def note_neuron(self, name: str, received: Iterator[Tensor], spikes: Tensor) -> None:
        """A neuron gave these spikes; without a surrogate no gradient comes back through them."""
        if torch.is_grad_enabled() and not spikes.requires_grad and any(x.requires_grad for x in received):
            self.stopped[name] = None

    def _note_checkpoint(self, name: str) -> None:
        if self.enabled and not torch.is_grad_enabled() and _in_reentrant_checkpoint():
            self.checkpointed[name] = None


class _Weighted(torch.autograd.Function):
    """Spikes [P, B, ...] and their count [P, B], each spike times the weights [*space] that it meets (one without)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, weights: Tensor | None, unit: float, binary: bool) -> Tensor:
        ctx.weights, ctx.unit, ctx.shape, ctx.dtype = weights, unit, x.shape, x.dtype
        ctx.save_for_backward(*([] if binary else [_slopes(x, unit)]))
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        each = gradient.reshape(*gradient.shape, *(1,) * (len(ctx.shape) - 2)) / ctx.unit
        if ctx.weights is not None:
            each = each * ctx.weights.to(each.device)
        for slopes in ctx.saved_tensors:
            each = each * slopes
        return each.to(ctx.dtype).expand(ctx.shape), None, None, None, None


class _Pairs(torch.autograd.Function):
    """Spikes [P, B, ..., N, K] and [P, B, ..., K, M], and the number of pairs [P, B] that meet in their product.

    A spike of one meets as many of the other as stand in its row or column; these sums alone are kept.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, value: Tensor, units: tuple[float, float], binary: bool
    ) -> Tensor:  # fmt: skip
        left, right = (whole(x, unit).abs().double() for x, unit in zip((a, b), units, strict=True))
        ctx.units, ctx.shapes, ctx.dtypes = units, (a.shape, b.shape), (a.dtype, b.dtype)
        slopes = [] if binary else [_slopes(x, unit) for x, unit in zip((a, b), units, strict=True)]
        ctx.save_for_backward(left.sum(dim=-2), right.sum(dim=-1), *slopes)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right, *slopes = ctx.saved_tensors
        each = gradient.reshape(*gradient.shape, *(1,) * (max(left.dim(), right.dim()) - 2))
        (*rows, _, inner), (*columns, _, _) = ctx.shapes
        found = [
            (each * right).sum_to_size(*rows, inner).unsqueeze(-2),
            (each * left).sum_to_size(*columns, inner).unsqueeze(-1),
        ]
        for i, slope in enumerate(slopes):
            found[i] = found[i] * slope
        made = (
            (found[i] / ctx.units[i]).to(ctx.dtypes[i]).expand(ctx.shapes[i]) if ctx.needs_input_grad[i] else None
            for i in range(2)
        )
        return *made, None, None, None


def _slopes(x: Tensor, unit: float) -> Tensor:
    """The derivative of |value| in units, as int8: the sign. A silent element has slope 1, as a 0/1 spike has; where
    the tensor holds negative spikes too, either sign would come of it, and it has slope 0."""
    multiples = whole(x.detach(), unit)
    silent = (~(multiples < 0).any()).to(torch.int8)
    return torch.where(multiples == 0, silent, multiples.sign().to(torch.int8))


@contextmanager
def _own_saved_tensors() -> Iterator[None]:
    """What is kept inside is the count's: a checkpoint around the layer runs it again without the count."""
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        yield


def _in_reentrant_checkpoint() -> bool:
    """Whether what runs is the first pass of `checkpoint(use_reentrant=True)`, which makes its graph in the second."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not CheckpointFunction.forward.__code__:
        frame = frame.f_back
    return frame is not None
