"""A node of the way of the data: a synapse, a product, a sum, a neuron, or any other operation."""

from __future__ import annotations

from dataclasses import dataclass

from spikeattn.structure import axes as ax
from spikeattn.structure.axes import Axes

SYNAPSE, PRODUCT, ADD, REDUCE, NEURON, JOIN, INPUT, OP = (
    "synapse", "product", "add", "reduce", "neuron", "join", "input", "op",
)  # fmt: skip

# Matrix products, with the places of their two factors among the arguments.
MATRICES = {"mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2),
           "addmv": (1, 2), "addbmm": (1, 2)}  # fmt: skip


@dataclass(eq=False)
class Node:
    """One step of the data's way.

    Attributes:
        kind: SYNAPSE, PRODUCT, ADD, REDUCE, NEURON, JOIN (cat, stack, writes), INPUT or OP.
        op, path, call, ordinal: the aten operation, the innermost module at work, which call of it, and which run of
            the operation in it.
        parents: numbers of the nodes whose data it reads.
        axes: of its result.
        operands: axes of what a product, synapse or reduction reads (in the order of `parents`, with repeats).
        sources: of products, the node of each operand.
        contracts: kind of the axis that a matrix product, a synapse or a reduction sums over.
        contracted: of matrix products, the factors that each side loses.
        kernel, groups, stride, widths: of a synapse; widths are channels in and out.
        tokens: positions of tokens in the result.
        grid: last spatial shape on the way here.
        classes: class tokens: constants joined to the tokens.
        handed: path of the innermost module that handed it out.
    """

    number: int
    kind: str
    op: str
    path: str = ""
    call: int = 0
    ordinal: int = 0
    parents: tuple[int, ...] = ()
    axes: Axes = ()
    sources: tuple[int, ...] = ()
    operands: tuple[Axes, ...] = ()
    contracts: str = ""
    contracted: tuple[tuple[ax.Factor, ...], ...] = ()
    alone: bool = False
    kernel: tuple[int, ...] = ()
    groups: int = 1
    stride: tuple[int, ...] = ()
    widths: tuple[int, int] = (0, 0)
    tokens: int = 1
    grid: tuple[int, int] | None = None
    classes: int = 0
    shape: tuple[int, ...] = ()
    handed: str = ""

    @property
    def name(self) -> str:
        """Its name in a ledger: a mask bears that of the module that hands it out."""
        mask = self.kind == PRODUCT and self.op not in MATRICES and not self.op.startswith("_scaled_dot")
        return self.handed if mask and self.handed else self.site

    @property
    def site(self) -> str:
        """Its name in a ledger: the module's path where the module is the operation, else path.operation_ordinal."""
        if self.alone or self.kind == NEURON:
            return self.path
        return ".".join(filter(None, [self.path, f"{self.op}_{self.ordinal}"]))

    @property
    def place(self) -> tuple[str, str, int]:
        """What stays the same when the module is called again."""
        return self.path, self.op, self.ordinal
