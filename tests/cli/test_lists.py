"""`spikeattn models | costs | conventions`."""

from __future__ import annotations

import json

import pandas as pd

from spikeattn.energy import get_convention, list_conventions, list_costs
from spikeattn.models import model_names, twin_names


def test_models(spikeattn, tmp_path) -> None:
    listed = json.loads(spikeattn("models", "--json").out)
    assert {row["name"] for row in listed} == {*model_names(), *twin_names(), "vit_digits"}
    assert "FILE.py:NAME or package.module:NAME" in spikeattn("models").out
    big = next(row for row in listed if row["name"] == "sdt_8_512")
    assert (big["T"], big["input"], big["classes"], big["pretrained"]) == (4, "3x224x224", 1000, False)
    assert round(big["parameters"] / 1e6, 2) in (29.68, 29.69)
    digits = next(row for row in listed if row["name"] == "sdt_digits")
    assert digits["pretrained"] is True
    assert spikeattn("models").out.splitlines()[0].split() == list(big)
    assert spikeattn("models", "--out", "models.csv").out == ""
    assert list(pd.read_csv(tmp_path / "models.csv")["name"]) == [row["name"] for row in listed]


def test_costs(spikeattn) -> None:
    rows = json.loads(spikeattn("costs", "--json").out)
    assert {row["table"] for row in rows} == set(list_costs())
    assert all(row["source"] and row["status"] for row in rows)
    mac = next(row for row in rows if (row["table"], row["operation"]) == ("horowitz-45nm-fp32", "mac"))
    assert (mac["pj"], mac["default"]) == (4.6, True)
    assert "horowitz-45nm-fp32" in spikeattn("costs").out
    assert "Horowitz" in spikeattn("costs", "horowitz-45nm-fp32").out
    assert "unknown cost table 'horowits'" in spikeattn("costs", "horowits").error


def test_conventions(spikeattn) -> None:
    record = json.loads(spikeattn("conventions", "--json").out)
    assert [row["name"] for row in record["conventions"]] == list(list_conventions())
    paper = next(row for row in record["conventions"] if row["name"] == "sdt-paper")
    assert paper["switches"] == get_convention("sdt-paper").switches()
    for name in list_conventions():
        assert name in spikeattn("conventions").out
    shown = spikeattn("conventions", "sdt-paper").out
    for switch, value in paper["switches"].items():
        assert any(line.split()[:2] == [switch, value] for line in shown.splitlines())
    assert "unknown convention 'sdt'" in spikeattn("conventions", "sdt").error
