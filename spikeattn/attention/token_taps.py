"""Where the tokens of a tensor are, and what a recorder keeps of them while a pass runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeattn.attention.map_sources import SPIKFORMER, Family
from spikeattn.counting.tally import Tally
from spikeattn.tracing.kinds import whole
from spikeattn.tracing.taps import Pairs, Plan, Tap

Unsigned = NDArray[Any]  # uint16; uint32 or uint64 where a count does not fit


def token_axes(shape: Sequence[int], grid: tuple[int, int], flat: bool) -> tuple[int, ...] | None:
    """The axes of one image at one step that run over the tokens; None where there are none or they cannot be told.

    Rows and columns at the end, [C, h, w]; with `flat` tokens also one axis of N: the last of [C, N], or the only one
    of that size in [heads, N, d].
    """
    n = grid[0] * grid[1]
    if len(shape) > 2 and tuple(shape[-2:]) == tuple(grid):
        return len(shape) - 2, len(shape) - 1
    found = [axis for axis, size in enumerate(shape) if size == n] if flat and len(shape) > 1 else []
    if len(shape) == 2 and found[-1:] == [1]:
        return (1,)
    return (found[0],) if len(found) == 1 else None


class Layouts:
    """Which tensors of a plan have tokens, along which axes, and where their heads are.

    Attributes:
        tokens: axes of the tokens, by tensor.
        heads_of: the axis that the heads share with channels, by tensor; empty unless heads are asked for.
        off_grid: why a tensor of the blocks has none.
        blocks: empty: the paths of the layers tell which block a name lies in.
    """

    def __init__(
        self,
        made: Plan,
        grid: tuple[int, int],
        layers: Sequence[str],
        attentions: Sequence[str],
        family: Family,
        each: bool,
    ) -> None:
        heads = family.heads
        self.plan, self.n, self.heads = made, grid[0] * grid[1], heads
        self.grid, self.layers, self.blocks = grid, layers, dict[str, int]()
        self.tokens: dict[str, tuple[int, ...]] = {}
        self.heads_of: dict[str, int] = {}
        self.off_grid: dict[str, str] = {}
        inside, of_attention = (tuple(f"{path}." for path in paths) for paths in (layers, attentions))
        shared, read = shared_inputs(made, attentions), read_by(made, inside)
        for tensor in made.ledger.tensors:
            if tensor.name not in read and not tensor.name.startswith(inside):
                continue
            axes = token_axes(tensor.shape, grid, flat=family.kinds is SPIKFORMER)
            if axes is None:
                shape = "x".join(map(str, tensor.shape))
                self.off_grid[tensor.name] = f"its {shape} elements have no place per token of {grid[0]}x{grid[1]}"
                continue
            self.tokens[tensor.name] = axes
            channels = next((axis for axis in range(len(tensor.shape)) if axis not in axes), None)
            headed = each and tensor.name in read - shared and tensor.name.startswith(of_attention)
            if headed and channels is not None and tensor.shape[channels] % heads == 0:
                self.heads_of[tensor.name] = channels

    def side(self, pairs: Pairs, left: Tensor, right: Tensor) -> str | None:
        """Which axis of a product has the tokens: the one it sums over ("inner"), or the right operand's ("outer").

        None where they cannot be told from channels, or where there are none.
        """
        inner, outer = left.shape[-1] == self.n, right.shape[-1] == self.n
        return None if inner == outer else "inner" if inner else "outer"


def read_by(made: Plan, inside: tuple[str, ...]) -> set[str]:
    """The tensors that a synapse or product of these paths receives."""
    found = {s.input for s in made.ledger.synapses if s.name.startswith(inside)}
    return found.union(*(p.operands for p in made.ledger.products if p.name.startswith(inside)))


def shared_inputs(made: Plan, attentions: Sequence[str]) -> set[str]:
    """The tensors that enter an attention and belong to no head yet: what its first layer receives."""
    found = set()
    for path in attentions:
        first = next((s for s in made.ledger.synapses if s.name.startswith(f"{path}.")), None)
        if first is not None:
            found.add(first.input)
    return found


class TokenLayouts(Protocol):
    """What a `Watch` needs to know of the tensors of a plan."""

    plan: Plan
    n: int
    heads: int
    tokens: dict[str, tuple[int, ...]]
    heads_of: dict[str, int]

    def side(self, pairs: Pairs, left: Tensor, right: Tensor) -> str | None:
        """Which axis of a product has the tokens."""


class Watch:
    """Stands before a tally: hands on what the recorder sees, and keeps the tokens of it."""

    def __init__(self, tally: Tally, layouts: TokenLayouts) -> None:
        self.tally, self.layouts = tally, layouts
        self.T, self.batch = tally.plan.ledger.time_steps, tally.batch
        self.sums: dict[tuple[str, str], NDArray[np.int64]] = {}

    @property
    def logits(self) -> list[Tensor]:
        return self.tally.logits

    @property
    def late(self) -> list[Callable[[], None]]:
        return self.tally.late

    @property
    def graph(self) -> Any:
        return self.tally.graph

    def count_late(self) -> None:
        self.tally.count_late()

    def count_again(self, tap: Tap, x: Tensor, t: int | None, left: Any) -> bool:
        """Never in short: the tokens of every tensor are looked at."""
        return False

    def count(self, tap: Tap, x: Tensor, t: int | None, *left: Any) -> None:
        self.tally.count(tap, x, t, *left)
        tokens = self.layouts.tokens.get(tap.name)
        if tokens is None or not tap.tensor:
            return
        x = whole(tap.axes.split(x.detach(), self.batch), tap.unit)  # [T, B, *shape]
        x = x.reshape(*x.shape[:2], *self.tally.plan.ledger.tensor(tap.name).shape)
        nonzero = x if tap.binary else (x != 0).float()
        self._add("nnz", tap.name, t, per_token(nonzero, tokens))
        if not tap.binary and self.tally.plan.ledger.tensor(tap.name).kind != "real":
            self._add("abs", tap.name, t, per_token(x.double().abs(), tokens))
        axis = self.layouts.heads_of.get(tap.name)
        if axis is not None:
            heads = nonzero.movedim(2 + axis, 2).unflatten(2, (self.layouts.heads, -1))  # [T, B, heads, d, ...]
            shifted = tuple(a + 2 if a < axis else a + 1 for a in tokens)
            self._add("head", tap.name, t, per_token(heads, shifted, keep=1))

    def count_pairs(self, pairs: Pairs, a: Tensor, b: Tensor, t: int | None) -> None:
        self.tally.count_pairs(pairs, a, b, t)
        operands = zip((a, b), pairs.axes, pairs.units, strict=True)
        left, right = (
            whole(axes.split(x.detach(), self.batch), unit) for x, axes, unit in operands
        )  # [T, B, (heads), M, K], [T, B, (heads), K, N]
        side = self.layouts.side(pairs, left, right)
        if side is None:
            return
        for measure in ("pairs", "pairs_abs")[: 1 + pairs.by_value]:
            one, two = (x.double().abs() if measure == "pairs_abs" else (x != 0).double() for x in (left, right))
            met = one.sum(-2).unsqueeze(-1) * two  # [..., K, N]
            found = met.sum(-1) if side == "inner" else met.sum(-2)
            axes = pairs.axes[0] if pairs.axes[0].timed else pairs.axes[1]
            found = by_step(found.reshape(*found.shape[:2], -1, self.layouts.n), axes.steps)
            self._add(measure, pairs.name, t, found)

    def other_values(self, measure: str, counted: str, names: Sequence[str]) -> dict[str, Unsigned]:
        """Sums by value, of the names where they differ from the counts."""
        found = {name: self.sums[measure, name] for name in names if (measure, name) in self.sums}
        differing = [name for name, values in found.items() if (values != self.sums[counted, name]).any()]
        return {name: smallest(found[name]) for name in differing}

    def _add(self, measure: str, name: str, t: int | None, found: Tensor) -> None:
        """Add [T or 1, B, ...] at its time steps; what has no time counts at every one."""
        found = found.detach().to("cpu", torch.float64).round().transpose(0, 1)
        key, shape = (measure, name), (self.batch, self.T, *found.shape[2:])
        if key not in self.sums:
            self.sums[key] = np.zeros(shape, np.int64)
        self.sums[key][:, slice(None) if t is None else slice(t, t + 1)] += found.numpy().astype(np.int64)


def by_step(x: Tensor, steps: Sequence[int]) -> Tensor:
    """Positions [P, ...] of an axis with the time step of each, summed to [T, ...]; as it is without steps."""
    if len(x) != len(steps):
        return x
    summed = x.new_zeros(len(set(steps)), *x.shape[1:])
    return summed.index_add_(0, torch.tensor(steps, device=x.device), x)


def per_token(x: Tensor, tokens: tuple[int, ...], keep: int = 0) -> Tensor:
    """Sums [T, B, *kept, N] over all axes behind [T, B, *kept] but those of the tokens."""
    axes = tuple(2 + axis for axis in tokens)
    others = tuple(a for a in range(2 + keep, x.dim()) if a not in axes)
    precise = torch.float64 if x.dtype == torch.float64 else torch.float32  # whole numbers below 2**24
    return (x.sum(others, dtype=precise) if others else x).flatten(2 + keep)


def smallest(counts: NDArray[np.int64]) -> Unsigned:
    """The counts in the narrowest of uint16, uint32 and uint64 that holds them all."""
    largest = int(counts.max(initial=0))
    return counts.astype(next(t for t in (np.uint16, np.uint32, np.uint64) if largest <= np.iinfo(t).max))
