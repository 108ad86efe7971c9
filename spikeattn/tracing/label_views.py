"""Labels behind operations that show, move or pick elements: views, copies, concatenations, indices."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeattn.tracing import labels
from spikeattn.tracing.call import Call
from spikeattn.tracing.label_registry import Result, rule
from spikeattn.tracing.labels import ANY


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
