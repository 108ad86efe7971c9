"""From a tensor of any form to one score per image, time step, head and token: where these lie in it, and their means.

Where the images and tokens lie is read off the places that a survey gave the tensor's elements; heads are read off the
channels as the structure follows them; time steps off the taps of a plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeattn.attention.fields import compact
from spikeattn.attention.placement import Tokens, tokens_of
from spikeattn.attention.role_target import Target
from spikeattn.attention.survey_record import Seen
from spikeattn.errors import SpikeattnError
from spikeattn.structure import axes as ax
from spikeattn.structure.axes import CHANNEL
from spikeattn.tracing.layout import Axes
from spikeattn.tracing.taps import Tap


@dataclass(frozen=True, eq=False)
class TensorLayout:
    """Where everything lies in the calls of one tensor.

    Attributes:
        shape: of the tensor with `batch` images.
        tokens: with cells in the form of the tensor.
        axes: of the images, and of the time steps where a plan knows them.
        steps: the time step of every call; None where a call holds several, or nobody knows.
        heads: number of the head of every element; None where the tensor does not go by heads.
        kept: elements that count, such as the q of a stacked qkv; None for all.
        unit: value of one spike; None where they are numbers of another kind.
        n_heads: heads.
    """

    name: str
    shape: tuple[int, ...]
    batch: int
    tokens: Tokens
    axes: Axes
    steps: tuple[int, ...] | None
    heads: Tensor | None
    kept: Tensor | None
    unit: float | None
    n_heads: int
    timed: bool

    def scores(
        self, calls: Sequence[Tensor], each_head: bool, each_step: bool, T: int | None
    ) -> tuple[Tensor, float | None]:
        """Means [image, (step), (head), h, w], and the value of one spike in them.

        Raises:
            SpikeattnError: another form than in the survey; heads or steps that the tensor does not have.
        """
        if each_head and self.heads is None:
            raise SpikeattnError(f'heads="each": {self.name} does not go by heads; leave it at "mean"')
        if each_step and (T is None or not self.timed):
            raise SpikeattnError(
                f'steps="each": nobody knows which time step an element of {self.name} belongs to; leave it at "mean"'
            )
        h, w = self.tokens.grid
        heads = self.n_heads if each_head else 1
        size = (T if each_step and T else 1) * heads * h * w
        total, count, elements = None, torch.zeros(size), 1
        for step, x, index in self._pieces(calls, each_head):
            alike = [axis for axis, n in enumerate(index.shape) if n == 1]
            elements = torch.Size([x.shape[1 + axis] for axis in alike]).numel()
            means = x.float().mean([1 + axis for axis in alike]) if alike else x.float()
            here = (index >= 0).flatten()
            where = index.flatten()[here] + ((step or 0) * heads * h * w if each_step else 0)
            flat = means.flatten(1)[:, here.to(x.device)]
            total = flat.new_zeros(len(flat), size) if total is None else total
            total.index_add_(1, where.to(x.device), flat)
            count.index_add_(0, where, torch.ones(len(where)))
        if total is None or bool((count == 0).any()):
            raise SpikeattnError(f"{self.name} holds no element of some tokens, heads or steps of the map")
        sizes = [*([T] if each_step and T else []), *([heads] if each_head else []), h, w]
        values = (total / count.to(total.device)).reshape(len(total), *sizes)
        known = self.unit is not None and bool((count == count[0]).all())
        return values, self.unit / (float(count[0]) * elements) if known and self.unit else None

    # ---------------------------------------------------------------- inside
    def _pieces(self, calls: Sequence[Tensor], each_head: bool) -> Iterator[tuple[int | None, Tensor, Tensor]]:
        """Step, tensor [image, ...] and compact index [...] into (head, cell), call by call and step by step."""
        indices = self._indices(each_head)
        for number, call in enumerate(calls):
            images = self.axes.images_in(call.shape)
            if self.axes.of_image(call.shape, images) != self.axes.of_image(self.shape, self.batch):
                raise SpikeattnError(
                    f"{self.name} is {list(call.shape)} and was {list(self.shape)} for {self.batch} images: its form "
                    "depends on more than the number of images"
                )
            for place, (part, index) in enumerate(zip(self.axes.split(call, images), indices, strict=True)):
                step = self.axes.steps[place] if self.axes.timed else self.axes.step
                yield (step if self.steps is None else self.steps[number]), part, index

    def _indices(self, each_head: bool) -> list[Tensor]:
        """Of every position that `axes` tells apart, the index of one image; -1 for what does not count."""
        index = torch.from_numpy(self.tokens.cells)
        if each_head and self.heads is not None:
            h, w = self.tokens.grid
            index = torch.where(index >= 0, self.heads * h * w + index, -1)
        if self.kept is not None:
            index = torch.where(self.kept, index, -1)
        return [compact(own) for own in self.axes.split(index.expand(self.shape), self.batch)[:, 0]]


def layout_of(
    target: Target, calls: Sequence[Seen], image_size: tuple[int, int], batch: int, tap: Tap | None
) -> TensorLayout:
    """The layout of a tensor.

    Raises:
        SpikeattnError: it has no tokens on a grid, or its images cannot be told apart.
    """
    seen, name = calls[0], target.path
    if any(other.shape != seen.shape for other in calls):
        raise SpikeattnError(f"{name} takes several forms in one pass: {list(seen.shape)}, {list(calls[-1].shape)}")
    tokens = tokens_of(seen.place.row, seen.place.column, image_size)
    shape = "x".join(map(str, seen.shape))
    if tokens is None or tokens.grid == (1, 1):
        raise SpikeattnError(
            f"{name} is a tensor of {shape} for {batch} images, in which no tokens lie on a grid of the image; name "
            "one with a place per token"
        )
    axes = tap.axes if tap is not None else image_axes(seen, batch)
    if axes is None:
        raise SpikeattnError(f"which image the rows of {name} ({shape}) belong to cannot be told; do images mix in it?")
    heads, n_heads = _heads(target, seen)
    steps = None
    if tap is not None and tap.by_call:
        steps = tuple(s for number in range(len(tap.at)) if (s := tap.step(number)) is not None)
        steps = steps if len(steps) == len(calls) else None
    timed = axes.timed or axes.step is not None or steps is not None
    unit = None if tap is None else tap.unit
    return TensorLayout(
        name, seen.shape, batch, tokens, axes, steps, heads, _kept(target, seen), unit, n_heads, timed
    )  # fmt: skip


def image_axes(seen: Seen, batch: int) -> Axes | None:
    """The axis of the images, and what shares it."""
    field = seen.place.image
    if field is None or bool((field.low[~field.low.isinf()] != field.high[~field.high.isinf()]).any()):
        return None
    for axis, size in enumerate(field.low.shape):
        if size == 1:
            continue
        others = [a for a in range(field.low.dim()) if a != axis]
        low = field.low.amin(others) if others else field.low
        high = field.high.amax(others) if others else field.high
        if size % batch or bool((low != high).any()):
            continue
        for inner in (n for n in range(1, size // batch + 1) if (size // batch) % n == 0):
            if torch.equal(low, ((torch.arange(size) // inner) % batch).float()):
                return Axes(axis, size // batch // inner, inner)
    return None


def channel_index(axes: ax.Axes, birth: int) -> Tensor | None:
    """The channel of a layer that every element holds, compact; None where the tensor does not tell."""
    rank, total = len(axes), None
    for place, factors in enumerate(axes):
        line = torch.zeros(1, dtype=torch.long)
        found = False
        for factor in factors:
            own = torch.zeros(factor.size, dtype=torch.long)
            if factor.kind == CHANNEL and factor.birth == birth:
                own, found = factor.start + factor.stride * torch.arange(factor.size), True
            line = (line[:, None] + own).flatten()
        if found:
            shaped = line.view([-1 if a == place else 1 for a in range(rank)])
            total = shaped if total is None else total + shaped
    return total


def _fits(axes: Any, seen: Seen) -> bool:
    if axes is None or len(axes) != len(seen.shape):
        return False
    sizes = [torch.Size([f.size for f in factors]).numel() for factors in axes]
    return sizes == list(seen.shape)


def _heads(target: Target, seen: Seen) -> tuple[Tensor | None, int]:
    return head_index(target, target.axes) if _fits(target.axes, seen) and target.axes is not None else (None, 1)


def head_index(target: Target, axes: ax.Axes) -> tuple[Tensor | None, int]:
    """The head of every element, compact, and how many there are; None and 1 where nothing goes by heads."""
    for factor in target.heads:
        index = channel_index(axes, factor.birth)
        if index is None:
            continue
        first = min((a for a, _ in target.channels), default=0) if factor.birth == target.birth else 0
        heads = (index - first) // factor.stride % factor.size
        if len(heads.unique()) == factor.size:
            return heads, factor.size
    return None, 1


def _kept(target: Target, seen: Seen) -> Tensor | None:
    if not target.channels or target.birth is None:
        return None
    axes = target.axes
    index = None if axes is None or not _fits(axes, seen) else channel_index(axes, target.birth)
    if index is None:
        raise SpikeattnError(f"which channels of {target.path} are the {target.role} cannot be told; name another one")
    kept = torch.zeros_like(index, dtype=torch.bool)
    for first, last in target.channels:
        kept |= (index >= first) & (index < last)
    return kept
