"""Spikes per token: what every token of an image costs, counted in one pass and joined later with its significance.

A run's count table has one number per image, tensor and time step; which token a spike belonged to is not in it. It is
counted here for the images of one `attend` call, at the taps of the recorder, and adds up to the rows of that table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeattn.attention.families import SPIKFORMER, Family, capture, check_images, family_of
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.recording import counting
from spikeattn.recording import neurons as nodes
from spikeattn.recording.recorder import Recorder
from spikeattn.recording.tally import Tally
from spikeattn.recording.taps import Pairs, Plan, plan
from spikeattn.recording.taps import Tap as Place

Unsigned = NDArray[Any]  # uint16; uint32 or uint64 where a count does not fit


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """Spikes of every token of some images.

    Attributes:
        counts: non-zero elements [image, tensor, t, token], tokens in raster order; uint16, or the smallest wider type
            that holds the largest count.
        tensors: names of the tensors, those of the ledger: with one place per token, inside the blocks or read there.
        grid: rows and columns of tokens.
        images: number of each image, as the profile numbers it.
        layers: path of every block.
        heads: of the attention.
        values: sums of |value| [image, t, token] of the tensors where these are other numbers (integer spikes).
        by_head: non-zero elements [image, t, head, token] of the tensors whose channels are split into heads, with
            heads="each"; else empty.
        pairs: spike pairs [image, t, head, token] of the matrix products, at the token over which the product sums, or
            else at the token of the right operand.
        pair_values: the same with every spike taken by its value, where these are other numbers.
        off_grid: tensors like `tensors` that have no place per token, and why they are not counted here.
        time_steps: T.
        ledger: hash of the ledger of the model at this input size.
    """

    counts: Unsigned
    tensors: tuple[str, ...]
    grid: tuple[int, int]
    images: tuple[int, ...]
    layers: tuple[str, ...]
    heads: int
    values: Mapping[str, Unsigned]
    by_head: Mapping[str, Unsigned]
    pairs: Mapping[str, Unsigned]
    pair_values: Mapping[str, Unsigned]
    off_grid: Mapping[str, str]
    time_steps: int
    ledger: str

    def of(self, tensor: str, by: str = "nnz") -> Unsigned:
        """Counts [image, t, token] of a tensor: "nnz" non-zero elements, "abs" sums of |value|."""
        if tensor not in self.tensors:
            raise unknown("tensor with tokens", tensor, self.tensors)
        if by == "abs" and tensor in self.values:
            return self.values[tensor]
        return self.counts[:, self.tensors.index(tensor)]

    def layer_of(self, name: str) -> int | None:
        """The number of the block that a tensor, synapse or product lies in; None outside the blocks."""
        return next((i for i, path in enumerate(self.layers) if name.startswith(f"{path}.")), None)


def token_counts(
    model: nn.Module, images: Tensor, indices: Sequence[int] | None = None, *, heads: str = "mean"
) -> TokenCounts:
    """Count the spikes of every token of `images` in one forward pass, at the taps of the recorder.

    One flipped rounding flips spikes, and another batch sums in another order: give the batches that the profile ran,
    whole, or the counts may differ from its rows by a few.

    Args:
        model: a Spike-driven Transformer or SpikingJelly's Spikformer.
        images: [B, C, H, W], or frames [B, T, C, H, W].
        indices: number of each image in the profile, [B]; by default 0, 1, ...
        heads: "each" also counts the attention's tensors head by head.

    Raises:
        SpikeattnError: a model without spikes or without a known attention, images that do not fit, NaN.
    """
    images = check_images(model, images)
    family = family_of(model)
    if not family.time:
        raise SpikeattnError(
            f"{type(model).__name__} has no spiking neurons, so there are no spikes to count per token; take a "
            "Spike-driven Transformer or a Spikformer"
        )
    if heads not in ("mean", "each"):
        raise unknown("treatment of heads", heads, ("mean", "each"))
    numbers = list(range(len(images)) if indices is None else indices)
    if len(numbers) != len(images) or len(set(numbers)) != len(numbers):
        raise SpikeattnError(
            f"indices are {len(set(numbers))} different numbers for {len(images)} images; one for each is needed"
        )
    grids: list[tuple[int, int]] = []

    def forward(model: nn.Module, images: Tensor) -> Any:
        _, grid, output = capture(model, images, (), whole=True)
        grids.append(grid)
        return output

    paths = {module: path for path, module in model.named_modules()}
    attentions = tuple(paths[module] for module in family.attentions)
    layers = tuple(path.rpartition(".")[0] for path in attentions)
    with nodes.uncompiled(), nodes.evaluating(model):
        made = plan(model, images, forward=forward)
        watched = _Layouts(made, grids[-1], layers, attentions, family, heads == "each")
        nodes.reset(model)
        with torch.no_grad(), Recorder(model, made) as recorder, recorder.watching(len(images)) as tally:
            recorder.tally = seen = _Watch(tally, watched)  # type: ignore[assignment]
            tally.collect(forward(model, images))
    tensors = tuple(t.name for t in made.ledger.tensors if t.name in watched.tokens)
    products = [pairs.name for pairs in made.pairs if ("pairs", pairs.name) in seen.sums]
    return TokenCounts(
        counts=_smallest(np.stack([seen.sums["nnz", name] for name in tensors], axis=1)),
        tensors=tensors,
        grid=grids[-1],
        images=tuple(int(number) for number in numbers),
        layers=layers,
        heads=family.heads,
        values=seen.other_values("abs", "nnz", tensors),
        by_head={name: _smallest(seen.sums["head", name]) for name in watched.heads_of},
        pairs={name: _smallest(seen.sums["pairs", name]) for name in products},
        pair_values=seen.other_values("pairs_abs", "pairs", products),
        off_grid=watched.off_grid,
        time_steps=made.ledger.time_steps,
        ledger=made.ledger.hash(),
    )


def merged(counted: Sequence[TokenCounts]) -> TokenCounts:
    """The token counts of all images in one; an image that stands twice is taken once.

    Raises:
        SpikeattnError: none, or counts of different networks, grids or treatments of heads.
    """
    if not counted:
        raise SpikeattnError("no token counts to merge; give at least one")
    first = counted[0]
    for other in counted[1:]:
        if (other.ledger, other.tensors, other.grid) != (first.ledger, first.tensors, first.grid):
            raise SpikeattnError(
                f"token counts of different networks or image sizes: {len(first.tensors)} tensors on "
                f"{first.grid[0]}x{first.grid[1]} tokens and {len(other.tensors)} on {other.grid[0]}x{other.grid[1]}"
            )
        if set(other.by_head) != set(first.by_head):
            raise SpikeattnError("some token counts are by head and some are not; give heads= alike in every call")
    seen: set[int] = set()
    picked = []
    for one in counted:
        fresh = [row for row, number in enumerate(one.images) if number not in seen]
        seen.update(one.images)
        picked.append((one, fresh))
    if len(picked) == 1:
        return first

    def joined(get: Callable[[TokenCounts], Unsigned]) -> Unsigned:
        return np.concatenate([get(one)[rows] for one, rows in picked])

    def mapping(field: str, otherwise: Callable[[TokenCounts, str], Unsigned]) -> dict[str, Unsigned]:
        names = dict.fromkeys(name for one in counted for name in getattr(one, field))
        return {
            name: joined(lambda one, name=name: getattr(one, field).get(name, otherwise(one, name))) for name in names
        }

    return replace(
        first,
        counts=joined(lambda one: one.counts),
        images=tuple(one.images[row] for one, rows in picked for row in rows),
        values=mapping("values", lambda one, name: one.of(name)),
        by_head=mapping("by_head", lambda one, name: one.by_head[name]),
        pairs=mapping("pairs", lambda one, name: one.pairs[name]),
        pair_values=mapping("pair_values", lambda one, name: one.pairs[name]),
    )


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


class _Layouts:
    """Which tensors of a plan have tokens, along which axes, and where their heads are.

    Attributes:
        tokens: axes of the tokens, by tensor.
        heads_of: the axis that the heads share with channels, by tensor; empty unless heads are asked for.
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


class _Watch:
    """Stands before a tally: hands on what the recorder sees, and keeps the tokens of it."""

    def __init__(self, tally: Tally, layouts: _Layouts) -> None:
        self.tally, self.layouts = tally, layouts
        self.T, self.batch = tally.plan.ledger.time_steps, tally.batch
        self.sums: dict[tuple[str, str], NDArray[np.int64]] = {}

    @property
    def logits(self) -> list[Tensor]:
        return self.tally.logits

    def count(self, tap: Place, x: Tensor, t: int | None, *left: Any) -> None:
        self.tally.count(tap, x, t, *left)
        tokens = self.layouts.tokens.get(tap.name)
        if tokens is None or not tap.tensor:
            return
        x = counting.whole(tap.axes.split(x.detach(), self.T, self.batch), tap.unit)  # [T, B, *shape]
        x = x.reshape(*x.shape[:2], *self.tally.plan.ledger.tensor(tap.name).shape)
        nonzero = x if tap.binary else (x != 0).float()
        self._add("nnz", tap.name, t, _per_token(nonzero, tokens))
        if not tap.binary and self.tally.plan.ledger.tensor(tap.name).kind != "real":
            self._add("abs", tap.name, t, _per_token(x.double().abs(), tokens))
        axis = self.layouts.heads_of.get(tap.name)
        if axis is not None:
            heads = nonzero.movedim(2 + axis, 2).unflatten(2, (self.layouts.heads, -1))  # [T, B, heads, d, ...]
            shifted = tuple(a + 2 if a < axis else a + 1 for a in tokens)
            self._add("head", tap.name, t, _per_token(heads, shifted, keep=1))

    def count_pairs(self, pairs: Pairs, a: Tensor, b: Tensor, t: int | None) -> None:
        self.tally.count_pairs(pairs, a, b, t)
        operands = zip((a, b), pairs.axes, pairs.units, strict=True)
        left, right = (
            counting.whole(axes.split(x.detach(), self.T, self.batch), unit) for x, axes, unit in operands
        )  # [T, B, (heads), M, K], [T, B, (heads), K, N]
        inner, outer = left.shape[-1] == self.layouts.n, right.shape[-1] == self.layouts.n
        if inner == outer:
            return  # the tokens cannot be told from channels, or there are none
        for measure in ("pairs", "pairs_abs")[: 1 + pairs.by_value]:
            one, two = (x.double().abs() if measure == "pairs_abs" else (x != 0).double() for x in (left, right))
            met = one.sum(-2).unsqueeze(-1) * two  # [..., K, N]
            found = met.sum(-1) if inner else met.sum(-2)
            self._add(measure, pairs.name, t, found.reshape(*found.shape[:2], -1, self.layouts.n))

    def other_values(self, measure: str, counted: str, names: Sequence[str]) -> dict[str, Unsigned]:
        """Sums by value, of the names where they differ from the counts."""
        found = {name: self.sums[measure, name] for name in names if (measure, name) in self.sums}
        differing = [name for name, values in found.items() if (values != self.sums[counted, name]).any()]
        return {name: _smallest(found[name]) for name in differing}

    def _add(self, measure: str, name: str, t: int | None, found: Tensor) -> None:
        """Add [T or 1, B, ...] at its time steps; what has no time counts at every one."""
        found = found.detach().to("cpu", torch.float64).round().transpose(0, 1)
        key, shape = (measure, name), (self.batch, self.T, *found.shape[2:])
        if key not in self.sums:
            self.sums[key] = np.zeros(shape, np.int64)
        self.sums[key][:, slice(None) if t is None else slice(t, t + 1)] += found.numpy().astype(np.int64)


def _per_token(x: Tensor, tokens: tuple[int, ...], keep: int = 0) -> Tensor:
    """Sums [T, B, *kept, N] over all axes behind [T, B, *kept] but those of the tokens."""
    axes = tuple(2 + axis for axis in tokens)
    others = tuple(a for a in range(2 + keep, x.dim()) if a not in axes)
    precise = torch.float64 if x.dtype == torch.float64 else torch.float32  # whole numbers below 2**24
    return (x.sum(others, dtype=precise) if others else x).flatten(2 + keep)


def _smallest(counts: NDArray[np.int64]) -> Unsigned:
    """The counts in the narrowest of uint16, uint32 and uint64 that holds them all."""
    largest = int(counts.max(initial=0))
    return counts.astype(next(t for t in (np.uint16, np.uint32, np.uint64) if largest <= np.iinfo(t).max))
