"""How each kind of operation hands labels on: which rows of its result belong to which image and time step.

A rule takes a `Call` and one field at a time and returns the label of the result (or one per result). Rules are kept
by the name of the aten operation (namespace::name of others); `torch.Tag.pointwise` and `torch.Tag.reduction` cover
most operations without an entry, and `poke` the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikeattn.tracing import labels
from spikeattn.tracing.call import Call
from spikeattn.tracing.labels import ANY, MIXED
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.overloads import overload

Result = Tensor | None | list[Tensor | None]
_FEW = 64  # values of a field that are followed one by one through a window; more are a candidate axis, and no time


Rule = Callable[[Call], Result]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the label rule of these operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


# ------------------------------------------------------------------------------------------------ the same elements
@rule(
    "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "select", "slice", "split", "split_with_sizes",
    "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk",
    "chunk", "unbind", "narrow", "diagonal", "unfold", "swapaxes", "movedim", "alias", "detach", "flip", "fliplr",
)  # fmt: skip
def view(call: Call) -> Result:
    """Views run on the label as they ran on the tensor; it costs nothing along axes on which it is constant."""
    x = call.given[0]
    label = call.of(x)
    if label is None:
        return None
    out = call.again({0: call.full(label, x)})
    return [labels.compact(part) for part in out] if isinstance(out, (tuple, list)) else labels.compact(out)


@rule("view", "reshape", "_unsafe_view", "_reshape_alias", "flatten", "unflatten", "view_copy", "ravel")
def reshape(call: Call) -> Result:
    label = call.of(call.given[0])
    return None if label is None else labels.reshape(label, call.given[0].shape, call.out[0].shape)


@rule("view_as_real", "view_as_complex")
def complex_view(call: Call) -> Result:
    label = call.of(call.given[0])
    if label is None:
        return None
    return label.unsqueeze(-1) if call.rank > label.dim() else call.together(label, [label.dim() - 1], keep=False)


@rule("clone", "contiguous", "_to_copy", "to", "lift_fresh", "lift", "detach_", "tril", "triu", "_conj", "real",
      "imag", "bernoulli", "native_dropout", "_fused_dropout", "dropout")  # fmt: skip
def same(call: Call) -> Result:
    return call.of(call.given[0])


@rule("copy")
def copy(call: Call) -> Result:
    """Everything is replaced by the source."""
    label = call.of(call.given[1]) if len(call.given) > 1 else None
    return None if label is None else labels.ranked(label, call.rank)


@rule("roll")
def roll(call: Call) -> Result:
    """Axes on which the label is constant may be rolled at will."""
    label = call.of(call.given[0])
    if label is None:
        return None
    if not call.argument("dims", []):
        return labels.compact(call.again({0: call.full(label, call.given[0]).contiguous()}))
    return call.again({0: label})


@rule("repeat", "tile")
def repeat(call: Call) -> Result:
    label = call.of(call.given[0])
    if label is None:
        return None
    label = labels.ranked(label, call.rank)
    times = list(call.argument("repeats"))
    return label.repeat([n if size > 1 else 1 for n, size in zip(times, label.shape, strict=True)])


@rule("repeat_interleave")
def repeat_interleave(call: Call) -> Result:
    label, times = call.of(call.given[0]), call.argument("repeats")
    if label is None:
        return None
    axis = call.argument("dim")
    if axis is None or isinstance(times, Tensor):
        return labels.compact(call.again({0: call.full(label, call.given[0]).contiguous()}))
    return label if label.shape[axis] == 1 else label.repeat_interleave(times, axis)


@rule("cat", "concat", "concatenate", "stack")
def cat(call: Call) -> Result:
    """Side by side; parts that depend on nothing are holes of ANY."""
    found = [call.of(x) for x in call.given]
    if all(label is None for label in found):
        return None
    axis = call.argument("dim", 0) % call.rank
    parts = []
    for x, label in zip(call.given, found, strict=True):
        if call.name != "stack" and x.dim() == 1 and not x.numel() and call.rank > 1:
            continue  # the empty list that torch.cat lets pass
        label = labels.constant(ANY, x.dim()) if label is None else label
        if call.name == "stack":
            label = label.unsqueeze(axis)
        else:
            label = label.expand([x.shape[axis] if a == axis else n for a, n in enumerate(label.shape)])
        parts.append(label)
    wide = [max(part.shape[a] for part in parts) for a in range(call.rank)]
    sized = [part.expand([part.shape[a] if a == axis else n for a, n in enumerate(wide)]) for part in parts]
    return labels.compact(torch.cat(sized, axis))


@rule("constant_pad_nd", "pad")
def pad(call: Call) -> Result:
    """Borders of a constant belong to nothing, which an axis without a label does not note."""
    label = call.of(call.given[0])
    if label is None:
        return None
    sizes = list(call.argument("pad"))
    for place in range(len(sizes) // 2):
        if label.shape[-1 - place] == 1:
            sizes[2 * place : 2 * place + 2] = [0, 0]
    return torch.nn.functional.pad(label, sizes, value=ANY)


# ------------------------------------------------------------------------------------------------- picked elements
@rule("index_select")
def index_select(call: Call) -> Result:
    x, index = call.given[:2]
    axis = call.axes()[0]
    label, chosen = call.of(x), call.of(index)
    if label is not None and label.shape[axis] > 1:
        label = label.index_select(axis, index)
    if chosen is not None:
        chosen = chosen.view([-1 if a == axis else 1 for a in range(call.rank)])
    return call.meet(label, chosen)


@rule("gather", "take_along_dim")
def gather(call: Call) -> Result:
    x, index = call.given[:2]
    label = call.of(x)
    if label is not None:
        axis = call.axes()[0]
        if label.shape[axis] > 1:
            label = labels.compact(call.full(label, x).gather(axis, index))
    return call.meet(label, call.of(index))


@rule("index", "_unsafe_index")
def index(call: Call) -> Result:
    """Rows by number; rows picked by a mask depend on the data (see `PICKED_BY_VALUE`)."""
    x, chosen = call.given[0], call.argument("indices")
    label = call.of(x)
    out = None if label is None else labels.compact(call.again({0: call.full(label, x)}))
    places = [a for a, i in enumerate(chosen) if i is not None]
    numbers = [i for i in chosen if i is not None]
    if any(call.of(i) is not None for i in numbers) and all(i.dtype not in (torch.bool, torch.uint8) for i in numbers):
        shape = torch.broadcast_shapes(*(i.shape for i in numbers))
        front = places[0] if places == list(range(places[0], places[-1] + 1)) else 0
        for i in numbers:
            own = call.of(i)
            if own is not None:
                own = labels.ranked(own, len(shape))
                own = own.view([1] * front + list(own.shape) + [1] * (call.rank - front - len(shape)))
                out = call.meet(out, own)
    return out


@rule("embedding")
def embedding(call: Call) -> Result:
    label = call.of(call.given[1])
    return None if label is None else label.unsqueeze(-1)


@rule("topk", "sort", "argsort", "kthvalue", "mode", "median", "nanmedian", "cummax", "cummin", "logcumsumexp",
      "msort")  # fmt: skip
def over_axis(call: Call) -> Result:
    """Every result depends on all that stands along the axis."""
    label = call.of(call.given[0])
    if label is None:
        return None
    axis = call.argument("dim", -1) % max(label.dim(), 1)
    label = call.together(label, [axis])
    if call.rank < label.dim():
        label = label.squeeze(axis)
    return [label] * len(call.out)


@rule("cumsum", "cumprod")
def prefix(call: Call) -> Result:
    """What stands before joins; of steps that is the position."""
    label = call.of(call.given[0])
    if label is None:
        return None
    axis = call.axes()[0]
    if label.shape[axis] == 1 or not call.image:
        return label
    parts = list(label.unbind(axis))
    for i in range(1, len(parts)):
        parts[i] = labels.strict(parts[i - 1], parts[i])
    out = torch.stack(parts, axis)
    call.joins |= bool((out == MIXED).any())
    return out


# --------------------------------------------------------------------------------------------------------- written
@rule("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill", "slice_scatter",
      "select_scatter", "diagonal_scatter", "index_put", "_index_put_impl", "put", "masked_scatter")  # fmt: skip
def written(call: Call) -> Result:
    """Into every row that can be reached: what was there joins what is written, and what decides where."""
    base, *others = call.given
    out = call.of(base)
    if call.name in ("index_add", "scatter_add", "scatter_reduce", "index_copy", "scatter") and len(others) == 2:
        return _carried(call, out)
    for other in others:
        label = call.of(other)
        if label is None:
            continue
        if call.name in ("select_scatter",):
            label = label.unsqueeze(call.axes()[0])
        placed = call.name in ("index_put", "_index_put_impl") and other is call.argument("values")
        if (
            placed
            or label.dim() != call.rank
            or any(n not in (1, size) for n, size in zip(label.shape, call.out[0].shape, strict=True))
        ):
            label = _written_rows(call, other, label)
        elif call.name.startswith("scatter"):
            label = call.together(label, [call.axes()[0]])
        out = call.meet(out, label)
    return out


def _carried(call: Call, out: Tensor | None) -> Result:
    """Rows that indices carry somewhere: each value of the label is followed there, and meets what else arrives."""
    base, index, source = call.given[0], *call.given[1:3]
    chosen, moved = call.of(index), call.of(source)
    if moved is not None:
        zeros = torch.zeros(base.shape)
        carried: Tensor | None = None
        for value in labels.values_of(moved):
            seen = (moved == value).float().expand(source.shape)
            there = next(tensors_in(call.again({0: zeros, 2: seen}))) != 0
            one = torch.where(there, torch.tensor(value, dtype=torch.int32), torch.tensor(ANY, dtype=torch.int32))
            carried = one if carried is None else labels.strict(carried, one)
        if carried is not None:
            call.joins |= bool((carried == MIXED).any())
            carried = labels.compact(carried)
            out = carried if call.name in ("index_copy", "scatter") and out is None else call.meet(out, carried)
    if chosen is not None:
        axis = call.axes()[0]
        chosen = call.together(chosen, range(chosen.dim()) if chosen.dim() != call.rank else [axis])
        out = call.combine(out, chosen.reshape([1] * call.rank) if chosen.dim() != call.rank else chosen)
    return out


def _written_rows(call: Call, other: Tensor, label: Tensor) -> Tensor:
    """The label of rows that indices place somewhere, found by writing it."""
    if call.name in ("index_put", "_index_put_impl") and other is call.argument("values"):
        blank = torch.full(call.out[0].shape, ANY, dtype=torch.int32)
        chosen = [i for i in call.argument("indices")]
        return labels.compact(blank.index_put(chosen, label.expand(other.shape)))
    if call.name in ("index_copy", "index_add", "slice_scatter"):
        blank = torch.full(call.out[0].shape, ANY, dtype=torch.int32)
        return labels.compact(call.again({0: blank, len(call.given) - 1: label.expand(other.shape)}))
    merged = call.together(label, range(label.dim()))
    return merged.reshape([1] * call.rank)


# ------------------------------------------------------------------------------------------------- joined elements
def pointwise(call: Call) -> Result:
    """Broadcast and joined element by element."""
    out: Tensor | None = None
    for x in call.given:
        label = call.of(x)
        if label is not None:
            out = call.meet(out, labels.ranked(label, call.rank))
    return [out] * len(call.out)


def reduction(call: Call) -> Result:
    """One of everything along the axes."""
    out: Tensor | None = None
    for x in call.given[:1]:
        label = call.of(x)
        if label is not None:
            axes = call.axes(of=x.dim())
            out = call.together(label, axes)
            for axis in sorted(axes, reverse=True) if call.rank < x.dim() else ():
                out = out.squeeze(axis)
    return [out] * len(call.out)


for _name in ("sum", "mean", "amax", "amin", "max", "min", "any", "all", "prod", "norm", "linalg_vector_norm", "var",
              "std", "var_mean", "std_mean", "argmax", "argmin", "logsumexp", "count_nonzero", "nansum", "aminmax",
              "native_norm"):  # fmt: skip
    RULES[_name] = reduction
for _name in ("masked_fill", "lerp", "where", "addcmul", "addcdiv", "rrelu_with_noise", "glu_jvp", "bitwise_and"):
    RULES[_name] = pointwise


@rule("max", "min")
def extreme(call: Call) -> Result:
    """Of two tensors, of an axis, or of all."""
    return pointwise(call) if len(call.given) == 2 else reduction(call)


@rule("_softmax", "softmax", "_log_softmax", "log_softmax", "_safe_softmax", "native_layer_norm", "layer_norm",
      "native_group_norm", "group_norm", "renorm", "_fused_rms_norm", "rms_norm", "glu")  # fmt: skip
def normalised(call: Call) -> Result:
    """Rows keep their position; what they are divided by is noted as a join."""
    x = call.given[0]
    label = call.of(x)
    if label is None:
        return None
    if call.name == "glu":
        return call.together(label, [call.argument("dim", -1) % label.dim()])
    if "softmax" in call.name or call.name == "renorm":
        axes = [call.argument("dim", -1) % label.dim()]
    elif "layer" in call.name or "rms" in call.name:
        axes = list(range(label.dim() - len(call.argument("normalized_shape")), label.dim()))
    else:
        axes = list(range(1, label.dim()))
    call.together(label, axes)
    rows = labels.join_along(label, axes) if "group" in call.name or "layer" in call.name else None
    return [label, *[_small_rows(rows, o) for o in call.out[1:]]]


def _small_rows(rows: Tensor | None, out: Tensor) -> Tensor | None:
    """The label of the means and deviations that a norm hands out beside its result."""
    return rows if rows is not None and rows.dim() == out.dim() else None


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
      "batch_norm", "instance_norm", "_batch_norm_with_update", "_batch_norm_no_update")  # fmt: skip
def batch_norm(call: Call) -> Result:
    """With running statistics a scale and a shift; with those of the batch a join."""
    label = call.of(call.given[0])
    if label is None:
        return None
    if call.argument("training", "no_training" not in call.name and "no_update" not in call.name) is True:
        call.together(label, [0, *range(2, label.dim())])
    return [label] + [None] * (len(call.out) - 1)


# --------------------------------------------------------------------------------------------------------- products
@rule("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "addmv", "vdot", "matmul", "addbmm", "linear", "_int_mm")
def product(call: Call) -> Result:
    """Each operand joined over the axis that is summed, then the two joined."""
    bias = call.given[0] if call.name.startswith(("addm", "baddbmm", "addbmm")) else None
    a, b = call.given[1:3] if bias is not None else call.given[:2]
    left, right = call.of(a), call.of(b)
    if left is not None:
        left = call.together(left, [left.dim() - 1], keep=b.dim() > 1)
    if right is not None:
        right = call.together(right, [max(right.dim() - 2, 0)], keep=a.dim() > 1 and b.dim() > 1)
    out = call.combine(
        None if left is None else labels.ranked(left, call.rank),
        None if right is None else labels.ranked(right, call.rank),
    )
    added = call.of(bias) if bias is not None else None
    return call.meet(out, None if added is None else labels.ranked(added, call.rank))


@rule(
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math", "scaled_dot_product_attention",
)  # fmt: skip
def attention(call: Call) -> Result:
    """The rows of the queries, each with all keys and values of its head."""
    q, k, v = (call.of(x) for x in call.given[:3])
    out = None if q is None else call.together(q, [q.dim() - 1])
    for label in (k, v):
        if label is not None:
            out = call.combine(out, call.together(label, [label.dim() - 2, label.dim() - 1]))
    for mask in call.given[3:]:
        label = call.of(mask)
        if label is not None:
            out = call.combine(out, labels.ranked(call.together(label, [label.dim() - 1]), call.rank))
    return [out, *([None] * (len(call.out) - 1))]


@rule("convolution", "_convolution", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "convolution_overrideable",
      "mkldnn_convolution", "cudnn_convolution", "_slow_conv2d_forward", "thnn_conv2d")  # fmt: skip
def convolution(call: Call) -> Result:
    """The channels of a group, and the window where the label varies in space."""
    x, w = call.given[:2]
    label, kernel = call.of(x), call.of(w)
    if label is not None:
        groups = call.argument("groups", 1)
        if label.shape[1] > 1 and groups > 1 and all(n == 1 for n in label.shape[2:]):
            grouped = label.unflatten(1, (groups, -1))
            label = call.together(grouped, [2], keep=False)
            label = labels.compact(label.repeat_interleave(call.out[0].shape[1] // groups, 1))
        else:
            if label.shape[1] > 1:
                label = call.together(label, [1])
            label = _windows(call, label, x, w)
    if kernel is not None:
        kernel = call.together(kernel, range(kernel.dim())).reshape([1] * call.rank)
    return call.combine(label, kernel)


def _windows(call: Call, label: Tensor, x: Tensor, w: Tensor) -> Tensor:
    if all(n == 1 for n in label.shape[2:]):
        return label
    if len(labels.values_of(label)) > _FEW and not call.image:
        return call.together(label, range(2, label.dim()))
    wide = [label.shape[0], 1, *x.shape[2:]]
    run = torch.ops.aten.convolution.default
    args = list(call.args[3:8]) + [1]
    ones = torch.ones((1, 1, *w.shape[2:]))
    out = labels.by_presence(label, wide, lambda seen: run(seen, ones, None, *args))
    call.joins |= bool((out == MIXED).any())
    return out


# ---------------------------------------------------------------------------------------------- windows and corners
def _spatial(call: Call, axes: int) -> Result:
    """Operations on the last axes alone: what varies there is followed value by value."""
    x = call.given[0]
    label = call.of(x)
    if label is None:
        return None
    inside = range(label.dim() - axes, label.dim())
    if all(label.shape[axis] == 1 for axis in inside):
        lead = label.shape[: label.dim() - axes]
        out: Tensor = label.reshape(*lead, *[1] * (call.rank - len(lead)))
    elif len(labels.values_of(label)) > _FEW and not call.image:
        out = call.together(label, inside)
        out = out.reshape(*out.shape[: label.dim() - axes], *[1] * (call.rank - label.dim() + axes))
    else:
        out = labels.by_presence(label, x.shape, lambda seen: next(tensors_in(call.again({0: seen}))))
        call.joins |= bool((out == MIXED).any())
    return [out if o.dim() == out.dim() else None for o in call.out]


_LAST = {
    "max_pool1d": 1, "max_pool2d": 2, "max_pool3d": 3, "avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3,
    "max_pool2d_with_indices": 2, "max_pool3d_with_indices": 3, "adaptive_avg_pool1d": 1, "_adaptive_avg_pool2d": 2,
    "_adaptive_avg_pool3d": 3, "adaptive_avg_pool2d": 2, "adaptive_avg_pool3d": 3, "adaptive_max_pool1d": 1,
    "adaptive_max_pool2d": 2, "adaptive_max_pool3d": 3, "reflection_pad1d": 1, "reflection_pad2d": 2,
    "reflection_pad3d": 3, "replication_pad1d": 1, "replication_pad2d": 2, "replication_pad3d": 3,
    "upsample_nearest1d": 1, "upsample_nearest2d": 2, "upsample_nearest3d": 3, "_upsample_nearest_exact1d": 1,
    "_upsample_nearest_exact2d": 2, "_upsample_nearest_exact3d": 3, "upsample_linear1d": 1, "upsample_bilinear2d": 2,
    "_upsample_bilinear2d_aa": 2, "_upsample_bicubic2d_aa": 2, "upsample_trilinear3d": 3, "upsample_bicubic2d": 2,
    "pixel_shuffle": 3, "pixel_unshuffle": 3, "im2col": 3, "col2im": 2, "channel_shuffle": 3,
    "native_channel_shuffle": 3, "grid_sampler_2d": 2, "mkldnn_max_pool2d": 2, "mkldnn_adaptive_avg_pool2d": 2,
    "_fft_r2c": 0, "max_unpool2d": 2, "fractional_max_pool2d": 2, "local_response_norm": 3,
}  # fmt: skip
for _name, _axes in _LAST.items():
    if _axes:
        RULES[_name] = lambda call, axes=_axes: _spatial(call, axes)  # type: ignore[misc]


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r")
def transform(call: Call) -> Result:
    label = call.of(call.given[0])
    return None if label is None else call.together(label, call.axes())


# ------------------------------------------------------------------------------------------------------- no rule
# Which rows these give depends on the values that they are given.
PICKED_BY_VALUE = {
    "masked_select", "nonzero", "unique", "_unique2", "unique_dim", "unique_consecutive", "nonzero_static",
}  # fmt: skip
BLANKS = {"zeros_like", "empty_like", "new_zeros", "new_empty", "new_empty_strided"}
# New tensors of a tensor's shape alone.
SHAPE_ALONE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like", "new_zeros",
    "new_ones", "new_full", "new_empty", "new_empty_strided", "zero", "zeros", "ones", "empty", "empty_strided", "full",
    "arange", "eye", "linspace", "scalar_tensor", "uniform", "normal", "exponential", "random", "fill", "rand", "randn",
}  # fmt: skip


def rule_of(func: Any, name: str) -> Rule | None:
    """The rule of an operation, or None."""
    if func.namespace not in ("aten", "prims"):
        return RULES.get(overload(func).site)
    found = RULES.get(name)
    if found is not None:
        return found
    if overload(func).pointwise:
        return pointwise
    if overload(func).reduction:
        return reduction
    return None


def picks_by_value(call: Call) -> bool:
    """Whether the rows of the result are picked by values."""
    if call.name in PICKED_BY_VALUE:
        return True
    if call.name != "index":
        return False
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in call.argument("indices"))
