"""Labels of tensors that an operation writes into, in whole or in part."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeattn.tracing import labels
from spikeattn.tracing.call import Call
from spikeattn.tracing.label_registry import Result, rule
from spikeattn.tracing.labels import ANY, MIXED
from spikeattn.tracing.nested_tensors import tensors_in


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
