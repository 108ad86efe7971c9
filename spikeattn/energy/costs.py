"""Cost tables: the energy of one operation in pJ, as data files in which every entry names its source and status.

A table is a TOML file with `name`, `title`, `source` and one `[entries.<operation>]` section per operation (`pj`,
`source`, `status`). The package's own stand in `tables/`; a path to a file of the same layout is accepted everywhere.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from spikeattn.errors import SpikeattnError, unknown

DEFAULT = "horowitz-45nm-fp32"
OPERATIONS = {
    "mac": "multiply-accumulate of a real-valued input",
    "ac": "addition that a spike triggers",
    "mask": "AND of two spikes",
}
STATUSES = ("confirmed", "unverified", "choice")


@dataclass(frozen=True)
class Cost:
    """Energy of one operation in pJ, where it comes from, and whether that was confirmed."""

    pj: float
    source: str
    status: str


@dataclass(frozen=True)
class CostTable:
    """Prices of all operations.

    Raises:
        SpikeattnError: an operation is missing or unknown, or a price is negative or no number.
    """

    name: str
    title: str
    source: str
    entries: Mapping[str, Cost]

    def __post_init__(self) -> None:
        for operation in self.entries:
            if operation not in OPERATIONS:
                raise unknown(f"operation in cost table {self.name!r}", operation, OPERATIONS)
        missing = [operation for operation in OPERATIONS if operation not in self.entries]
        if missing:
            raise SpikeattnError(
                f"cost table {self.name!r} has no price for {', '.join(missing)}: "
                f"add an [entries.{missing[0]}] section with pj, source and status"
            )
        for operation, cost in self.entries.items():
            number = isinstance(cost.pj, int | float) and not isinstance(cost.pj, bool)
            if not number or not math.isfinite(cost.pj) or cost.pj < 0:
                raise SpikeattnError(
                    f"cost table {self.name!r}: the price of {operation} is {cost.pj!r}, it must be a finite number of "
                    "pJ >= 0"
                )
            if cost.status not in STATUSES:
                raise unknown(f"status of {operation} in cost table {self.name!r}", str(cost.status), STATUSES)

    def price(self, operation: str) -> float:
        """pJ of one "mac", "ac" or "mask"."""
        if operation not in self.entries:
            raise unknown("operation", operation, self.entries)
        return float(self.entries[operation].pj)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], where: str) -> CostTable:
        """The table of a parsed TOML file; `where` names the file in errors."""
        for key, kind in (("name", str), ("title", str), ("source", str), ("entries", dict)):
            if not isinstance(record.get(key), kind):
                raise SpikeattnError(
                    f"{where}: {key!r} is missing or no {kind.__name__}; a cost table needs name, title, source and "
                    "[entries.<operation>] sections"
                )
        entries = {}
        for operation, entry in record["entries"].items():
            missing = [key for key in ("pj", "source", "status") if not isinstance(entry, dict) or key not in entry]
            if missing:
                raise SpikeattnError(f"{where}: [entries.{operation}] lacks {', '.join(missing)}")
            entries[operation] = Cost(entry["pj"], entry["source"], entry["status"])
        return cls(record["name"], record["title"], record["source"], entries)

    @classmethod
    def load(cls, path: str | Path) -> CostTable:
        """Read a TOML file of the layout described above."""
        path = Path(path)
        if not path.is_file():
            raise SpikeattnError(f"{path}: no such cost table; give a .toml file or one of {', '.join(list_costs())}")
        return _parse(path.read_bytes(), str(path))


def list_costs() -> tuple[str, ...]:
    """Names of the cost tables that come with the package."""
    folder = resources.files("spikeattn.energy") / "tables"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


def get_costs(costs: str | Path | CostTable = DEFAULT) -> CostTable:
    """The cost table of this name, of this `.toml` file, or the table itself.

    Raises:
        SpikeattnError: unknown name (with the closest), missing file, or a file that is no cost table.
    """
    if isinstance(costs, CostTable):
        return costs
    if isinstance(costs, Path) or costs.endswith(".toml"):
        return CostTable.load(costs)
    if costs not in list_costs():
        raise unknown("cost table", costs, list_costs())
    file = resources.files("spikeattn.energy") / "tables" / f"{costs}.toml"
    return _parse(file.read_bytes(), file.name)


def _parse(content: bytes, where: str) -> CostTable:
    try:
        record = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpikeattnError(f"{where}: not valid TOML ({error})") from error
    return CostTable.from_dict(record, where)
