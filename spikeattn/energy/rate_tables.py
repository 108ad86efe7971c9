"""Published tables of firing rates, read and checked against the network that they belong to.

The layout is that of Table S1 of the Spike-driven Transformer paper (arXiv 2307.01694): columns part ("SPS", "Block1"
... or "Head"), module, tensor (the paper's name), T1..Tn and average; every rate is a share in [0, 1]. Table S1 itself
comes with the package, as `table_s1_sdt_8_512`.
"""

from __future__ import annotations

import io
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.boundary import arguments
from spikeattn.energy.rules import roles_of
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.stats.intervals import Floats
from spikeattn.storage import csv_text
from spikeattn.storage.ledger import Ledger

_DIGITS = 6  # of a block or a time step; no network has a million of either
_STEP = rf"T\d{{1,{_DIGITS}}}"


def read_rates(rates: pd.DataFrame | str | Path, ledger: Ledger) -> dict[str, Floats]:
    """Rates [T] by tensor name from a table in the layout of Table S1, checked row by row against the ledger."""
    where, frame = _frame(rates)
    steps = sorted((column for column in frame.columns if re.fullmatch(_STEP, str(column))), key=lambda c: int(c[1:]))
    T = ledger.time_steps
    if steps and steps != [f"T{t}" for t in range(1, T + 1)]:
        raise SpikeattnError(f"{where} has time steps {', '.join(steps)}, the model has {T} (T1..T{T})")
    roles = roles_of(ledger)
    by_name: dict[str, Floats] = {}
    unfit = []
    for row in frame.to_dict("records"):
        if row["part"] == "Input":  # the images, which our own export of rates lists too
            continue
        label = f"{row['part']} {row['tensor']}"
        tensor = roles.get((_block(row["part"]), str(row["tensor"])))
        if tensor is None:
            unfit.append(label)
            continue
        if tensor.name in by_name:
            raise SpikeattnError(f"{where}: the row {label!r} stands twice")
        numbers = pd.to_numeric(pd.Series([row[step] for step in steps or ["average"] * T]), errors="coerce").to_numpy()
        if not ((numbers >= 0) & (numbers <= 1)).all():
            printed = ", ".join(str(row[step]) for step in steps or ["average"])
            raise SpikeattnError(f"{where}: the rates of {label!r} are {printed}; a rate is a number from 0 to 1")
        by_name[tensor.name] = numbers.astype(np.float64)
    if unfit:
        known = ", ".join(f"{_part(block)} {role}" for block, role in list(roles)[:6])
        raise SpikeattnError(
            f"{where}: {len(unfit)} of {len(frame)} rows are no tensor of this model, the first is {unfit[0]!r}; "
            + (f"its tensors are {known}, ..." if roles else "the tensors of this model carry no paper names")
        )
    return by_name


def list_rate_tables() -> tuple[str, ...]:
    """Names of the published rate tables that come with the package."""
    return tuple(sorted(name for name in _csv_files() if name.startswith("table_")))


def packaged_table(name: str) -> pd.DataFrame:
    """A csv file of the package as text columns, digits as printed; `name` is without its suffix."""
    if name not in _csv_files():
        raise unknown("published table", name, _csv_files())
    with (resources.files("spikeattn.energy") / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return csv_text.read(file, dtype=str, keep_default_na=False)


def _csv_files() -> list[str]:
    folder = resources.files("spikeattn.energy") / "tables"
    return [file.name.removesuffix(".csv") for file in folder.iterdir() if file.name.endswith(".csv")]


def _frame(rates: pd.DataFrame | str | Path) -> tuple[str, pd.DataFrame]:
    where = "the rate table"
    if not isinstance(rates, pd.DataFrame):
        rates = arguments.path("rates", rates) if not isinstance(rates, str) else rates
        where = f"rate table {rates}"
        if not Path(rates).is_file() and str(rates).removesuffix(".csv") in list_rate_tables():
            return where, packaged_table(str(rates).removesuffix(".csv"))
        if not Path(rates).is_file():
            raise SpikeattnError(
                f"{where}: no such file; expected a csv with columns part, tensor, T1..Tn, average, or the name of a "
                f"table of the package: {', '.join(list_rate_tables())}"
            )
        try:
            with open(rates, "rb") as file:  # not a path: pandas takes those such as http:x for addresses
                content = file.read()
            names = csv_text.read(io.BytesIO(content), header=None, nrows=1, dtype=str).iloc[0].tolist()
            rates = csv_text.read(io.BytesIO(content))  # where a column stands twice, pandas renames the second
        except OSError as error:
            raise SpikeattnError(f"{where}: cannot be read ({error.strerror})") from error
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise SpikeattnError(f"{where}: not a csv file in UTF-8 ({' '.join(str(error).split())})") from error
        if twice := [name for name in names if names.count(name) > 1]:
            raise SpikeattnError(f"{where} has the column {twice[0]!r} twice; leave one")
    missing = [column for column in ("part", "tensor") if column not in rates.columns]
    if not missing and "average" not in rates.columns and "T1" not in rates.columns:
        missing = ["T1..Tn or average"]
    if missing:
        raise SpikeattnError(f"{where} lacks {', '.join(missing)}; it has {', '.join(map(str, rates.columns))}")
    if rates.empty:
        raise SpikeattnError(f"{where} has no rows")
    return where, rates


def _block(part: Any) -> int | None:
    match = re.fullmatch(r"[Bb]lock\s*(\d+)", str(part))
    if match is None:
        return None
    return int(match.group(1)) - 1 if len(match.group(1)) <= _DIGITS else -1  # no model has that one


def _part(block: int | None) -> str:
    return "SPS/Head" if block is None else f"Block{block + 1}"
