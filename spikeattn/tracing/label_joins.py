"""Labels behind operations that make one of several elements: arithmetic, reductions, norms, sorts, matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeattn.tracing import labels
from spikeattn.tracing.call import Call
from spikeattn.tracing.label_registry import RULES, Result, rule
from spikeattn.tracing.labels import MIXED


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


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r")
def transform(call: Call) -> Result:
    label = call.of(call.given[0])
    return None if label is None else call.together(label, call.axes())


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
