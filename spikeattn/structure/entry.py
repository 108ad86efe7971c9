"""What the structure of a network holds: an entry for every synapse, product and tensor, and facts by block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from spikeattn.errors import SpikeattnError, unknown
from spikeattn.storage import files
from spikeattn.storage.ledger import Ledger

KINDS = ("synapses", "products", "tensors")
Ranges = Mapping[str, tuple[tuple[int, int], ...]]
OTHER, UNKNOWN = "other", "unknown"


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


@dataclass(frozen=True)
class Structure:
    """Part, block and role of everything in a network, and its token grid and heads.

    Attributes:
        entries: by kind ("synapses", "products", "tensors"), in the order of execution.
        grids, head_counts, classes: token grid (h, w), heads and class tokens by block; heads are None where the
            attention of a block gives the same with any number of them.
        family: name of the family that was recognised, None for the others.
        attention: extents of the attentions of every block; a block may have several.
        composites: names of layers that act as one linear map, as RepConv does before its branches are merged.
        modules: entries of what other modules and operations hand out, by path, which a ledger may name.
        operations: entries of other operations, by path, by what they belong to.
    """

    entries: Mapping[str, tuple[Entry, ...]]
    grids: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    head_counts: Mapping[int, int | None] = field(default_factory=dict)
    classes: Mapping[int, int] = field(default_factory=dict)
    family: str | None = None
    attention: Mapping[int, tuple[Extent, ...]] = field(default_factory=dict)
    composites: tuple[tuple[str, ...], ...] = ()
    modules: Mapping[str, Entry] = field(default_factory=dict, repr=False)
    operations: Mapping[str, Entry] = field(default_factory=dict, repr=False)

    @property
    def grid(self) -> tuple[int, int] | dict[int, tuple[int, int]] | None:
        """Token grid (h, w); by block where blocks differ; None without tokens on a grid."""
        return _alike(self.grids)

    @property
    def heads(self) -> int | dict[int, int | None] | None:
        """Heads of the attention; by block where blocks differ; None where they have no effect."""
        return _alike(self.head_counts)

    @property
    def class_tokens(self) -> int | dict[int, int]:
        """Class tokens in front of or behind the grid's; by block where blocks differ."""
        found = _alike(self.classes)
        return 0 if found is None else found

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return max((e.block + 1 for e in self.entries["synapses"] if e.block is not None), default=0)

    def table(self, what: str = "synapses") -> pd.DataFrame:
        """One row per synapse: synapse, part, block, role, known, channels (of fused layers), nearest.

        Args:
            what: "products" or "tensors" for those instead; the first column is then called product or tensor.
        """
        if what not in KINDS:
            raise unknown("kind of entries", what, KINDS)
        rows = [
            (e.name, e.part, e.block, e.role, e.known, shown_channels(e.channels), e.nearest)
            for e in self.entries[what]
        ]
        columns = [what[:-1], "part", "block", "role", "known", "channels", "nearest"]
        return pd.DataFrame(rows, columns=columns).astype({"block": "Int64"})

    def __repr__(self) -> str:
        synapses = self.entries["synapses"]
        known = sum(e.known != UNKNOWN for e in synapses)
        return f"<Structure: {known} of {len(synapses)} synapses known, {self.blocks} blocks, grid {self.grid}>"

    def named(self, names: str | Path | Mapping[str, Any] | None) -> Structure:
        """The same with the entries of a names file, or of a mapping as one holds it.

        Raises:
            SpikeattnError: a key that fits nothing, with the closest names; a part that does not exist.
        """
        from spikeattn.structure.names_file import apply

        return self if names is None else apply(self, names)

    def write_names(self, path: str | Path, force: bool = False) -> Path:
        """Write the structure as a names file (TOML) to edit; never over a file that exists, unless forced."""
        from spikeattn.structure.names_file import text_of

        path = Path(path)
        if path.exists() and not force:
            raise SpikeattnError(f"{path}: exists already; give another name, or force=True to write over it")
        return files.write(path, text_of(self))

    # ---------------------------------------------------------------- in a ledger
    def record(self) -> dict[str, Any]:
        """What does not stand in the entries of a ledger, as JSON types."""
        lists = {
            kind: {
                e.name: {role: [list(r) for r in found] for role, found in e.channels.items()}
                for e in self.entries[kind]
                if e.channels
            }
            for kind in KINDS
        }
        nearest = {e.name: e.nearest for e in self.entries["synapses"] if e.nearest}
        return {
            "grid": {str(block): list(grid) for block, grid in self.grids.items()},
            "heads": {str(block): heads for block, heads in self.head_counts.items()},
            "class_tokens": {str(block): n for block, n in self.classes.items()},
            "channels": lists,
            "nearest": nearest,
            "family": self.family,
            "attention": {str(block): [asdict(e) for e in several] for block, several in self.attention.items()},
            "composites": [list(names) for names in self.composites],
        }

    @classmethod
    def of_ledger(cls, ledger: Ledger) -> Structure:
        """The structure that a ledger holds; of versions that inferred none, what the model itself said."""
        record = ledger.structure
        channels, nearest = record.get("channels", {}), record.get("nearest", {})
        entries = {
            kind: tuple(
                Entry(
                    e.name, e.part or OTHER, e.block, e.role, e.known or ("family" if e.part else UNKNOWN),
                    {r: tuple((a, b) for a, b in found) for r, found in channels.get(kind, {}).get(e.name, {}).items()},
                    nearest.get(e.name) if kind == "synapses" else None,
                    getattr(e, "hook", None),
                )
                for e in getattr(ledger, kind)
            )
            for kind in KINDS
        }  # fmt: skip
        return cls(
            entries,
            {int(block): (grid[0], grid[1]) for block, grid in record.get("grid", {}).items()},
            {int(block): heads for block, heads in record.get("heads", {}).items()},
            {int(block): n for block, n in record.get("class_tokens", {}).items()},
            record.get("family"),
            {int(b): tuple(Extent(**e) for e in several) for b, several in record.get("attention", {}).items()},
            tuple(tuple(names) for names in record.get("composites", ())),
        )


def shown_channels(channels: Ranges) -> str | None:
    """Ranges as text: "q 0-63, k 64-127"."""
    if not channels:
        return None
    return ", ".join(f"{role} {'+'.join(f'{a}-{b - 1}' for a, b in found)}" for role, found in channels.items())


def _alike(found: Mapping[int, Any]) -> Any:
    values = list(found.values())
    if not values:
        return None
    return values[0] if all(value == values[0] for value in values) else dict(found)


def of_names(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries by their names."""
    return {entry.name: entry for entry in entries}
