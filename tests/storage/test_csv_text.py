"""Tables that no spreadsheet runs, and that come back as they were."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeattn.storage import csv_text

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "-", "-inf", "\uff1d1+1", '=1,"x"']
HARMLESS = ["", "plain", "a=b", "'quoted", "-1.5", "+3", "-1.5e-3", ".5", "a; -3", "2-1", "\u2013"]
BEHIND = ["a;=1", "a\t+1", "x\n=1", "x\r=1", ";;=1", "a;'=1"]  # a cell begins there too, in some spreadsheets


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_a_text(text: str) -> None:
    assert csv_text.guarded(text).startswith("'") and csv_text.restored(csv_text.guarded(text)) == text


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_stays(text: str) -> None:
    assert csv_text.guarded(text) == text


def test_numbers_stay_numbers() -> None:
    for value in (-1.5, -3, None, True, np.float64(-2), float("-inf")):
        assert csv_text.guarded(value) is value


@given(st.text(alphabet="'=+-@;,\t\r\n\"a1. \uff1d", max_size=8))
def test_every_text_comes_back(text: str) -> None:
    safe = csv_text.guarded(text)
    assert csv_text.restored(safe) == text
    if safe == text and text[:1] and text[0] in "=+-@\t\r\n\uff1d":
        float(text)  # a number, or it would have been guarded


def test_a_table_there_and_back(tmp_path: Path) -> None:
    names = [*FORMULAS, *HARMLESS, *BEHIND, "'=1", "''=1", "'-1.5"]
    frame = pd.DataFrame({"name": names, "=evil": np.linspace(-1.5, 1, len(names)), "n": range(len(names))})
    path = csv_text.save(frame, tmp_path / "a.csv")
    back = csv_text.read(path, keep_default_na=False)
    assert list(back["name"]) == names and list(back.columns) == list(frame.columns)
    assert back["=evil"].tolist() == frame["=evil"].tolist() and back["n"].dtype.kind == "i"
    for separator in (",", ";", "\t"):  # whatever a spreadsheet splits at
        for line in path.read_text().splitlines():
            for cell in line.split(separator):
                assert cell[:1] not in ("=", "+", "@", "\uff1d") or cell.startswith("+3"), (separator, cell)


def test_other_columns_are_as_pandas_writes_them() -> None:
    frame = pd.DataFrame(
        {"a": [1.25, -2.5], "b": [True, False], "c": pd.to_datetime(["2020-01-01", "2021-01-01"]), "d": [None, "x"]}
    )
    assert csv_text.write(frame) == frame.to_csv(index=False, lineterminator="\n")
    assert csv_text.write(frame, "%.1f") == frame.to_csv(index=False, float_format="%.1f", lineterminator="\n")
    twice = pd.concat([pd.DataFrame([[1, "=a"]], columns=["x", "x"])] * 2)  # a column and an index twice
    assert csv_text.write(twice) == "x,x\n1,'=a\n1,'=a\n"
    assert csv_text.write(pd.DataFrame({"a": []})) == "a\n"
    assert list(csv_text.read(io.StringIO("a,b\n-1.5,x\n"))["a"]) == [-1.5]


def test_every_csv_of_the_package_is_written_and_read_here() -> None:
    root = Path(csv_text.__file__).parent
    own = [
        path for path in (*root.rglob("*.py"), *(root.parent / "scripts").rglob("*.py")) if path.name != "csv_text.py"
    ]
    for path in own:
        text = path.read_text(encoding="utf-8")
        assert ".to_csv(" not in text and "read_csv(" not in text, path
