"""Labels behind convolutions, pools and resizing: what varies in space is followed value by value."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeattn.tracing import labels
from spikeattn.tracing.call import Call
from spikeattn.tracing.label_registry import RULES, Result, Rule, rule
from spikeattn.tracing.labels import MIXED
from spikeattn.tracing.nested_tensors import tensors_in

_FEW = 64  # values of a field that are followed one by one through a window; more are a candidate axis, and no time


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
    "max_unpool2d": 2, "fractional_max_pool2d": 2, "local_response_norm": 3,
}  # fmt: skip


def _rule_of_last(axes: int) -> Rule:
    return lambda call: _spatial(call, axes)


RULES.update({name: _rule_of_last(axes) for name, axes in _LAST.items()})
