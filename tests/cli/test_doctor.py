"""`spikeattn doctor`."""

from __future__ import annotations

import json

import pytest
import torch

from spikeattn.fast import native


def test_record(spikeattn) -> None:
    record = json.loads(spikeattn("doctor", "--device", "cpu", "--json").out)
    assert record["versions"]["torch"] == torch.__version__
    assert record["kernels"]["neurons on this device"] == "torch (cpu)"
    assert record["profile"]["path"] == ("fast (native)" if native.compiler() else "plain")
    assert record["profile"]["multiply-accumulates"].startswith("32,")  # 10^9: four steps of 8.5 G, the first conv once
    small = json.loads(spikeattn("doctor", "--device", "cpu", "--model", "sdt_digits", "--json").out)
    assert small["profile"]["path"] == "plain" and "small" in small["profile"]["why"]


def test_text(spikeattn) -> None:
    lines = spikeattn("doctor", "--device", "cpu", "--model", "sdt_digits").out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["machine", "versions", "kernels", "profile", "slow"]


def test_without_a_compiler(spikeattn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "compiler", lambda: None)
    native.build.cache_clear()
    try:
        record = json.loads(spikeattn("doctor", "--device", "cpu", "--json").out)
    finally:
        native.build.cache_clear()
    assert record["profile"]["path"] == "plain"
    assert "no C compiler" in record["kernels"]["problem"]
    assert any("no C compiler" in line for line in record["slow"])


def test_threads(spikeattn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikeattn.cli.doctor._cores", lambda: 64)
    record = json.loads(spikeattn("doctor", "--device", "cpu", "--model", "sdt_digits", "--json").out)
    assert any("of 64 cores" in line for line in record["slow"])


def test_written_to_a_file(spikeattn, tmp_path) -> None:
    options = ("doctor", "--device", "cpu", "--model", "sdt_digits")
    assert spikeattn(*options, "--out", "doctor.json").out == ""
    assert json.loads((tmp_path / "doctor.json").read_text()) == json.loads(spikeattn(*options, "--json").out)
    assert "written as .json" in spikeattn(*options, "--out", "doctor.csv").error


def test_unknown_model(spikeattn) -> None:
    assert "unknown model 'sdt_8_51'" in spikeattn("doctor", "--model", "sdt_8_51").error
