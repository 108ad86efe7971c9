"""What commands print and write: aligned text for people, JSON for programs, tables as files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.boundary.visible_text import visible_cell, visible_json
from spikeattn.cli.options import WrongCommandLine
from spikeattn.cli.printed_table import Page, PrintedTable, Spare
from spikeattn.cli.terminal import quiet, say, say_file
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    import pandas as pd

FORMATS = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".tex": "latex", ".md": "markdown"}
LIST_FORMATS = {suffix: FORMATS[suffix] for suffix in (".csv", ".parquet", ".json")}


def note(text: str) -> None:
    """A line for the reader at the terminal, on standard error; with --quiet warnings alone."""
    if not quiet() or text.startswith("warning"):
        say(text, err=True)


def print_json(record: Any) -> None:
    """A record as JSON; NaN, for which JSON has no word, becomes null."""
    say_file(to_json(record))


def to_json(record: Any) -> str:
    """The text of `print_json`.

    File names that are no UTF-8, and characters that a terminal would obey, stand as escapes, which are read back as
    they were.
    """
    content = json.dumps(_plain(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return visible_json(content.encode("utf-8", "backslashreplace").decode("utf-8"))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries of plain values."""
    return [_plain(row) for row in frame.astype(object).to_dict("records")]


def text(
    frame: pd.DataFrame, formats: Mapping[str, Callable[[Any], str]] | None = None, spare: Spare = ()
) -> PrintedTable:
    """A list as aligned text; columns with a format are numbers and stand to the right.

    Args:
        spare: columns that a narrow terminal leaves out, see `PrintedTable`.
    """
    formats = formats or {}
    rows = [
        ["–" if _missing(value) else formats.get(str(name), _cell)(value) for name, value in row.items()]
        for row in frame.astype(object).to_dict("records")
    ]
    return _printed([list(frame.columns), *rows], [name in formats for name in frame.columns], spare)


def sheet_text(frame: pd.DataFrame, spare: Spare = ()) -> PrintedTable:
    """A table of a run as aligned text, in the layout that the report prints."""
    from spikeattn.reporting.tables.sheets import sheet_of

    sheet = sheet_of(frame)
    rows = [[cell.text for cell in row] for row in sheet.rows]
    return _printed([[c.title for c in sheet.columns], *rows], [c.kind == "number" for c in sheet.columns], spare)


def write_table(frame: pd.DataFrame, path: Path, record: Any, formats: Mapping[str, str] = FORMATS) -> None:
    """Write a table in the format of the file's suffix; the file appears whole or not at all.

    Args:
        record: what a .json file holds.
        formats: suffixes and formats that this table can be written in.
    """
    if path.suffix not in formats:
        raise WrongCommandLine(f"--out {path}: a table is written as {', '.join(formats)}")
    write_file(path, render(frame, formats[path.suffix], record))
    note(f"wrote {path}")


def hand_over(
    frame: pd.DataFrame,
    record: Any,
    as_text: Callable[[], Page],
    out: Path | None,
    as_json: bool,
    formats: Mapping[str, str] = FORMATS,
    filed: Any = None,
) -> None:
    """The end of a command: a table into the file of --out, its record as --json, or else both as text.

    Args:
        record: what --json prints.
        as_text: called where the table is printed.
        formats: suffixes and formats of --out.
        filed: what a .json file holds; `record` unless given.
    """
    if out is not None:
        write_table(frame, out, record if filed is None else filed, formats)
    if as_json:
        print_json(record)
    elif out is None:
        say(as_text())


def render(frame: pd.DataFrame, form: str, record: Any) -> bytes:
    """A table in one of `FORMATS` as the content of a file; `record` is what JSON holds."""
    if form == "parquet":
        return frame.to_parquet(index=False)
    if form == "csv":
        from spikeattn.storage import csv_text

        return csv_text.write(frame).encode()
    if form == "json":
        return to_json(record).encode()
    from spikeattn.reporting import to_latex, to_markdown

    return (to_latex if form == "latex" else to_markdown)(frame).encode()


def write_file(path: Path, content: bytes) -> None:
    """Replace a file by new content in one step."""
    from spikeattn.storage import files

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpikeattnError(f"{path}: cannot write ({error.strerror}); give another --out") from error
    files.write(path, content, "give another --out")


def number(value: float) -> str:
    """A whole number with a thousands separator."""
    return f"{value:,.0f}"


def headline(summary: Mapping[str, Any]) -> str:
    """The five numbers of a results table, one line each, from `Profile.summary`; then those of a comparison."""
    from spikeattn.boundary.number_format import NO_INTERVAL, amount, energy_unit, percent, rate, with_limits
    from spikeattn.boundary.terms import MEAN_RATE, MEAN_RATE_IS

    def shares(pair: Sequence[float | None]) -> str:
        return "" if None in pair else f" [{', '.join(percent(limit).removesuffix(' %') for limit in pair)}]"

    def energy(mj: float, limits: Sequence[float | None] = (None, None)) -> str:
        unit, factor = energy_unit([mj])
        value, interval = with_limits(mj / factor, *(None if limit is None else limit / factor for limit in limits))
        return f"{value} {unit}{' ' if interval else ''}{interval}"

    accuracy = f"not known: {summary['no_accuracy']}"
    if summary["accuracy"] is not None:
        accuracy = f"{percent(summary['accuracy'])}{shares(summary['accuracy_interval'])}"
        accuracy += f"  (Wilson interval, {summary['labelled_images']} images, T={summary['time_steps']})"
    dense = f"{amount(summary['ann_macs'])} MACs"
    if summary["ann_energy_mj"] is None:
        ratio = "not known: the cost table has no price for a MAC"
    else:
        ratio = "no energy was spent" if summary["ann_over_snn"] is None else f"{summary['ann_over_snn']:.3g} : 1"
        dense += f", {energy(summary['ann_energy_mj'])}"
    spent, level = energy(summary["energy_mj"], summary["energy_interval_mj"]), "95 %"
    if None in summary["energy_interval_mj"]:
        level = NO_INTERVAL
    return "\n".join(
        [
            f"accuracy   {accuracy}",
            f"mean rate  {rate(summary['mean_rate'])}  ({MEAN_RATE}: {MEAN_RATE_IS})",
            f"SOPs       {amount(summary['sops_per_image'])} per image, and {amount(summary['macs_per_image'])} MACs",
            f"energy     {spent} per image  ({level}; {summary['convention']}, {summary['costs']}; arithmetic only)",
            f"ANN : SNN  {ratio}  (the same network without spikes: {dense})",
            *(line["text"] for line in summary.get("lines", ())),
        ]
    )


def _printed(rows: Sequence[Sequence[str]], right: Sequence[bool], spare: Spare) -> PrintedTable:
    return PrintedTable([[visible_cell(cell) for cell in row] for row in rows], right, spare)


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    if _missing(value) or (isinstance(value, float) and math.isinf(value)):
        return None
    return value
