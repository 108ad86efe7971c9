"""Cost tables: the energy of one operation in pJ, as data files in which every entry names its source and status.

The package's own stand in `tables/`; a path to a user's `.toml` file is accepted everywhere. Its layout:

    name = "mine"                    # printed with every figure
    title = "our chip, 22 nm"
    source = "data sheet, table 3"
    bits = 16                        # optional: bits of a weight, an activation, a membrane potential (memory models)

    [entries.mac]                    # the operations of OPERATIONS; mac, ac and mask are needed, or sop alone
    pj = 1.5
    source = "data sheet, table 3"
    status = "confirmed"             # one of STATUSES

    [memory.sram-8kb]                # optional: one section per memory, for the models of `memory.py`
    pj = 10                          # one access
    bytes = 8192                     # size of the memory; left out for the memory off the chip, which has any size
    access_bits = 64                 # what one access can bring
    source = "data sheet, table 4"
    status = "confirmed"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from spikeattn.boundary import file_text, schema
from spikeattn.boundary.arguments import shown
from spikeattn.boundary.marks import Limits, OneOf
from spikeattn.boundary.notes import Note
from spikeattn.errors import SpikeattnError, unknown

DEFAULT = "horowitz-45nm-fp32"
PJ_TO_MJ = 1e-9  # pJ are 1e-12 J, mJ 1e-3 J
OPERATIONS = {
    "mac": "multiply-accumulate of a real-valued input",
    "ac": "addition that a spike triggers",
    "mask": "AND of two spikes",
    "sop": "synaptic operation, where that has a price of its own (chips); elsewhere it is an ac",
    "add": "one addition alone",
    "mult": "one multiplication alone",
    "address_add": "addition of two addresses",
    "address_mult": "multiplication of two addresses",
}
ARITHMETIC = ("mac", "ac", "mask")
STATUSES = {
    "confirmed": "read in the source or in a peer-reviewed copy of it",
    "choice": "ours, explained in its source",
    "secondary": "seen in one secondary source",
    "unverified": "not checked; never in a table of the package",
}
_EXPECTED = "a cost table with name, title, source and [entries.<operation>] sections"

Price = Annotated[float, Limits(0)]
Status = Annotated[str, OneOf(tuple(STATUSES))]
Size = Annotated[int, Limits(1)]


@dataclass(frozen=True)
class Cost:
    """Energy of one operation in pJ, where it comes from, and whether that was confirmed."""

    pj: Price
    source: str
    status: Status


@dataclass(frozen=True)
class MemoryCost:
    """Energy of one access in pJ to a memory of `bytes` bytes (None: off the chip), bringing `access_bits` bits."""

    pj: Price
    bytes: Size | None
    access_bits: Size
    source: str
    status: Status


@dataclass(frozen=True)
class CostTable:
    """Prices of operations, and of memory accesses where the table has them.

    A table prices either all of `ARITHMETIC` or, as for a chip, `sop`; what it does not price is reported, never 0.

    Attributes:
        memory: accesses by name of the memory; empty where the table has no prices of memories.
        bits: of one word in memory (a weight, an activation, a membrane potential); None where the table does not say.

    Raises:
        SpikeattnError: an operation is missing or unknown, or a field is not as its annotation says.
    """

    name: str
    title: str
    source: str
    entries: Mapping[str, Cost]
    memory: Mapping[str, MemoryCost] = field(default_factory=dict)
    bits: Size | None = None

    def __post_init__(self) -> None:
        where = f"cost table {self.name!r}"
        schema.check_fields(self, where)
        for operation in self.entries:
            if operation not in OPERATIONS:
                raise unknown(f"operation in {where}", operation, OPERATIONS)
        missing = [operation for operation in ARITHMETIC if operation not in self.entries]
        if missing and "sop" not in self.entries:
            raise SpikeattnError(
                f"{where} has no price for {', '.join(missing)}: add an [entries.{missing[0]}] section with pj, source "
                "and status (a chip that has nothing but a price per synaptic operation needs [entries.sop] alone)"
            )
        sizes = [memory.bytes for memory in self.memory.values()]
        if len(set(sizes)) < len(sizes):
            raise SpikeattnError(f"{where}: two memories have the same size; each needs another number of bytes")

    def has(self, operation: str) -> bool:
        """Whether the table has a price for this operation of `OPERATIONS`; a "sop" may be priced as an "ac"."""
        return self._entry(operation) in self.entries

    def price(self, operation: str) -> float:
        """pJ of one operation of `OPERATIONS`; a "sop" without a price of its own costs an "ac".

        Raises:
            SpikeattnError: unknown operation, or one that this table does not price.
        """
        entry = self._entry(operation)
        if entry not in self.entries:
            raise SpikeattnError(
                f"cost table {self.name!r} has no price for {operation} ({OPERATIONS[operation]}), only for "
                f"{', '.join(self.entries)}; take a table that has one, or write your own"
            )
        return float(self.entries[entry].pj)

    def _entry(self, operation: str) -> str:
        if operation not in OPERATIONS:
            raise unknown("operation", operation, OPERATIONS)
        return "ac" if operation == "sop" and "sop" not in self.entries else operation

    @property
    def status(self) -> str:
        """The weakest status of any price above 0, in the order of `STATUSES`."""
        costs: tuple[Cost | MemoryCost, ...] = (*self.entries.values(), *self.memory.values())
        return max((cost.status for cost in costs if cost.pj > 0), key=list(STATUSES).index, default="choice")

    def notes(self) -> list[Note]:
        """What a reader must know about these prices: every one that is not confirmed (choices aside)."""
        costs: dict[str, Cost | MemoryCost] = {**self.entries, **self.memory}
        notes = []
        for status in ("secondary", "unverified"):
            weak = [name for name, cost in costs.items() if cost.status == status]
            if weak:
                notes.append(Note("cost-status", f"{self.name}: {', '.join(weak)}: {status}, {STATUSES[status]}"))
        return notes

    def frame(self) -> pd.DataFrame:
        """All entries: entry, pj, per ("operation" or "64-bit access"), bytes (size of a memory), source, status."""
        rows: list[tuple[str, float, str, int | None, str, str]] = [
            (entry, cost.pj, "operation", None, cost.source, cost.status) for entry, cost in self.entries.items()
        ]
        rows += [
            (entry, cost.pj, f"{cost.access_bits}-bit access", cost.bytes, cost.source, cost.status)
            for entry, cost in self.memory.items()
        ]
        frame = pd.DataFrame(rows, columns=["entry", "pj", "per", "bytes", "source", "status"])
        return frame.astype({"pj": float, "bytes": "Int64"})

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], where: str) -> CostTable:
        """The table of a parsed TOML file; `where` names the file in errors."""
        return schema.read(cls, record, where, null=None)

    @classmethod
    def load(cls, path: str | Path) -> CostTable:
        """Read a TOML file of the layout described above."""
        path = Path(path)
        if not path.is_file():
            raise SpikeattnError(f"{path}: no such cost table; give a .toml file or one of {', '.join(list_costs())}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SpikeattnError(f"{path}: cannot be read ({error.strerror}); expected {_EXPECTED}") from error
        return cls.from_dict(file_text.parse_toml(content, str(path), _EXPECTED), str(path))


def list_costs() -> tuple[str, ...]:
    """Names of the cost tables that come with the package: the default, other arithmetic, then chips."""
    return tuple(_shipped())


def get_costs(costs: str | Path | CostTable = DEFAULT) -> CostTable:
    """The cost table of this name, of this `.toml` file, or the table itself.

    Raises:
        SpikeattnError: unknown name (with the closest), missing file, or a file that is no cost table.
    """
    if isinstance(costs, CostTable):
        return costs
    if not isinstance(costs, str | Path):
        raise SpikeattnError(
            f"costs is {shown(costs)}; give one cost table: a name of list_costs(), a .toml file, or a CostTable"
        )
    if isinstance(costs, Path) or costs.endswith(".toml"):
        return CostTable.load(costs)
    if costs not in _shipped():
        raise unknown("cost table", costs, _shipped())
    return _shipped()[costs]


def get_cost_tables(costs: Any) -> list[CostTable]:
    """One cost table or several, as `get_costs` takes each, without repetition.

    Raises:
        SpikeattnError: none at all, and whatever `get_costs` refuses.
    """
    several = isinstance(costs, Iterable) and not isinstance(costs, str | bytes | Mapping)
    tables = {table.name: table for table in map(get_costs, costs if several else [costs])}
    if not tables:
        raise SpikeattnError("costs is empty; give at least one cost table")
    return list(tables.values())


@cache
def _shipped() -> dict[str, CostTable]:
    """The package's tables by name; `chips.toml` holds one table per chip."""
    folder = resources.files("spikeattn.energy") / "tables"
    files = [file for file in folder.iterdir() if file.name.endswith(".toml")]
    records = {file.name: file_text.parse_toml(file.read_bytes(), file.name, _EXPECTED) for file in files}
    chips = records.pop("chips.toml")["chips"]
    tables = [CostTable.from_dict(record, where) for where, record in sorted(records.items())]
    tables.sort(key=lambda table: table.name != DEFAULT)
    for name, chip in chips.items():
        title = chip.pop("title")
        tables.append(CostTable(name, title, chip["source"], {"sop": Cost(**chip)}))
    return {table.name: table for table in tables}
