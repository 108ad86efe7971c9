"""A published table of layers, read by its layout: what each row is, its rate, and what its authors computed for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from spikeattn.energy.layer_layouts import RATE_UNITS, SIZES, Layout, list_layouts, load_layout
from spikeattn.energy.table_files import Grid, letter, read_grid
from spikeattn.errors import SpikeattnError

_DEEPEST = 30  # rows above the titles, such as the prices in a spreadsheet; a table's titles stand near its top
_RATE_TEXT = re.compile(r"tensor\(\s*([0-9.eE+-]+)")


@dataclass(frozen=True)
class Printed:
    """A number as a table prints it: its value and half of its last digit, both in the unit of the package."""

    value: float
    half: float

    def times(self, factor: float) -> Printed:
        """The same in another unit."""
        return Printed(self.value * factor, self.half * factor)


@dataclass(frozen=True)
class LayerRow:
    """One row of a layer table.

    Attributes:
        line: of the file, from 1.
        kind: "mac" (receives no spikes), "ac", "neuron" or "other" (no layer with weights: batch norm, pool).
        receives: the tensor whose rate it is, "" where the table does not say.
        rate: share of non-zero elements, or mean value; of what a layer receives, of what neurons give.
        numbers: everything else by the name of its column in `Columns`; operations in ones, energies in pJ.
    """

    line: int
    name: str
    kind: str
    receives: str
    rate: Printed | None
    numbers: Mapping[str, Printed]

    def get(self, column: str) -> Printed | None:
        """A number of the row, None where the cell is blank or the table has no such column."""
        return self.numbers.get(column)

    @property
    def macs_by_size(self) -> float | None:
        """Dense operations from the row's own sizes, k^2 x C_in x C_out x H_out x W_out / groups; None without them."""
        sizes = [self.get(size) for size in SIZES]
        if any(size is None for size in sizes):
            return None
        c_in, c_out, kernel, height, width = (size.value for size in sizes if size is not None)
        groups = self.get("groups")
        return kernel**2 * c_in * c_out * height * width / (groups.value if groups else 1)

    @property
    def dense(self) -> float:
        """Dense operations, as printed or else from the sizes; of one step or of all, as the layout says."""
        printed, own = self.get("dense"), self.macs_by_size
        if printed is None and own is None:
            raise SpikeattnError(f"line {self.line}: {self.name} has neither dense operations nor the sizes for them")
        return printed.value if printed is not None else float(own or 0)


@dataclass(frozen=True)
class LayerTable:
    """A layer table of one layout.

    Attributes:
        totals: rows that sum up the others.
    """

    where: str
    layout: Layout
    rows: tuple[LayerRow, ...]
    totals: tuple[LayerRow, ...] = ()

    @property
    def layers(self) -> tuple[LayerRow, ...]:
        """Rows with weights."""
        return tuple(row for row in self.rows if row.kind in ("mac", "ac"))


def read_layers(path: str | Path, layout: Layout | str | Path | None = None) -> LayerTable:
    """A layer table from a csv or xlsx file.

    Args:
        layout: a `Layout` or the path of a map; without, the published layout whose titles the table has.

    Raises:
        SpikeattnError: the file cannot be read, its titles fit no layout or lack a column of the map, a cell is no
            number, a rate is below 0 or, as a share of non-zero elements, above 1.
    """
    _, sheets = read_grid(path)
    if layout is None:
        candidates = list(list_layouts().values())
    else:
        candidates = [layout if isinstance(layout, Layout) else load_layout(layout)]
    for chosen in candidates:
        for grid in sheets.values():
            if (titles := _titles(grid, chosen)) is not None:
                return _read(str(path), grid, titles, chosen)
    raise _no_layout(str(path), list(sheets.values()), candidates, own=layout is not None)


def has_columns(path: str | Path, *wanted: str) -> bool:
    """Whether the first row of a table has these titles."""
    grid, _ = read_grid(path)
    return set(wanted) <= set(grid[0])


def _titles(grid: Grid, layout: Layout) -> tuple[int, dict[str, int]] | None:
    """The row of titles and the place of every column; None where a title is missing."""
    wanted = set(layout.columns.titles().values()) | set(layout.columns.labels)
    for row, cells in enumerate(grid[:_DEEPEST]):
        places = {title: i for i, title in reversed(list(enumerate(cells))) if title}
        if not places:
            continue
        letters = {letter(i): i for i in range(len(cells))}
        found = {title: places.get(title, letters.get(title)) for title in wanted}
        if wanted & set(places) and all(place is not None for place in found.values()):
            return row, {title: place for title, place in found.items() if place is not None}
    return None


def _read(where: str, grid: Grid, titles: tuple[int, dict[str, int]], layout: Layout) -> LayerTable:
    head, places = titles
    reader = _Rows(where, layout, places)
    rows: list[LayerRow] = []
    totals: list[LayerRow] = []
    for line, cells in enumerate(grid[head + 1 :], start=head + 2):
        if not any(cells):
            continue
        cells = cells + [""] * (len(grid[head]) - len(cells))
        if any(cell.lower().rstrip(":") in layout.total_rows for cell in cells):
            totals.append(reader.row(line, cells, first=False, total=True))
        elif cells[places[layout.columns.rate]] or reader.name(cells):
            rows.append(reader.row(line, cells, first=not any(r.kind in ("mac", "ac") for r in rows)))
    if not any(row.kind in ("mac", "ac") for row in rows):
        raise SpikeattnError(f"{where}: no row of the table is a layer with weights (layout {layout.name!r})")
    return LayerTable(where, layout, tuple(rows), tuple(totals))


class _Rows:
    """Makes rows from lines of cells."""

    def __init__(self, where: str, layout: Layout, places: Mapping[str, int]) -> None:
        self.where, self.layout, self.places = where, layout, places

    def name(self, cells: list[str]) -> str:
        text = cells[self.places[self.layout.columns.layer]]
        if self.layout.name_pattern is not None and (match := re.search(self.layout.name_pattern, text)):
            text = match.group(match.re.groups and 1)
        return text or " ".join(filter(None, (cells[self.places[label]] for label in self.layout.columns.labels)))

    def row(self, line: int, cells: list[str], first: bool, total: bool = False) -> LayerRow:
        columns, layout = self.layout.columns, self.layout
        rate = self._number(line, cells, "fine_rate") or self._number(line, cells, "rate")
        numbers = {}
        for column in columns.titles():
            if column in ("layer", "kind", "receives", "rate", "fine_rate", "measured_rate"):
                continue
            if (number := self._number(line, cells, column)) is not None:
                numbers[column] = number
        if columns.measured_rate is not None:
            match = _RATE_TEXT.search(cells[self.places[columns.measured_rate]])
            if match is not None:
                numbers["measured_rate"] = _printed(match.group(1)) or Printed(float("nan"), 0)
        receives = cells[self.places[columns.receives]] if columns.receives else ""
        kind = "other" if total else self._kind(cells, first, receives, numbers)
        if rate is not None:
            rate = rate.times(RATE_UNITS[layout.rate_unit])
            high = rate.value > 1 and layout.rate_means == "non-zero" and kind in ("ac", "neuron")
            if rate.value < 0 or high:
                raise SpikeattnError(
                    f"{self.where}, line {line}: the rate of {self.name(cells)} is {rate.value:g}; a share of non-zero "
                    'elements lies between 0 and 1 (a map can say rate_unit = "percent", or rate_means = "value")'
                )
        elif kind == "ac":
            raise SpikeattnError(f"{self.where}, line {line}: {self.name(cells) or 'the layer'} has no rate")
        return LayerRow(line, self.name(cells), kind, self.name(cells) if receives else "", rate, numbers)

    def _kind(self, cells: list[str], first: bool, receives: str, numbers: Mapping[str, Printed]) -> str:
        layout, columns = self.layout, self.layout.columns
        kind = cells[self.places[columns.kind]] if columns.kind else ""
        if layout.layers and kind not in layout.layers:
            return "neuron" if kind in layout.neurons else "other"
        multiplies = {
            "first": first,
            "unnamed": not receives,
            "macs": "macs" in numbers and numbers["macs"].value > 0,
            "kind": kind in layout.mac_kinds,
            "none": False,
        }
        return "mac" if multiplies[layout.multiplies] else "ac"

    def _number(self, line: int, cells: list[str], column: str) -> Printed | None:
        title = getattr(self.layout.columns, column)
        if title is None or not (text := cells[self.places[title]]):
            return None
        printed = _printed(text)
        if printed is None:
            raise SpikeattnError(f"{self.where}, line {line}: {title} is {text!r}, which is no number")
        if column.startswith(("energy", "ann_energy")):
            return printed.times(self.layout.energy_pj)
        return printed.times(self.layout.dense_unit) if column.startswith("dense") else printed


def _printed(text: str) -> Printed | None:
    """A number from its text, with a thousands separator or without; None where it is none."""
    plain = text.replace(",", "") if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text) else text.rstrip("%").strip()
    try:
        number = Decimal(plain)
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(value := float(number)) == float("inf"):
        return None
    digits = int(number.as_tuple().exponent)
    # A whole number is exact; a float that a program wrote in full is so to its 16 digits.
    half = 0.0 if digits >= 0 else max(10.0**digits / 2, abs(value) * 1e-15)
    return Printed(value, half)


def _no_layout(where: str, grids: list[Grid], candidates: list[Layout], own: bool) -> SpikeattnError:
    head = next((row for grid in grids for row in grid[:_DEEPEST] if sum(map(bool, row)) > 1), [])
    has = ", ".join(cell for cell in head[:40] if cell)
    if own:
        wanted = [*candidates[0].columns.titles().values(), *candidates[0].columns.labels]
        every = {cell for grid in grids for row in grid[:_DEEPEST] for cell in row}
        missing = [title for title in wanted if title not in every] or wanted
        return SpikeattnError(
            f"{where} lacks {', '.join(repr(title) for title in missing)}, which the map {candidates[0].name!r} names; "
            f"its titles are {has}"
        )
    return SpikeattnError(
        f"{where}: its titles are those of no published layout ({', '.join(list_layouts())}); they are {has}. Write a "
        "map: a .toml file with name, formula and [columns] layer, rate, dense, energy = titles of this table, and "
        "give it with --map"
    )
