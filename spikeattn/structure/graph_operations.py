"""Which node an operation on data is, and the axes of what it gives."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor

from spikeattn.structure import axes as ax
from spikeattn.structure.axes import CHANNEL, OTHER, TOKEN, Axes
from spikeattn.structure.graph_book import NodeBook
from spikeattn.structure.graph_nodes import ADD, JOIN, MATRICES, OP, PRODUCT, REDUCE, SYNAPSE
from spikeattn.structure.view_axes import (
    columns_of,
    crossed,
    grid_of,
    indexed,
    repeated,
    rows_of,
    sided,
    unfolded,
    viewed,
)
from spikeattn.tracing.overloads import overload

_VIEWS = ("view", "reshape", "_unsafe_view", "_reshape_alias", "flatten", "unflatten", "view_copy", "ravel")
_COPIES = (
    "clone", "contiguous", "_to_copy", "to", "alias", "detach", "lift_fresh", "dropout", "native_dropout", "flip",
    "roll", "copy",
)  # fmt: skip
_ADDS = ("add", "sub", "rsub", "__or__", "logical_or", "bitwise_or", "maximum")
_MULTIPLIES = (
    "mul", "div", "logical_and", "bitwise_and", "__and__", "logical_xor", "bitwise_xor", "__xor__", "eq", "ne",
    "minimum", "true_divide",
)  # fmt: skip
# With one operand of data these act on every element alone, and linearly.
_LINEAR = ("add", "sub", "rsub", "mul", "div", "neg", "true_divide", "native_batch_norm",
           "_native_batch_norm_legit_no_training", "batch_norm", "positive")  # fmt: skip
_REDUCTIONS = ("sum", "mean", "amax", "amin", "prod", "norm", "linalg_vector_norm", "max", "min", "any", "all",
               "logsumexp", "var", "std", "var_mean")  # fmt: skip
_CONVOLUTIONS = ("convolution", "_convolution", "mkldnn_convolution", "convolution_overrideable")
_POOLS = ("avg_pool", "max_pool", "adaptive_", "_adaptive_", "fractional_max", "lp_pool")


def result(
    book: NodeBook, func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor], found: list[Any],
    data: list[Any], out: Tensor,
) -> tuple[int, Axes] | None:  # fmt: skip
    """Node and axes of the result of an operation, of whose operands `data` are those on the data's way.

    Args:
        found: node and axes of each of the tensors `given`; None for weights and constants.
        data: (tensor, node, axes) of the others.
    """
    x, node, axes = data[0]
    shape = tuple(out.shape)
    arguments = overload(func).arguments(args, kwargs)
    if name in MATRICES:
        first, second = MATRICES[name]
        return _matrix(book, name, args[first], args[second], args[0] if first else None, shape)
    if name in _CONVOLUTIONS:
        return _convolution(book, name, args, arguments, shape)
    if name.startswith("_scaled_dot_product") or name == "scaled_dot_product_attention":
        return _attention(book, name, args, shape)
    if name in ("embedding", "embedding_bag"):
        made = book.node(OP, name, [node], (), shape)
        made.axes = (*axes, ax.axis(shape[-1], CHANNEL, made.number))
        made.tokens = ax.count(made.axes, TOKEN)
        return made.number, made.axes
    if name in _VIEWS:
        return node, ax.reshape(axes, shape)
    if name in ("permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "select", "slice", "movedim",
                "swapaxes", "numpy_T", "mT"):  # fmt: skip
        return node, viewed(name, axes, x, arguments, shape)
    if name == "repeat":
        return node, repeated(axes, args[1], shape)
    if name in ("cat", "stack", "concat", "hstack", "vstack"):
        return _cat(book, name, args, arguments, data, shape)
    if name in ("im2col", "unfold", "view_as_real", "view_as_complex"):
        return node, unfolded(name, axes, arguments, shape)
    if name == "copy":
        if len(given) > 1 and found[1] is None:
            return node, axes  # constants written into data
        source = data[-1]
        same = tuple(source[2]) if source[0].dim() == out.dim() else ax.joined([source[2]], shape)
        return source[1], same
    if name in ("index", "gather", "index_select", "take_along_dim", "masked_select"):
        return (node, indexed(axes, x, shape)) if found[0] is not None else None
    distinct = tuple(dict.fromkeys(d[1] for d in data))
    if len(data) > 1 and (name in _MULTIPLIES or (name == "addcmul" and len(data) == 3)):
        if len(distinct) == 1 and name != "mul":
            return _op(book, name, data, shape)
        pair = data[-2:]
        made = book.node(PRODUCT, name, [d[1] for d in data], ax.joined([d[2] for d in data], shape), shape,
                          sources=tuple(d[1] for d in pair), operands=tuple(d[2] for d in pair))  # fmt: skip
        made.axes = crossed(made)
        return made.number, made.axes
    if len(data) > 1 and name in _ADDS:
        if len(distinct) == 1:
            return _op(book, name, data, shape)
        made = book.node(ADD, name, distinct, ax.joined([d[2] for d in data], shape), shape)
        return made.number, made.axes
    if len(data) == 1 and name in _COPIES:
        return node, axes
    if len(data) == 1 and name == "constant_pad_nd":
        return node, ax.alike(axes, shape)
    if len(data) == 1 and name in _LINEAR:
        return node, (ax.joined([axes], shape) if len(shape) >= len(axes) else ax.alike(axes, shape))
    if name in _REDUCTIONS and len(data) == 1:
        return _reduce(book, name, arguments, data[0], shape)
    return _op(book, name, data, shape)


def _op(book: NodeBook, name: str, data: list[Any], shape: tuple[int, ...]) -> tuple[int, Axes]:
    """Any other operation: what it gives depends on all its data."""
    axes = data[0][2]
    if all(len(d[2]) <= len(shape) for d in data) and len(shape) >= len(axes):
        same = ax.joined([d[2] for d in data], shape) if len(data) > 1 else ax.alike(axes, shape)
    else:
        same = ax.alike(axes, shape)
    if name.startswith(_POOLS) or name.startswith("upsample"):
        fixed = [axes[i] if i < len(axes) - 2 else () for i in range(len(shape))]
        same = tuple(
            fixed[i] if fixed[i] and prod(f.size for f in fixed[i]) == n else
            (same[i] if ax.kind_of(same[i]) != OTHER or n == 1 else ax.axis(n))
            for i, n in enumerate(shape)
        )  # fmt: skip
    made = book.node(OP, name, [d[1] for d in data], same, shape)
    if name.startswith(_POOLS):
        made.kind, made.contracts = REDUCE, TOKEN
        if len(shape) == len(axes) and ax.count(axes[-1:], CHANNEL) > 1:
            made.contracts = CHANNEL
    return made.number, made.axes


def _reduce(book: NodeBook, name: str, arguments: Any, data: Any, shape: tuple[int, ...]) -> tuple[int, Axes]:
    x, node, axes = data
    dims = arguments.get("dim")
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        dims = list(range(x.dim()))
    gone = {d % max(x.dim(), 1) for d in (dims if isinstance(dims, (list, tuple)) else [dims])}
    kinds = [ax.kind_of(axes[i]) for i in gone if i < len(axes)]
    kind = TOKEN if TOKEN in kinds else CHANNEL if CHANNEL in kinds else OTHER
    if len(shape) == x.dim():
        left = tuple(() if i in gone else a for i, a in enumerate(axes))
    else:
        left = tuple(a for i, a in enumerate(axes) if i not in gone)
    made = book.node(REDUCE, name, [node], left, shape, operands=(axes,), contracts=kind)
    return made.number, left


def _cat(
    book: NodeBook, name: str, args: Any, arguments: Any, data: list[Any], shape: tuple[int, ...]
) -> tuple[int, Axes]:
    parts = list(args[0])
    at = (arguments.get("dim") or 0) % len(shape)
    axes = data[0][2]
    classes = 0
    if name == "stack":
        made = (*axes[:at], ax.axis(shape[at]), *axes[at:])
    else:
        kind = next((k for d in data if (k := ax.kind_of(d[2][at] if at < len(d[2]) else ())) != OTHER), OTHER)
        own = [x.shape[at] for x in parts if book.get(x) is None]
        if kind == OTHER and own and len(shape) >= 3 and at == len(shape) - 2:
            kind = TOKEN  # constants beside a single token
        classes = sum(own) if kind == TOKEN else 0
        made = (*axes[:at], ax.axis(shape[at], kind), *axes[at + 1 :])
    distinct = tuple(dict.fromkeys(d[1] for d in data))
    if len(distinct) == 1 and not classes:
        return distinct[0], made
    node = book.node(JOIN, name, distinct, made, shape, classes=classes)
    return node.number, made


def _matrix(
    book: NodeBook, name: str, a: Tensor, b: Tensor, added: Any, shape: tuple[int, ...]
) -> tuple[int, Axes] | None:
    left, right = book.get(a), book.get(b)
    more = book.get(added) if isinstance(added, Tensor) else None
    if left is not None and right is not None:
        made = book.node(PRODUCT, name, [left[0], right[0]], (), shape, sources=(left[0], right[0]),
                          operands=(left[1], right[1]))  # fmt: skip
        tagged = [sided(axes, (made.number, side)) for side, axes in enumerate((left[1], right[1]))]
        rows, columns = rows_of(tagged[0], a), columns_of(tagged[1], b)
        made.contracted = (left[1][-1], right[1][-2] if b.dim() > 1 else right[1][-1])
        kinds = [ax.kind_of(factors) for factors in made.contracted]
        made.contracts = next((kind for kind in kinds if kind != OTHER), OTHER)
        outer = ax.joined([left[1][:1], right[1][:1]], shape[:1]) if len(shape) == 3 else ()
        made.axes = (*outer, *([rows] if a.dim() > 1 else []), *([columns] if b.dim() > 1 else []))
    elif (one := left or right) is not None:
        x, weight, of_left = (a, b, True) if left is not None else (b, a, False)
        source, axes = one
        contracted = axes[-1] if of_left or x.dim() < 2 else axes[-2]
        width = weight.shape[-1] if of_left else (weight.shape[-2] if weight.dim() > 1 else 1)
        kept = rows_of(axes, x) if of_left else columns_of(axes, x)
        kind = ax.kind_of(contracted)
        only = {f.kind for f in contracted} - {OTHER}
        outer = (axes[0],) if len(shape) == 3 else ()
        new = TOKEN if only == {TOKEN} and ax.count((*outer, kept), CHANNEL) > 1 else CHANNEL
        made = book.node(SYNAPSE, name, [source], (), shape, contracts=kind, operands=(axes,), sources=(source,))
        made.alone = book.alone()
        made.widths = (prod(f.size for f in contracted), width)
        column = ax.axis(width, new, made.number)
        others = [kept] if x.dim() > 1 else []
        made.axes = (*outer, *others, column) if of_left else (*outer, column, *others)
    else:
        return (more[0], more[1]) if more is not None else None
    made.tokens = ax.count(made.axes, TOKEN)
    if more is not None and more[0] != made.number:
        both = book.node(ADD, "add", [more[0], made.number], made.axes, shape)
        return both.number, made.axes
    return made.number, made.axes


def _convolution(
    book: NodeBook, name: str, args: Any, arguments: Any, shape: tuple[int, ...]
) -> tuple[int, Axes] | None:
    x, weight = args[0], args[1]
    found, kernel = book.get(x), book.get(weight)
    if found is None:
        return None
    node, axes = found
    if kernel is not None:
        made = book.node(PRODUCT, name, [node, kernel[0]], ax.alike(axes, shape), shape,
                          sources=(node, kernel[0]), operands=(axes, kernel[1]))  # fmt: skip
        return made.number, made.axes
    made = book.node(SYNAPSE, name, [node], (), shape, operands=(axes,), sources=(node,))
    made.alone = book.alone()
    made.kernel, made.groups = tuple(weight.shape[2:]), int(arguments["groups"])
    made.stride, made.widths = tuple(arguments["stride"]), (x.shape[1], shape[1])
    made.contracts = ax.kind_of(axes[1])
    spatial = [ax.kind_of(a) for a in axes[2:]]
    new = TOKEN if made.contracts == TOKEN and CHANNEL in spatial else CHANNEL
    kept: list[ax.Axis] = []
    for old, size, kind in zip(axes[2:], shape[2:], spatial, strict=True):
        same = prod(f.size for f in old) == size
        keeps = same and (set(made.kernel) == {1} or kind != TOKEN)
        kept.append(old if keeps else ax.axis(size, kind if kind != OTHER else OTHER, made.number))
    made.axes = (axes[0], ax.axis(shape[1], new, made.number), *kept)
    made.tokens = ax.count(made.axes, TOKEN)
    made.grid = grid_of(made.axes) or made.grid
    return made.number, made.axes


def _attention(book: NodeBook, name: str, args: Any, shape: tuple[int, ...]) -> tuple[int, Axes] | None:
    q, k, v = operands = [book.get(x) for x in args[:3]]
    if q is None or k is None or v is None:
        return _op(book, name, [(x, *f) for x, f in zip(args[:3], operands, strict=True) if f is not None], shape)
    made = book.node(PRODUCT, name, [q[0], k[0], v[0]], (*q[1][:-1], v[1][-1]), shape,
                      sources=(q[0], k[0], v[0]), operands=(q[1], k[1], v[1]), contracts=CHANNEL)  # fmt: skip
    return made.number, made.axes
