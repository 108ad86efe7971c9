"""What the axes of a tensor hold: channels, tokens, or something else (images, time steps, heads' copies).

Every axis is a product of factors, outermost first, and every factor knows where it was born, so that a slice of a
fused layer still says which of its channels it holds, and a matrix product which side an axis came from. Views split,
merge and permute factors; nothing is computed on data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

CHANNEL, TOKEN, OTHER = "channel", "token", "other"


class Factor(NamedTuple):
    """A part of an axis: positions start, start + stride, ... of what `birth` has made.

    Attributes:
        birth: number of the node that made it, -1 where nobody did.
        side: (number of a product, which operand) of the last product that it came through.
    """

    size: int
    kind: str = OTHER
    birth: int = -1
    stride: int = 1
    start: int = 0
    side: tuple[int, int] | None = None


Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]


def axis(size: int, kind: str = OTHER, birth: int = -1) -> Axis:
    """An axis of one factor; none where there is a single position."""
    return (Factor(size, kind, birth),) if size != 1 else ()


def of_image(shape: Sequence[int], integers: bool) -> Axes:
    """The axes of a network's input: [B, C, H, W], [B, T, C, H, W], [B, N, C], [B, C], or token ids [B, N]."""
    rank = len(shape)
    if integers and rank <= 3:
        kinds = [OTHER] * (rank - 1) + [TOKEN]
    elif rank >= 4:
        kinds = [OTHER] * (rank - 3) + [CHANNEL, TOKEN, TOKEN]
    else:
        kinds = {3: [OTHER, TOKEN, CHANNEL], 2: [OTHER, CHANNEL]}.get(rank, [OTHER] * rank)
    return tuple(axis(n, kind, 0) for n, kind in zip(shape, kinds, strict=True))


def kind_of(factors: Iterable[Factor]) -> str:
    """What an axis holds in the main: the kind with the most positions, channels and tokens before all else."""
    sizes = {CHANNEL: 1, TOKEN: 1}
    for factor in factors:
        if factor.kind in sizes:
            sizes[factor.kind] *= factor.size
    if sizes[CHANNEL] == sizes[TOKEN] == 1:
        return OTHER
    return CHANNEL if sizes[CHANNEL] >= sizes[TOKEN] else TOKEN


def count(axes: Iterable[Axis], kind: str) -> int:
    """Positions of a kind in a tensor."""
    return prod(factor.size for factors in axes for factor in factors if factor.kind == kind)


def reshape(axes: Axes, shape: Sequence[int]) -> Axes:
    """The axes behind a view of another shape; factors are split where a new axis begins inside them."""
    rest = [factor for factors in axes for factor in factors][::-1]
    made: list[Axis] = []
    for size in shape:
        taken: list[Factor] = []
        while size > 1 and rest:
            factor = rest.pop()
            if size % factor.size == 0:
                taken.append(factor)
                size //= factor.size
            elif factor.size % size == 0:
                inner = factor.size // size
                taken.append(factor._replace(size=size, stride=factor.stride * inner))
                rest.append(factor._replace(size=inner, start=0))
                size = 1
            else:  # neither fits the other: what the axis holds is known, the positions are not
                whole = tuple(kind_of([f for f in [factor, *rest]]) for _ in shape)
                return tuple(axis(n, kind) for n, kind in zip(shape, whole, strict=True))
        made.append(tuple(taken))
    return tuple(made)


def narrowed(axes: Axes, at: int, start: int, size: int, step: int = 1) -> Axes:
    """A range of one axis."""
    factors = axes[at]
    if not factors or size == prod(f.size for f in factors):
        return axes
    inner = prod(f.size for f in factors[1:])
    first, own = factors[0], axis(size, kind_of(factors))
    if step == 1 and start % inner == 0 and size == inner:  # one position of the outer factor
        made = [*axes[:at], factors[1:], *axes[at + 1 :]]
        _shift_first(made, first, first.start + first.stride * (start // inner))
        return tuple(made)
    if step == 1 and start % inner == 0 and size % inner == 0:
        first = first._replace(size=size // inner, start=first.start + first.stride * (start // inner))
        own = (first, *factors[1:])
    elif len(factors) == 1:
        own = (first._replace(size=size, start=first.start + first.stride * start, stride=first.stride * step),)
    return (*axes[:at], own, *axes[at + 1 :])


def selected(axes: Axes, at: int, index: int) -> Axes:
    """One position of an axis; where its factor began goes on with the others of its birth."""
    gone = axes[at]
    rest = [*axes[:at], *axes[at + 1 :]]
    for place, factor in enumerate(gone):
        inner = prod(f.size for f in gone[place + 1 :])
        offset = factor.start + factor.stride * (index // inner % factor.size)
        if offset and factor.birth >= 0:
            _shift_first(rest, factor, offset)
    return tuple(rest)


def _shift_first(axes: list[Axis], like: Factor, offset: int) -> None:
    for number, factors in enumerate(axes):
        for place, factor in enumerate(factors):
            if factor.birth == like.birth and factor.kind == like.kind:
                moved = factor._replace(start=factor.start + offset)
                axes[number] = (*factors[:place], moved, *factors[place + 1 :])
                return


def joined(operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """The axes behind an elementwise operation with broadcasting; known ones before unknown ones."""
    made: list[Axis] = []
    for place in range(-len(shape), 0):
        size = shape[place]
        own = [axes[place] for axes in operands if len(axes) >= -place]
        fitting = [factors for factors in own if prod(f.size for f in factors) == size]
        known = [factors for factors in fitting if any(f.kind != OTHER for f in factors)]
        made.append((known or fitting or [axis(size)])[0])
    return tuple(made)


def alike(axes: Axes, shape: Sequence[int]) -> Axes:
    """The axes behind an operation that keeps their order and may change their sizes, such as a pool or a pad."""
    if len(axes) != len(shape):
        return tuple(axis(n) for n in shape)
    return tuple(
        old if prod(f.size for f in old) == n else axis(n, kind_of(old)) for old, n in zip(axes, shape, strict=True)
    )


def channels(axes: Axes, birth: int) -> tuple[tuple[int, int], ...]:
    """Ranges of the channels of a layer that a tensor holds, each as first and last + 1; empty where it holds none."""
    own = sorted((f for factors in axes for f in factors if f.birth == birth and f.kind == CHANNEL),
                 key=lambda f: -f.stride)  # fmt: skip
    if not own:
        return ()
    starts, size = [sum(f.start for f in own)], 1
    while own and own[-1].stride == size:  # the innermost factors are whole ranges
        size *= own.pop().size
    for factor in own:
        starts = [s + factor.stride * i for s in starts for i in range(factor.size)]
    ranges: list[tuple[int, int]] = []
    for start in sorted(starts):
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], start + size)
        else:
            ranges.append((start, start + size))
    return tuple(ranges)
