"""What happens in a forward pass: calls of neurons, synapses, products, and what has no counting rule."""

from __future__ import annotations

from dataclasses import dataclass

from spikeattn.tracing.fanout import ConvGeometry
from spikeattn.tracing.origins import Origin, View

INPUT, NEURON = "input", "neuron"
BATCH_ITSELF = -1  # position of an input that is in no tensor of the call
SUMS = ("token_sum", "average")  # additions without weights, of one operand
ADDITION = "addition"


@dataclass(frozen=True, eq=False)
class Part:
    """A range of what a layer receives, along the axis that it sums over."""

    origin: Origin
    view: View
    axis: int
    start: int
    size: int


@dataclass(frozen=True, eq=False)
class Event:
    """One call of the model or of a neuron, one synapse or product, in the order of execution.

    Attributes:
        what: "input", "neuron", "conv", "linear", "matmul", "mask", "token_sum", "average" or
            "unknown"; among the additions of a pass "addition".
        module: dotted path of the innermost module at work.
        call: which call of that module it was, from 0.
        op, ordinal: aten operation and its position among those of that name in this call of the module.
        origins, views: of the data operands (for a synapse its input alone, for a neuron its output).
        positions: of these operands among the tensors that the operation is given, of an input among those that the
            model is called with; of a neuron's spikes among the tensors that it returns.
        argument: the module's first argument if that holds exactly the elements the operation receives.
        macs: dense multiply-accumulates of this call; of an addition, the additions of numbers.
        fan_out: weights that an element of the input meets; of an average, how many windows hold it; None where that
            depends on the position.
        weights, biases: parameters of a synapse; a bias that is added in an operation of its own is not seen.
        weight_name: name of the parameter that the weights are.
        reason: why an "unknown" one is not counted; what an addition is, one of `ledger_rows.ADDITION_OPS`.
        parts: what lies side by side in the input of a layer.
        columns: (axis, start, size) of the operand, where that is a part of a tensor.
        name: of a synapse inside a neuron, which has a name of its own.
    """

    what: str
    module: str
    call: int
    op: str
    ordinal: int
    origins: tuple[Origin, ...]
    views: tuple[View, ...]
    out: Origin
    out_view: View
    positions: tuple[int, ...] = ()
    macs: int = 0
    geometry: ConvGeometry | None = None
    fan_out: int | None = None
    argument: View | None = None
    alone: bool = False
    weights: int = 0
    biases: int = 0
    weight_name: str | None = None
    reason: str = ""
    parts: tuple[Part, ...] = ()
    columns: tuple[int, int, int] | None = None
    name: str = ""

    def site(self) -> str:
        """Name of the operation: the module's path where the module is the operation, else path.op_ordinal."""
        if self.name:
            return self.name
        if self.alone:
            return self.module
        return ".".join(filter(None, [self.module, f"{self.op}_{self.ordinal}"]))
