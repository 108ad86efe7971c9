"""Multiply-accumulates as torch's FlopCounterMode counts them while a network runs, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spikeattn.compat.torch_modes import flop_counter, flop_formulas, math_attention
from spikeattn.structure.entry import Extent

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Operation:
    """One operation of a forward pass whose FLOPs torch knows.

    Attributes:
        module: dotted path of the module at work; "" is the network itself.
        op: name of the operation, such as "addmm".
        macs: multiply-accumulates, of the whole batch.
        shapes: its arguments, the shape of each in place of a tensor.
        out: the shape of what it returns.
    """

    module: str
    op: str
    macs: int
    shapes: tuple[Any, ...] = ()
    out: Any = None


def operations_of(model: nn.Module, run: Callable[[nn.Module], Any]) -> list[Operation]:
    """The operations of one forward pass whose FLOPs torch knows, in the order they run, with the module at work.

    Args:
        run: calls the model that it is handed.
    """
    import torch

    from spikeattn.tracing.neurons import evaluating, uncompiled
    from spikeattn.tracing.stack import ModuleStack
    from spikeattn.tracing.state import state_kept

    operations: list[Operation] = []
    stack = ModuleStack(model, {})

    def noting(packet: Any, formula: Callable[..., int]) -> Callable[..., int]:
        name = str(packet).rpartition(".")[2]

        def count(*shapes: Any, out_shape: Any = None, **options: Any) -> int:
            flops = formula(*shapes, out_shape=out_shape, **options)
            path = stack.frames[-1].path if stack.frames else ""
            macs = flops // 2  # torch counts two FLOPs per multiply-accumulate
            operations.append(Operation(path, name, macs, shapes, out_shape))
            return flops

        return count

    formulas = {packet: noting(packet, formula) for packet, formula in flop_formulas().items()}
    with torch.no_grad(), uncompiled(), state_kept(model), evaluating(model), stack:
        with flop_counter(formulas=formulas):
            run(model)
    return operations


def softmax_macs(extent: Extent, heads: int | None) -> int:
    """Multiply-accumulates of softmax attention of one size, as torch counts them in its math kernel.

    Args:
        heads: None, or a number that does not divide the channels, is one head: the count is the same for any number.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    h = heads or 1
    h = 1 if extent.channels % h or extent.values % h else h

    def tokens(count: int, channels: int) -> Tensor:  # without memory: windows x heads x N^2 numbers may be gigabytes
        return torch.empty(extent.windows, h, count, channels // h, device="meta")

    q, k = tokens(extent.queries, extent.channels), tokens(extent.keys, extent.channels)
    with torch.no_grad(), math_attention(), flop_counter() as counter:
        scaled_dot_product_attention(q, k, tokens(extent.keys, extent.values))
    return counter.get_total_flops() // 2
