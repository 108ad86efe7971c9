"""What becomes of places (see `fields`) in every operation that a forward pass is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spikeattn.attention import fields, window_rules
from spikeattn.attention.fields import INF, Field, Maybe
from spikeattn.attention.place import COLUMN, IMAGE, OTHER, ROW, Operation, Place, Unplaced

Rule = Callable[[Operation, str], Maybe]

_VIEWS = ("view", "reshape", "_unsafe_view", "_reshape_alias", "flatten", "unflatten", "view_copy", "ravel")
_STRUCTURAL = ("permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "select", "slice", "movedim", "swapaxes",
               "numpy_T", "mT", "index_select", "index", "gather", "repeat", "narrow", "tile", "unfold",
               "im2col", "pixel_shuffle", "pixel_unshuffle", "diagonal", "take_along_dim", "repeat_interleave",
               "masked_select", "roll", "flip", "rot90", "channel_shuffle", "native_channel_shuffle")  # fmt: skip
PARTS = ("split", "split_with_sizes", "unbind", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
_JOINS = ("cat", "stack", "concat", "hstack", "vstack")
_REDUCTIONS = ("sum", "mean", "amax", "amin", "prod", "norm", "linalg_vector_norm", "max", "min", "any", "all",
               "logsumexp", "var", "std", "var_mean", "argmax", "argmin")  # fmt: skip
MATRIX = {"mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2),
          "addmv": (1, 2), "addbmm": (1, 2)}  # fmt: skip
_CONVOLUTIONS = ("convolution", "_convolution", "mkldnn_convolution", "convolution_overrideable")
_ORDERED = ("sort", "topk", "argsort", "scatter", "index_put", "masked_scatter", "nonzero", "unique")


def rule_of(name: str) -> Rule:
    """The rule of an operation; elementwise with broadcasting where it has none of its own."""
    if name in _VIEWS:
        return _view
    if name in _STRUCTURAL:
        return _structural
    if name in _JOINS:
        return _side_by_side
    if name in _REDUCTIONS:
        return _reduction
    if name in MATRIX:
        return _matrix
    if name in _CONVOLUTIONS:
        return window_rules.convolution
    if name == "constant_pad_nd" or name.startswith(("reflection_pad", "replication_pad")):
        return window_rules.pad
    if name.startswith(("_adaptive_", "adaptive_")):
        return window_rules.adaptive_pool
    if name.startswith(("max_pool", "avg_pool")):
        return window_rules.pool
    if name.startswith(("upsample", "_upsample")):
        return window_rules.resized
    return _elementwise


def _elementwise(op: Operation, name: str) -> Maybe:
    if name in (ROW, COLUMN) and op.name in _ORDERED:
        raise Unplaced(f"{op.name} puts tokens in an order that depends on their values")
    if any(x.dim() > op.out.dim() for x, place in op.data if place.get(name) is not None):
        raise Unplaced(f"{op.name} gives a tensor of another form")
    places = [place for _, place in op.data]
    if name != IMAGE:  # a sum of a tensor and what is made from it stands where the tensor stands
        places = [place for place in places if not any(_leads(other, place) for other in places)]
    found = fields.hull([place.get(name) for place in places], op.out.dim())
    if found is None:
        return None
    if any(s not in (1, n) for s, n in zip(found.low.shape, op.out.shape, strict=True)):
        raise Unplaced(f"{op.name} gives a tensor of another form")
    return found


def _leads(first: Place, second: Place) -> bool:
    """Whether a tensor with a place is one that another was made from."""
    placed = first.row is not None or first.column is not None
    return placed and first.stream != second.stream and bool(second.behind >> first.stream & 1)


def is_elementwise(name: str) -> bool:
    """Whether an operation has the rule of those that act element by element."""
    return rule_of(name) is _elementwise and name not in _ORDERED


def keeps_places(op: Operation) -> bool:
    """Whether an operation acts on one tensor of data, element by element or as a view."""
    rule = rule_of(op.name)
    return len({id(x) for x, _ in op.data}) == 1 and rule in (_elementwise, _view, _structural)


def _view(op: Operation, name: str) -> Maybe:
    x, place = op.data[0]
    field = place.get(name)
    return None if field is None else fields.tidy(fields.reshape(field, x.shape, op.out.shape))


def _structural(op: Operation, name: str) -> Maybe:
    x, place = op.data[0]
    field = place.get(name)
    if field is None:
        return None
    if len(op.data) > 1 or any(y is not x and isinstance(y, Tensor) and y.is_meta for y in _tensors(op.args)):
        raise Unplaced(f"{op.name} picks by values")
    if op.name in ("roll", "flip"):
        wide = field
    else:
        wide = fields.expanded(field, x.shape)
    return fields.tidy(wide.map(lambda c: op.func(*_exchanged(op.args, x, c), **_exchanged(op.kwargs, x, c))))


def _exchanged(container: Any, x: Tensor, by: Tensor) -> Any:
    if isinstance(container, Mapping):
        return {key: _exchanged(value, x, by) for key, value in container.items()}
    if isinstance(container, (list, tuple)):
        return type(container)(_exchanged(value, x, by) for value in container)
    if isinstance(container, Tensor) and container is not x:
        return container.cpu()  # indices
    return by if container is x else container


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    flat = [y for x in args for y in (x if isinstance(x, (list, tuple)) else [x])]
    return [x for x in flat if isinstance(x, Tensor)]


def parts(op: Operation, name: str, made: Sequence[Tensor]) -> list[Maybe]:
    """The fields of the results of a split."""
    x, place = op.data[0]
    field = place.get(name)
    if field is None:
        return [None] * len(made)
    wide = fields.expanded(field, x.shape)
    low = op.func(*_exchanged(op.args, x, wide.low), **op.kwargs)
    high = op.func(*_exchanged(op.args, x, wide.high), **op.kwargs)
    return [fields.tidy(Field(a, b)) for a, b in zip(low, high, strict=True)]


def _side_by_side(op: Operation, name: str) -> Maybe:
    given = list(op.args[0])
    at = (op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)) % op.out.dim()
    known = [place.get(name) if (place := op.place_of(x)) is not None else None for x in given]
    if all(field is None for field in known):
        return None
    rank = given[0].dim()
    sizes = [max([f.low.shape[a] for f in known if f is not None]) for a in range(rank)]

    def ends(which: int, nowhere: float) -> Tensor:
        own = []
        for x, field in zip(given, known, strict=True):
            shape = [*sizes]
            if op.name != "stack":
                shape[at] = x.shape[at]
            one = field[which] if field is not None else torch.full([1] * rank, nowhere)
            own.append(one.expand(shape))
        return torch.stack(own, at) if op.name == "stack" else torch.cat(own, at)

    return fields.tidy(Field(ends(0, INF), ends(1, -INF)))


def _reduction(op: Operation, name: str) -> Maybe:
    x, place = op.data[0]
    if len(op.data) > 1:
        return _elementwise(op, name)
    dims = op.named.get("dim")
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        dims = list(range(x.dim()))
    axes = [d % max(x.dim(), 1) for d in (dims if isinstance(dims, (list, tuple)) else [dims])]
    found = fields.reduced(place.get(name), axes, place=name != IMAGE)
    if found is None or op.out.dim() == x.dim():
        return found
    gone = sorted(axes, reverse=True)

    def squeezed(c: Tensor) -> Tensor:
        for axis in gone:
            c = c.squeeze(axis)
        return c

    return found.map(squeezed)


def _matrix(op: Operation, name: str) -> Maybe:
    first, second = (op.args[i] for i in MATRIX[op.name])
    if op.name in ("mv", "addmv", "dot"):
        known = fields.hull([_contracted(op, first, name, -1), _contracted(op, second, name, -1)], first.dim())
        return None if known is None else known.map(lambda c: c.reshape(c.shape[: op.out.dim()]))
    found = _of_product(op, first, second, name)
    more = op.place_of(op.args[0]) if MATRIX[op.name][0] else None
    return fields.hull([found, None if more is None else more.get(name)], op.out.dim())


def _of_product(op: Operation, first: Tensor, second: Tensor, name: str) -> Maybe:
    left, right = _contracted(op, first, name, -1), _contracted(op, second, name, -2)
    if name == IMAGE:
        return fields.hull([left, right], op.out.dim())
    places = [op.place_of(first), op.place_of(second)]
    if None in places:
        return left if left is not None else right
    products = [place.product for place in places if place is not None]
    if name in OTHER.values():  # of q and k, where k looks
        of_left = next(key for key, value in OTHER.items() if value == name)
        return None if any(products) else _contracted(op, second, of_left, -2)
    if not any(products):
        return left
    # A matrix of attention times v stands where the matrix has its queries; one of channels where v stands.
    ways = [(first, -1), (second, -2)]
    if products[1] and not products[0]:
        ways.reverse()
    (matrix, axis), (value, other) = ways
    own = [_contracted(op, matrix, key, axis) for key in (name, OTHER[name])]
    return next((f for f in (*own, _contracted(op, value, name, other)) if f is not None), None)


def _contracted(op: Operation, x: Tensor, name: str, axis: int) -> Maybe:
    place = op.place_of(x)
    return None if place is None else fields.reduced(place.get(name), [axis % x.dim()], place=name != IMAGE)
