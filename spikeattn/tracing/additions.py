"""Which additions an operation makes: of two tensors that both depend on the input, or of the elements of one.

What folds into weights is none: a bias or a position embedding (a parameter that is added), a number, a tensor added to
itself. A sum of n numbers takes n - 1 additions, as the n - 1 operations would that add them one after another. Spikes
are added to an accumulator that begins at zero, one addition each, as at the weights of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from spikeattn.tracing.origins import Origin
from spikeattn.tracing.overloads import overload

# x + y, x - y; of lerp and addcmul x is added to a product, which is listed apart where it is one of data.
_OF_TWO = {"add", "sub", "rsub", "lerp", "addcmul", "addcdiv"}
_OF_ONE = {"sum": "sum", "nansum": "sum", "mean": "average", "nanmean": "average"}
_POOLS = ("avg_pool", "adaptive_avg_pool", "_adaptive_avg_pool", "mkldnn_adaptive_avg_pool")
_SCATTERED = {"index_add": 3, "scatter_add": 3}  # the position of the argument whose elements are added


@dataclass(frozen=True)
class Additions:
    """The additions of one call of an operation.

    Attributes:
        op: one of `ledger_rows.ADDITION_OPS`.
        operands: the tensors that are added, or the one whose elements are.
        number: of additions of numbers, all images together.
        uses: of an average, how many windows hold each element; None where that depends on the position.
    """

    op: str
    operands: tuple[Tensor, ...]
    number: int
    uses: int | None = None


def additions_of(
    func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], given: Sequence[Tensor],
    origins: Sequence[Origin], out: Tensor,
) -> Additions | None:  # fmt: skip
    """The additions of an operation; None where it makes none.

    Args:
        given, origins: its tensors, and where each of them comes from.
    """
    if not out.is_floating_point() and not any(origin.spiky for origin in origins):
        return None  # indices, counts and masks are no data of the network
    data = [t for t, o in zip(given, origins, strict=True) if (o.varies or o.unknown) and not o.blank]
    listed = [x for x in args if isinstance(x, Tensor)]
    if name in _OF_TWO:
        own = [x for x in listed if any(x is t for t in data)]
        others = [x for x in own if x is not listed[0]]
        if len(own) < 2 or own[0] is not listed[0] or not others:
            return None
        return Additions("add", (own[0], others[0]), out.numel())
    x = given[0] if given else None
    if x is None or not any(x is t for t in data):
        return None
    if name in _OF_ONE and x.numel() > out.numel():
        return Additions(_OF_ONE[name], (x,), x.numel() - out.numel(), 1)
    if name.startswith(_POOLS):
        return _pooled(overload(func).arguments(args, kwargs), name, x, out)
    if name == "cumsum":
        size = x.shape[args[1]] if x.dim() else 1
        return Additions("sum", (x,), x.numel() - x.numel() // max(size, 1)) if size > 1 else None
    if name in _SCATTERED and len(args) > _SCATTERED[name]:
        added = args[_SCATTERED[name]]
        return Additions("sum", (added,), added.numel()) if any(added is t for t in data) else None
    return None


def _pooled(arguments: Mapping[str, Any], name: str, x: Tensor, out: Tensor) -> Additions | None:
    """Every window of n elements, those of the padding left out, takes n - 1 additions."""
    spatial = int(name[name.index("pool") + 4])
    uses = []
    for axis in range(spatial):
        before, after = x.shape[x.dim() - spatial + axis], out.shape[out.dim() - spatial + axis]
        if "adaptive" in name:
            windows = [(i * before // after, -(-(i + 1) * before // after)) for i in range(after)]
        else:
            size, stride, padding = (_of_axis(arguments.get(key), axis) for key in ("kernel_size", "stride", "padding"))
            starts = [i * (stride or size) - padding for i in range(after)]
            windows = [(max(start, 0), min(start + size, before)) for start in starts]
        uses.append([sum(low <= place < high for low, high in windows) for place in range(before)])
    maps = x.numel() // max(prod(x.shape[x.dim() - spatial :]), 1)
    number = maps * prod(sum(axis) for axis in uses) - out.numel()
    even = all(len(set(axis)) == 1 for axis in uses)
    return Additions("average", (x,), number, prod(axis[0] for axis in uses) if even else None) if number > 0 else None


def _of_axis(value: Any, axis: int) -> int:
    """The entry of an argument of a pool for one axis; 0 where it is left out."""
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return 0
    return int(value[axis % len(value)]) if isinstance(value, (list, tuple)) else int(value)
