"""A table that somebody published, csv or xlsx, as a grid of text cells with the digits that stand in the file."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib import resources
from pathlib import Path

import pandas as pd

from spikeattn.boundary import arguments
from spikeattn.compat.extras import missing_extra
from spikeattn.compat.python_names import Traversable
from spikeattn.errors import SpikeattnError
from spikeattn.storage import csv_text

Grid = list[list[str]]
SUFFIXES = (".csv", ".xlsx")


def read_grid(path: str | Path) -> tuple[Grid, dict[str, Grid]]:
    """The cells of a csv file, or of every sheet of an xlsx file; row i of the grid is line i + 1 of the file.

    Args:
        path: of the file, or the name of a table of the package (`list_layer_tables`).

    Returns:
        The first sheet, and all sheets by name.

    Raises:
        SpikeattnError: no such file, another suffix, not readable as what its suffix says, or an xlsx file without
            openpyxl.
    """
    path = arguments.path("table", path)
    if not path.exists() and path.name == str(path) and path.name in list_layer_tables():
        grid = _csv(path, _packaged(path.name).read_bytes())
        return grid, {"": grid}
    if path.suffix.lower() not in SUFFIXES:
        raise SpikeattnError(
            f"{path}: a layer table is a file with the suffix {' or '.join(SUFFIXES)}, or one of the package: "
            f"{', '.join(list_layer_tables())}"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpikeattnError(f"{path}: cannot be read ({error.strerror}); give a .csv or .xlsx file") from error
    sheets = _xlsx(path, content) if path.suffix.lower() == ".xlsx" else {"": _csv(path, content)}
    sheets = {name: grid for name, grid in sheets.items() if any(map(any, grid))}
    if not sheets:
        raise SpikeattnError(f"{path}: the table is empty; give one with a row of titles and a row per layer")
    return next(iter(sheets.values())), sheets


@cache
def list_layer_tables() -> tuple[str, ...]:
    """Names of the published layer tables that come with the package."""
    return tuple(sorted(name.removesuffix(".csv") for name in _tables() if name.startswith("layers_")))


def _tables() -> list[str]:
    return [file.name for file in _packaged("").iterdir() if file.name.endswith(".csv")]


def _packaged(name: str) -> Traversable:
    folder = resources.files("spikeattn.energy") / "tables"
    return folder / f"{name}.csv" if name else folder


def _csv(path: Path, content: bytes) -> Grid:
    try:
        widest = max((line.count(b",") for line in content.splitlines()), default=0) + 1
        frame = csv_text.read(
            io.BytesIO(content), header=None, names=range(widest), dtype=str, keep_default_na=False,
            skip_blank_lines=False, encoding="utf-8-sig", index_col=False,
        )  # fmt: skip
    except pd.errors.EmptyDataError:
        return []
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise SpikeattnError(f"{path}: not a csv file in UTF-8 ({' '.join(str(error).split())})") from error
    return [[cell.strip() if isinstance(cell, str) else "" for cell in row] for row in frame.to_numpy().tolist()]


def _xlsx(path: Path, content: bytes) -> dict[str, Grid]:
    try:
        book = pd.read_excel(io.BytesIO(content), sheet_name=None, header=None, dtype=object, engine="openpyxl")
    except ImportError as error:
        raise missing_extra(f"{path}: reading .xlsx", "openpyxl", ", or save the sheet as .csv") from error
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise SpikeattnError(f"{path}: not an .xlsx file ({' '.join(str(error).split())})") from error
    return {str(name): [[_text(v) for v in row] for row in sheet.to_numpy().tolist()] for name, sheet in book.items()}


def _text(value: object) -> str:
    """A cell as text; a blank one, which pandas reads as NaN, is empty."""
    return "" if value is None or value != value else str(value).strip()


def letter(column: int) -> str:
    """What a spreadsheet calls a column: A for 0, AA for 26."""
    name = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(ord("A") + rest) + name
    return name
