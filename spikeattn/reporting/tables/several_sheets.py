"""The sheets of several runs side by side: what each gives, how far it is from the first, and its energy by part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import (
    MISSING,
    NO_INTERVAL,
    count_unit,
    energy_unit,
    known,
    percent,
    rate_with_limits,
    significant,
    with_bound,
    with_limits,
)
from spikeattn.boundary.terms import MEAN_RATE, MEAN_RATE_IS, begun
from spikeattn.reporting.tables.several_runs import OTHER_IMAGES
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet

_MINUS = "\u2212"
_CONSTANT = "the same on every image"
Row = Mapping[Any, Any]


def runs_sheet(table: pd.DataFrame) -> Sheet:
    """Every run by itself, with intervals over its own images; what is the same for all has no column."""
    (unit, factor), (prefix, size) = energy_unit(table["energy_mj"]), count_unit(table["sops"])
    models = not (table["model"] == table["run"]).all()
    images, steps = (table[name].nunique() > 1 for name in ("images", "time_steps"))
    columns = [Column("Run", "text"), *([Column("Model", "text")] if models else [])]
    columns += [Column("Images")] if images else []
    columns += [Column("T", note="time steps")] if steps else []
    columns += [
        Column("Accuracy"), Column("Wilson interval"), Column(begun(MEAN_RATE), note=MEAN_RATE_IS), Column("Interval"),
        Column(f"SOPs ({prefix})" if prefix else "SOPs", note="additions that spikes cause, per image"),
        Column("Interval"), Column(f"Energy ({unit})", note="per image"), Column("Interval"),
    ]  # fmt: skip
    rows = []
    for row in table.to_dict("records"):
        untrained = " (UNTRAINED)" if row["weights"] == "UNTRAINED" else ""
        cells = [Cell(f"{row['run']}{untrained}", row["run"])]
        cells += [Cell(str(row["model"]), row["model"])] if models else []
        cells += [Cell(f"{row['images']:,}", row["images"])] if images else []
        cells += [Cell(str(row["time_steps"]), row["time_steps"])] if steps else []
        limits = f"[{row['accuracy_low'] * 100:.1f}, {row['accuracy_high'] * 100:.1f}] %"
        cells += [Cell(percent(row["accuracy"]), row["accuracy"])]
        cells += [Cell(limits if known(row["accuracy"]) else MISSING, row["accuracy_low"])]
        bound = row["mean_rate_interval"] == "upper bound"
        of_rate = rate_with_limits(row["mean_rate"], row["mean_rate_low"], row["mean_rate_high"], bound)
        cells += _pair(row, "mean_rate", *of_rate)
        for name, divisor in (("sops", size), ("energy_mj", factor)):
            cells += _pair(row, name, *_limited(row, name, divisor))
        rows.append(tuple(cells))
    return Sheet(tuple(columns), tuple(rows))


def differences_sheet(table: pd.DataFrame) -> Sheet:
    """Every run against the first, with intervals over the images that both have."""
    (unit, factor), (prefix, size) = energy_unit(table["energy_mj"]), count_unit(table["sops"])
    columns = (
        Column("Run", "text"), Column("Accuracy (points)", note="percentage points"), Column("Interval"),
        Column(begun(MEAN_RATE), note=MEAN_RATE_IS), Column("Interval"),
        Column(f"SOPs ({prefix})" if prefix else "SOPs", note="per image"), Column("Interval"),
        Column(f"Energy ({unit})", note="per image"), Column("Interval"),
        Column("Energy ratio", note="energy / energy of the first run"), Column("Interval"),
    )  # fmt: skip
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(str(row["run"]), row["run"])]
        for name, divisor in (("accuracy", 0.01), ("mean_rate", 1.0), ("sops", size), ("energy_mj", factor)):
            value, limits = _limited(row, name, divisor)
            cells += _pair(row, name, _signed(value), limits)
        cells += _pair(row, "ratio", *_limited(row, "ratio", 1.0))
        rows.append(tuple(cells))
    return Sheet(columns, tuple(rows))


def parts_sheet(table: pd.DataFrame) -> Sheet:
    """The energy of every part, a column per run; the last row is the whole."""
    runs, parts = list(dict.fromkeys(table["run"])), list(dict.fromkeys(table["part"]))
    parts = [*(part for part in parts if part != "total"), "total"]
    unit, factor = energy_unit(table["energy_mj"])
    found = table.set_index(["part", "run"])["energy_mj"]
    columns = (Column("Part", "text"), *(Column(f"{run} ({unit})", note="energy per image") for run in runs))
    rows = []
    for part in parts:
        values = [found.get((part, run)) for run in runs]  # None: a run has no such part
        cells = [Cell(significant(v / factor) if v is not None and known(v) else MISSING, v) for v in values]
        rows.append((Cell(part, part), *cells))
    return Sheet(columns, tuple(rows), frozenset({len(rows) - 1}))


def _limited(row: Row, name: str, divisor: float) -> tuple[str, str]:
    """A value with its limits, in the unit of the column."""
    value, low, high = (row[key] / divisor for key in (name, f"{name}_low", f"{name}_high"))
    if row[f"{name}_interval"] == "upper bound":
        text, limits = with_bound(value, high)
    elif row[f"{name}_interval"] == "lower bound":
        text, limits = with_bound(value, low, "≥")
    else:
        text, limits = with_limits(value, low, high)
    return _minus(text), _minus(limits)


def _pair(row: Row, name: str, value: str, limits: str) -> list[Cell]:
    """The cells of a value and of its interval, or of why there is none."""
    method = row[f"{name}_interval"]
    said = {OTHER_IMAGES: OTHER_IMAGES, "constant": _CONSTANT}.get(method, limits or NO_INTERVAL)
    if not known(row[name]):
        return [Cell(MISSING), Cell(MISSING)]
    return [Cell(value, row[name]), Cell(said, row[f"{name}_low"])]


def _signed(text: str) -> str:
    """A difference with its sign: "+0.2", "−0.2", "0"."""
    return text if text.startswith(_MINUS) or text in ("0", MISSING) else f"+{text}"


def _minus(text: str) -> str:
    """Numbers with a minus in place of the hyphen; exponents keep theirs, as everywhere."""
    return re.sub(r"(?<![e\d])-(?=\d)", _MINUS, text)
