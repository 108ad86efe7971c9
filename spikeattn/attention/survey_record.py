"""What a survey shows of one pass: the place of every tensor, the operations and the matrices of attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from spikeattn.attention.place import Place

BATCH = 2  # images shown: enough to see which rows of a tensor belong to which


class Seen(NamedTuple):
    """A tensor as the survey saw it: its shape and the place of its elements."""

    shape: tuple[int, ...]
    place: Place


class Site(NamedTuple):
    """An operation: the module at work, its name, and which run of it in one call of the module."""

    path: str
    op: str
    ordinal: int

    @property
    def name(self) -> str:
        """As a ledger names it."""
        return ".".join(filter(None, [self.path, f"{self.op}_{self.ordinal}"]))


class Matrix(NamedTuple):
    """A product of an N x N matrix of attention with the values.

    Attributes:
        operand: 0 or 1, which of the two factors is the matrix.
        matrix, values: both factors.
    """

    operand: int
    matrix: Seen
    values: Seen


@dataclass
class Survey:
    """What one pass showed.

    Attributes:
        outputs, inputs: the first tensor that every module handed out, and was given, call by call, by path.
        matrices: products of matrices of attention with values, call by call, in the order of execution.
        results: of elementwise products of two tensors of data, call by call.
        operands: tensors that products of data are given, call by call.
        notes: operations behind which nobody knows where a tensor looks.
        batch: images that were shown.
    """

    outputs: dict[str, list[Seen]] = field(default_factory=dict)
    inputs: dict[str, list[Seen]] = field(default_factory=dict)
    matrices: dict[Site, list[Matrix]] = field(default_factory=dict)
    results: dict[Site, list[Seen]] = field(default_factory=dict)
    operands: dict[Site, list[tuple[Seen, ...]]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    batch: int = BATCH

    def summed(self, site: Site) -> int:
        """How many matrices one module applies to one v: what they do together is no matrix that can be seen."""
        stream = self.matrices[site][0].values.place.stream
        alike = [calls[0] for other, calls in self.matrices.items() if other.path == site.path]
        return sum(matrix.values.place.stream == stream for matrix in alike)
