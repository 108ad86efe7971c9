"""The tensor that a statistic means: a role in the attention of a block, or a path."""

from __future__ import annotations

from dataclasses import dataclass

from spikeattn.attention.survey_record import Site
from spikeattn.structure import axes as ax
from spikeattn.structure.axes import Factor

ROLES = ("attention", "q", "k", "v", "gate", "products")
INPUT = ":in"  # behind a module's path: what it is given


@dataclass(frozen=True, eq=False)
class Target:
    """One tensor of a pass.

    Attributes:
        role: as it was asked for; None for a path.
        path: of the module; ending in ":in" where its input is meant.
        block: number of the block it lies in; None outside.
        axes: of a tensor of `BATCH` images as the structure knows them; None where it does not.
        birth: number of the layer whose channels it holds, with `channels`, the ranges of these that are meant.
        heads: the factors of channels that count heads, of each operand's own; none where nothing goes by heads.
        site: of the operation that makes it, where no module hands it out; with `matrix` it is the matrix of attention
            that the operation, a product with the values, is given.
        counted: its name in a ledger.
    """

    role: str | None
    path: str
    block: int | None
    axes: ax.Axes | None = None
    birth: int | None = None
    channels: tuple[tuple[int, int], ...] = ()
    heads: tuple[Factor, ...] = ()
    site: Site | None = None
    matrix: bool = False
    counted: str | None = None
