"""Operations that meet weights or multiply two tensors: one rule each, in a table that users can extend.

A rule looks at the arguments and the result of one operation and says what was multiplied by what; `register` adds one
for an operator of your own (see docs/extending.md). Operations without a rule are known not to multiply
(`origins.derive`), or they are listed in the result as uncounted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spikeattn.errors import SpikeattnError
from spikeattn.tracing.fanout import ConvGeometry


@dataclass(frozen=True)
class Multiplication:
    """Two tensors that an operation multiplies.

    Attributes:
        a, b: the tensors; whichever the model holds is the weight, and where neither is, it is a product of data.
        macs: dense multiply-accumulates of this call, all images together.
        fan_out_a, fan_out_b: places at which an element of a (of b) is used, for a linear map of it; 0 where that
            depends on the position.
        geometry: of a convolution of a with b.
        biases: parameters that are added in the same operation.
        why_not: why a product of data (neither of them a weight) of this form cannot be counted; "" where it can.
    """

    a: Tensor
    b: Tensor
    macs: int
    fan_out_a: int = 0
    fan_out_b: int = 0
    geometry: ConvGeometry | None = None
    biases: Tensor | None = None
    why_not: str = ""


OperationRule = Callable[[tuple[Any, ...], Mapping[str, Any], Tensor], Multiplication]
OPERATIONS: dict[str, OperationRule] = {}


def register(name: str, rule: OperationRule) -> None:
    """Count an operator of your own.

    Args:
        name: namespace and name, such as "mylib::fused_linear"; those of PyTorch are "aten::...".
        rule: takes the positional arguments, the keywords and the (first) result of a call.

    Raises:
        SpikeattnError: the name has no namespace.
    """
    if name.count("::") != 1:
        raise SpikeattnError(f"operation {name!r} has no namespace; give it as registered, such as 'mylib::linear'")
    OPERATIONS[name] = rule


def _convolution(args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor) -> Multiplication:
    x, w = args[0], args[1]
    geometry = ConvGeometry(
        in_channels=w.shape[0] if args[6] else w.shape[1] * args[8],
        out_channels=out.shape[1],
        kernel=tuple(w.shape[2:]),
        stride=tuple(args[3]),
        padding=tuple(args[4]),
        dilation=tuple(args[5]),
        transposed=bool(args[6]),
        output_padding=tuple(args[7]),
        groups=int(args[8]),
    )
    positions = x if geometry.transposed else out
    macs = geometry.macs_per_position * positions[:, :1].numel()
    dynamic = "its kernel is computed from the input"
    return Multiplication(x, w, macs, geometry=geometry, biases=args[2], why_not=dynamic)


def _matrix(first: int) -> OperationRule:
    """A matrix product whose first factor is argument number `first`; what stands before it is added."""

    def rule(args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor) -> Multiplication:
        a, b = args[first], args[first + 1]
        columns = int(b.shape[-1]) if b.dim() > 1 else 1
        rows = int(a.shape[-2]) if a.dim() > 1 else 1
        vectors = "a product of vectors has no counting rule" if a.dim() < 2 or b.dim() < 2 else ""
        return Multiplication(
            a, b, a.numel() * columns, columns, rows, biases=args[0] if first else None, why_not=vectors
        )

    return rule


register("aten::convolution", _convolution)
register("aten::_convolution", _convolution)  # the same, as the code of torch.jit.trace calls it
for _name, _first in {"mm": 0, "bmm": 0, "dot": 0, "mv": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}.items():
    register(f"aten::{_name}", _matrix(_first))
