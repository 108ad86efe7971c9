"""What views, indices and broadcast products make of the axes of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from spikeattn.structure import axes as ax
from spikeattn.structure.axes import TOKEN, Axes
from spikeattn.structure.graph_nodes import Node


def grid_of(axes: Axes) -> tuple[int, int] | None:
    """Height and width, where the last two axes hold tokens."""
    if len(axes) < 3:
        return None
    sizes = [prod(f.size for f in a) for a in axes[-2:]]
    if len({f.side for a in axes[-2:] for f in a}) > 1:
        return None  # the two sides of a product, such as queries and keys
    kinds = [ax.kind_of(a) for a in axes[-2:]]
    if min(sizes) >= 1 and max(sizes) > 1 and all(k == TOKEN or n == 1 for k, n in zip(kinds, sizes, strict=True)):
        return sizes[0], sizes[1]
    return None


def sided(axes: Axes, side: tuple[int, int]) -> Axes:
    return tuple(tuple(f._replace(side=side) for f in factors) for factors in axes)


def crossed(node: Node) -> Axes:
    """Axes of a product of every token of one operand with every one of the other, by broadcasting: which is whose."""
    padded = [(*((),) * (len(node.axes) - len(axes)), *axes) for axes in node.operands]
    alone = [
        [at for at, (mine, theirs) in enumerate(zip(own, other, strict=True)) if mine and not theirs]
        for own, other in (padded, padded[::-1])
    ]
    if not all(any(ax.kind_of(node.axes[at]) == TOKEN for at in own) for own in alone):
        return node.axes
    whose = {at: (node.number, side) for side, own in enumerate(alone) for at in own}
    return tuple(
        tuple(f._replace(side=whose[at]) for f in factors) if at in whose else factors
        for at, factors in enumerate(node.axes)
    )


def rows_of(axes: Axes, x: Tensor) -> ax.Axis:
    return axes[-2] if x.dim() > 1 else ()


def columns_of(axes: Axes, x: Tensor) -> ax.Axis:
    return axes[-1] if x.dim() > 1 else ()


def viewed(name: str, axes: Axes, x: Tensor, arguments: Any, shape: tuple[int, ...]) -> Axes:
    rank = x.dim() if x.dim() == len(axes) else len(axes)
    if name == "permute":
        return tuple(axes[d % rank] for d in arguments["dims"])
    if name == "t":
        return axes[::-1]
    if name in ("transpose", "swapaxes"):
        order = list(range(rank))
        i, j = (arguments[k] % rank for k in (("dim0", "dim1") if name == "transpose" else ("axis0", "axis1")))
        order[i], order[j] = order[j], order[i]
        return tuple(axes[i] for i in order)
    if name == "unsqueeze":
        at = arguments["dim"] % (len(axes) + 1)
        return (*axes[:at], (), *axes[at:])
    if name == "squeeze":
        dims = arguments.get("dim")
        if dims is None:
            return tuple(a for a in axes if a)
        gone = {d % rank for d in (dims if isinstance(dims, (list, tuple)) else [dims])}
        return tuple(a for i, a in enumerate(axes) if i not in gone or a)
    if name == "expand":
        return ax.joined([axes], shape)
    if name == "select":
        at = arguments["dim"] % rank
        return ax.selected(axes, at, arguments["index"] % max(prod(f.size for f in axes[at]), 1))
    if name == "slice":
        at = (arguments.get("dim") or 0) % rank
        whole = prod(f.size for f in axes[at])
        start = arguments.get("start") or 0
        start = min(start + whole if start < 0 else start, whole)
        step = arguments.get("step") or 1
        return ax.narrowed(axes, at, start, shape[at], step)
    return ax.alike(axes, shape)


def unfolded(name: str, axes: Axes, arguments: Any, shape: tuple[int, ...]) -> Axes:
    """Patches as columns, windows as an axis of their own, complex numbers as pairs and back."""
    if name == "im2col":  # [B, C, H, W] -> [B, C * kernel, patches]
        return (*axes[:-3], ax.axis(shape[-2], ax.kind_of(axes[-3])), ax.axis(shape[-1], ax.kind_of(axes[-1])))
    if name == "unfold":  # [..., n, ...] -> [..., windows, ..., size]
        kind = ax.kind_of(axes[arguments["dimension"] % max(len(axes), 1)])
        return (*ax.alike(axes, shape[:-1]), ax.axis(shape[-1], kind))
    return (*axes, ax.axis(2)) if name == "view_as_real" else axes[:-1]


def repeated(axes: Axes, times: Sequence[int], shape: tuple[int, ...]) -> Axes:
    padded = (*((),) * (len(shape) - len(axes)), *axes)
    return tuple((*ax.axis(n), *factors) for n, factors in zip(times, padded, strict=True))


def indexed(axes: Axes, x: Tensor, shape: tuple[int, ...]) -> Axes:
    """What an index picks: axes of unchanged size are what they were."""
    if len(shape) == len(axes):
        return ax.alike(axes, shape)
    if len(shape) == len(axes) - 1:  # a single place of one axis
        for at, factors in enumerate(axes):
            rest = (*axes[:at], *axes[at + 1 :])
            if [prod(f.size for f in a) for a in rest] == list(shape) and prod(f.size for f in factors) > 1:
                return rest
    extra = len(shape) - len(axes)
    if extra > 0 and axes:  # relative positions, windows: one axis has become several
        for at, factors in enumerate(axes):
            tail = tuple(prod(f.size for f in a) for a in axes[at + 1 :])
            head = tuple(prod(f.size for f in a) for a in axes[:at])
            if shape[:at] == head and (not tail or shape[-len(tail) :] == tail):
                kind = ax.kind_of(factors)
                middle = shape[at : len(shape) - len(tail)]
                return (*axes[:at], *(ax.axis(n, kind) for n in middle), *axes[at + 1 :])
    return tuple(ax.axis(n) for n in shape)
