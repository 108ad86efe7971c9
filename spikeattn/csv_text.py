"""Tables as csv that a spreadsheet shows and never runs, and back.

A spreadsheet takes a cell that begins with "=", "+", "-" or "@" for a formula, which may start a program or send data
away, and names of classes and files are other people's. Such a cell gets an apostrophe in front, as OWASP advises (CSV
Injection); `read` takes it off again. Numbers stay numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pandas as pd

from spikeattn.storage import files

# The full-width forms too, which East Asian spreadsheets take for the plain ones. Apostrophes that stand there already
# count, so that a name such as "'=1" comes back as it was.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_GUARDED = re.compile("'" + _FORMULA.pattern)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def guarded(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; what is no text, or a number as text, as it is."""
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def restored(cell: Any) -> Any:
    """What `guarded` was given."""
    return cell[1:] if isinstance(cell, str) and _GUARDED.match(cell) else cell


def write(frame: pd.DataFrame, float_format: str | None = None) -> str:
    """A table as csv without its index; every csv of the package is written here.

    Args:
        float_format: as of `DataFrame.to_csv`; full precision unless given.
    """
    safe = _each(frame.reset_index(drop=True), guarded)
    return safe.to_csv(index=False, float_format=float_format, lineterminator="\n")


def save(frame: pd.DataFrame, path: str | Path, float_format: str | None = None) -> Path:
    """Write a table into a csv file, which appears whole or not at all; see `write`."""
    return files.write(Path(path), write(frame, float_format))


def read(file: str | Path | IO[str], **options: Any) -> pd.DataFrame:
    """A csv of this package or of others as a table; `options` are those of `pandas.read_csv`."""
    return _each(pd.read_csv(file, **options), restored)


def _each(frame: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    """A plain copy with every name of a column and every text changed; all else keeps its type."""
    columns = [_changed(frame.iloc[:, i], change) for i in range(frame.shape[1])]
    made = pd.concat(columns, axis=1) if columns else pd.DataFrame(frame)
    return made.set_axis([change(name) for name in frame.columns], axis=1)


def _changed(column: pd.Series, change: Callable[[Any], Any]) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    cells = column.astype(object)
    made = cells.map(change)
    return column if made.equals(cells) else made
