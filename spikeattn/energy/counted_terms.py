"""Terms: what a convention counts in a ledger, entry by entry; which terms there are is in `rules.py`.

One term is `factor x sum over the time steps of a source`; a source is a constant, a firing rate or an exact count. The
same terms are evaluated on the per-image count table and on a published table of rates.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikeattn.structure.entry import OTHER, PARTS

OTHER = OTHER
OPS = ("mac", "sop", "ac", "mask")
AMOUNTS = {"mac": "macs", "sop": "sops", "ac": "acs", "mask": "mask_ops"}  # the column of each in a table


@dataclass(frozen=True)
class Constant:
    """The same for every image: `times` is the number of time steps at which it is charged."""

    times: int


@dataclass(frozen=True)
class Rate:
    """The firing rates of these tensors, added up; by "nnz" (share of non-zero elements) or "abs" (mean |value|).

    `once` takes the first time step alone: the layer runs once per image, and its input is the same at every step.
    `least` takes one of the tensors instead of all: the one with the smallest mean over images and time steps.
    """

    tensors: tuple[str, ...]
    by: str
    once: bool = False
    least: bool = False


@dataclass(frozen=True)
class Count:
    """A column of the count table: "nnz" or "abs" of a tensor, "fan_nnz" or "fan_abs" of a synapse, "pairs" or
    "pairs_abs" of a product.

    `once` as in `Rate`.
    """

    measure: str
    name: str
    once: bool = False


@dataclass(frozen=True)
class Term:
    """Operations of one synapse or product: `factor` x the sum of `source` over the time steps, per image.

    Attributes:
        op: "mac", "sop" (addition at a weight or in a product of spikes), "ac" (any other addition) or "mask".
        ceiling: the largest amount one image can reach; infinite for integer spikes, which have no largest value.
    """

    name: str
    part: str
    block: int | None
    op: str
    factor: float
    source: Constant | Rate | Count
    ceiling: float


def part_order(part: str) -> tuple[int, str]:
    """Sorts parts in the order of the network, those of other models behind them by name."""
    return (PARTS.index(part) if part in PARTS else len(PARTS)), part
