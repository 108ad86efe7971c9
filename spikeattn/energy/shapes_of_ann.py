"""Sizes of the layers of an ANN that runs, from the shapes that its operations receive and return."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from spikeattn.compat.torch_modes import math_attention
from spikeattn.energy.layer_sizes import LayerSizes, TwinSizes
from spikeattn.energy.torch_macs import Operation, operations_of
from spikeattn.structure.entry import OTHER

if TYPE_CHECKING:
    from torch import Tensor, nn

_PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}  # where the two operands stand


def sizes_of_ann(model: nn.Module, image: Tensor, parts: Mapping[str, tuple[str, int | None]]) -> TwinSizes:
    """The layers of an ANN with their sizes, from one forward pass in eval mode.

    Scaled-dot-product attention runs in torch's math kernel, as in `twins.ann_macs`, so that its two products are seen
    apart. Of a matrix product the second operand stands for the weights: a linear layer multiplies its input with the
    transpose of its weights, and attention its queries with the keys, its scores with the values.

    Args:
        image: a batch of one.
        parts: (part, block) of the layers that the model names itself, by dotted path.
    """

    with math_attention():
        operations = [operation for operation in operations_of(model, lambda net: net(image)) if operation.macs]
    layers, unknown = [], []
    for operation in operations:
        part, _ = parts.get(operation.module, (OTHER, None))
        size = _size(operation, part)
        if size is None:
            unknown.append(f"{operation.op} in {operation.module or 'the network itself'}")
        else:
            layers.append(size)
    return TwinSizes(tuple(layers), tuple(dict.fromkeys(unknown)))


def _size(operation: Operation, part: str) -> LayerSizes | None:
    """Of a convolution or a matrix product; None of any other operation."""
    shapes, out = operation.shapes, operation.out
    if operation.op in _PRODUCTS:
        first, second = (prod(shapes[at]) for at in _PRODUCTS[operation.op])
        bias = 0 if _PRODUCTS[operation.op] == (0, 1) else prod(shapes[0])
        return LayerSizes(operation.module, part, operation.macs, first, prod(out), second, bias)
    if operation.op != "convolution":
        return None
    x, weights, bias = shapes[:3]
    kernel: Any = weights[2:]
    return LayerSizes(
        operation.module,
        part,
        operation.macs,
        prod(x),
        prod(out),
        prod(weights),
        0 if bias is None else prod(bias),
        out[1] * prod(kernel),
    )
