"""What one synapse, product or tensor of a network is: its part, block and role, and how they are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spikeattn.compat.moved import moved_name

KINDS = ("synapses", "products", "tensors")
# The parts of a network, as tables and names files have them; OTHER where nobody knows.
STEM, DOWNSAMPLING, CONV, QKV, PRODUCTS, PROJECTION, MLP1, MLP2, MIX, GATE, HEAD, OTHER = PARTS = (
    "SPS", "downsampling", "conv", "QKV", "attention", "projection", "MLP1", "MLP2", "mixing", "gate", "head", "other",
)  # fmt: skip
UNKNOWN = "unknown"
Ranges = Mapping[str, tuple[tuple[int, int], ...]]
Entries = Mapping[str, tuple["Entry", ...]]  # by kind


@dataclass(frozen=True)
class Entry:
    """What one synapse, product or tensor is.

    Attributes:
        name: as the ledger has it.
        part: "SPS", "QKV", "attention", ...; "other" where nobody knows.
        block: number of the block from 0; None outside the blocks.
        role: "q", "k", "v", or of a fused layer "qkv", "kv" in one word; names of the paper in a family that has some.
        known: "family", "names file", "dataflow", "order", "names" or "unknown".
        channels: of a fused layer, ranges (first, last + 1) of each role.
        nearest: of what stays "other", the part that it is most like.
        hook: of a tensor, its key in the rate script that the family published.
    """

    name: str
    part: str = OTHER
    block: int | None = None
    role: str | None = None
    known: str = UNKNOWN
    channels: Ranges = field(default_factory=dict)
    nearest: str | None = None
    hook: str | None = None


@dataclass(frozen=True)
class Extent:
    """How large one attention is.

    Attributes:
        queries, keys: tokens of one window that attend, and that are attended to; class tokens are among them.
        windows: into how many windows the tokens are cut; 1 where all attend to all.
        channels: of q and k, all heads together; `values` those of v.
    """

    queries: int
    keys: int
    windows: int
    channels: int
    values: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of softmax attention in its place, q k^T and its product with v: 2 N^2 D per window."""
        return self.windows * self.queries * self.keys * (self.channels + self.values)


def shown_channels(channels: Ranges) -> str | None:
    """Ranges as text: "q 0-63, k 64-127"."""
    if not channels:
        return None
    return ", ".join(f"{role} {'+'.join(f'{a}-{b - 1}' for a, b in found)}" for role, found in channels.items())


def of_names(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries by their names."""
    return {entry.name: entry for entry in entries}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
