"""The scripts that call the package do what their first lines say."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def call(monkeypatch, name: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(SCRIPTS / name), run_name="__main__")


def test_export_firing_rates(monkeypatch, tmp_path) -> None:
    call(monkeypatch, "export_firing_rates.py", "--limit", 16, "--out", tmp_path / "new" / "rates")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["rates.csv", "rates.md", "rates.tex"]
    assert "block.0.attn.q_lif" in set(pd.read_csv(tmp_path / "new" / "rates.csv")["code"])


def test_energy_report(monkeypatch, tmp_path, run) -> None:
    out = tmp_path / "energies.csv"
    call(monkeypatch, "energy_report.py", run, "--convention", "exact", "sdt-paper", "--out", out)
    table = pd.read_csv(out)
    assert list(table["convention"]) == ["exact", "sdt-paper"]
    assert (table["energy_low_mj"] <= table["energy_mj"]).all()
    with pytest.raises(SystemExit, match="error: .*no such folder"):
        call(monkeypatch, "energy_report.py", tmp_path / "nowhere")
