"""The structure of a network: an entry for every synapse, product and tensor, and facts by block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from spikeattn.errors import SpikeattnError, unknown
from spikeattn.storage import files
from spikeattn.storage.ledger import Ledger
from spikeattn.structure.entry import KINDS, OTHER, UNKNOWN, Entries, Entry, Extent, shown_channels
from spikeattn.structure.names_file import NAMES_FILE, named, text_of


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

    entries: Entries
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
        return self if names is None else replace(self, entries=named(self.entries, names))

    def write_names(self, path: str | Path, force: bool = False) -> Path:
        """Write the structure as a names file (TOML) to edit; never over a file that exists, unless forced."""
        path = Path(path)
        if path.exists() and not force:
            raise SpikeattnError(f"{path}: exists already; give another name, or force=True to write over it")
        return files.write(path, text_of(self.entries))

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


def _alike(by_block: Mapping[int, Any]) -> Any:
    values = list(by_block.values())
    if not values:
        return None
    return values[0] if all(value == values[0] for value in values) else dict(by_block)


def named_ledger(ledger: Ledger, names: str | Path | Mapping[str, Any], also: Entries | None = None) -> Ledger:
    """A ledger with the entries of a names file; `also` as of `names_file.named`."""
    structure = Structure.of_ledger(ledger)
    structure = replace(structure, entries=named(structure.entries, names, also))
    changed: dict[str, Any] = {
        kind: tuple(
            replace(own, part=None if e.part == OTHER else e.part, block=e.block, role=e.role, known=e.known)
            if e.known == NAMES_FILE else own
            for own, e in zip(getattr(ledger, kind), entries, strict=True)
        )
        for kind, entries in structure.entries.items()
    }  # fmt: skip
    return replace(ledger, structure=structure.record(), **changed)
