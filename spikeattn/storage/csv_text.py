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

# What begins a formula; the full-width forms too, which East Asian spreadsheets take for the plain ones. Behind a
# semicolon, a tab or the end of a line a cell begins as well: where the comma is the decimal sign, spreadsheets split
# lines at semicolons, and quotes within a line are letters. Apostrophes that stand there already count as part of the
# formula, so that a name such as "'=1" comes back as it was.
_BEGIN = r"(?:^|(?<=[;\t\r\n]))"
_FORMULA = r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_BARE = re.compile(f"{_BEGIN}(?={_FORMULA})")
_GUARDED = re.compile(f"{_BEGIN}'(?={_FORMULA})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def guarded(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; what is no text, or a number as text, as it is."""
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell):
        return cell
    return _BARE.sub("'", cell)


def restored(cell: Any) -> Any:
    """What `guarded` was given."""
    return _GUARDED.sub("", cell) if isinstance(cell, str) else cell


def write(frame: pd.DataFrame, float_format: str | None = None) -> str:
    """A table as csv without its index; every csv of the package is written here.

    Args:
        float_format: as of `DataFrame.to_csv`; full precision unless given.
    """
    safe = _each(frame.reset_index(drop=True), guarded)
    text = safe.to_csv(index=False, float_format=float_format, lineterminator="\n")
    if "\r" not in text:
        return text
    # Only under this end of line, the standard's own, does Python put a cell with a carriage return into quotes.
    return safe.to_csv(index=False, float_format=float_format, lineterminator="\r\n")


def save(frame: pd.DataFrame, path: str | Path, float_format: str | None = None) -> Path:
    """Write a table into a csv file, which appears whole or not at all; see `write`."""
    return files.write(Path(path), write(frame, float_format))


def read(file: str | Path | IO[str] | IO[bytes], **options: Any) -> pd.DataFrame:
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
