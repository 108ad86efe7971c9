"""`spikeattn energy` and `spikeattn rates`: the numbers of the library in every format."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

import spikeattn as sa
from spikeattn.cli import app
from spikeattn.cli.output import text


def test_energy_as_text_and_as_json(spikeattn, run) -> None:
    done = spikeattn("energy", run, "--replicates", 500, "--seed", 4, "--confidence", 0.9)
    assert done.code == 0
    assert "convention  exact: " in done.out
    assert "costs       horowitz-45nm-fp32: M. Horowitz" in done.out
    assert "charged as MACs once per image" in done.out
    record = json.loads(spikeattn("energy", run, "--replicates", 500, "--seed", 4, "--confidence", 0.9, "--json").out)
    expected = sa.Profile.load(run).energy(replicates=500, seed=4, confidence=0.9)
    assert record["total_mj"] == expected.total.value
    assert record["interval_mj"] == [expected.total.low, expected.total.high]
    assert [row["part"] for row in record["parts"]] == list(expected["part"])
    assert record["provenance"]["convention"] == "exact"


def test_conventions_costs_and_the_first_convolution(spikeattn, run) -> None:
    def macs(*options: object) -> float:
        return json.loads(spikeattn("energy", run, *options, "--json").out)["parts"][0]["macs"]

    assert macs("--first-conv", "every-step") == 4 * macs() == macs("--convention", "sdt-paper")
    cheap = json.loads(spikeattn("energy", run, "--costs", "horowitz-45nm-int8", "--json").out)
    assert 0 < cheap["total_mj"] < sa.Profile.load(run).energy().total.value


@pytest.mark.parametrize("suffix", ["csv", "parquet", "tex", "md", "json"])
def test_energy_as_a_file(spikeattn, run, tmp_path, suffix) -> None:
    done = spikeattn("energy", run, "--out", f"new/energy.{suffix}")
    assert (done.code, done.out, done.err) == (0, "", f"wrote new/energy.{suffix}\n")
    path = tmp_path / "new" / f"energy.{suffix}"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    if suffix == "csv":
        assert list(pd.read_csv(path)["part"])[-1] == "total"
    elif suffix == "parquet":
        assert list(pd.read_parquet(path)["part"])[-1] == "total"
    else:
        assert "total" in path.read_text()


def test_rates_in_every_format(spikeattn, run, tmp_path) -> None:
    profile = sa.Profile.load(run)
    shown = spikeattn("rates", run).out
    assert "Code name" in shown
    assert "block.0.attn.talking_heads_lif" in shown
    assert r"\toprule" in spikeattn("rates", run, "--format", "latex").out
    assert spikeattn("rates", run, "--format", "markdown").out.startswith(("| Part", "Firing rates"))
    spikeattn("rates", run, "--out", "s1.csv")
    assert len(pd.read_csv("s1.csv")) == sum(t.kind != "real" for t in profile.ledger.tensors) + 1
    spikeattn("rates", run, "--tidy", "--out", "tidy.parquet")
    tidy = pd.read_parquet("tidy.parquet")
    assert list(tidy["nonzero_rate"]) == list(profile.rates()["nonzero_rate"])
    assert set(tidy["t"]) == {"1", "2", "3", "4", "mean"}
    record = json.loads(spikeattn("rates", run, "--tidy", "--json").out)
    assert len(record["rates"]) == len(tidy)
    assert spikeattn("rates", run, "--tidy").code == 0


def test_exported_rates_are_read_back(spikeattn, run) -> None:
    spikeattn("rates", run, "--out", "rates.csv")
    options = ("--convention", "input-rate", "--json")
    read = json.loads(spikeattn("energy", "--rates", "rates.csv", "--model", "sdt_digits", *options).out)
    counted = json.loads(spikeattn("energy", run, *options).out)
    assert read["total_mj"] == pytest.approx(counted["total_mj"], rel=1e-12)
    assert read["interval_mj"] == [None, None]


def test_the_published_table(spikeattn) -> None:
    done = spikeattn("energy", "--rates", "table_s1_sdt_8_512", "--model", "sdt_8_512", "--json")
    assert round(json.loads(done.out)["total_mj"], 2) == 5.35


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["energy", "nowhere"], "nowhere: no such folder; expected the folder that `spikeattn profile --out` wrote"),
        (["rates", "empty"], "empty: no run there (it has no model.json); expected the folder that"),
        (["energy", "half"], "half: an interrupted run without counts.parquet; finish it with --resume"),
        (["energy", "RUN", "--convention", "exactt"], "unknown convention 'exactt': did you mean 'exact'?"),
        (["energy", "RUN", "--costs", "horowitz"], "unknown cost table 'horowitz': did you mean 'horowitz-45nm-"),
        (["energy", "RUN", "--costs", "mine.toml"], "mine.toml: no such cost table"),
        (["energy", "RUN", "--out", "file/x.csv"], "file/x.csv: cannot write (File exists)"),
        (["energy", "--rates", "none.csv", "--model", "sdt_digits"], "rate table none.csv: no such file"),
        (["energy", "--rates", "short.csv", "--model", "sdt_digits"], "rate table short.csv lacks part"),
        (["energy", "--rates", "short.csv", "--model", "sdt_digit"], "unknown model 'sdt_digit'"),
    ],
)
def test_wrong_use_says_what_to_do(spikeattn, run, tmp_path, arguments, message) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.json").write_bytes((run / "model.json").read_bytes())
    (tmp_path / "short.csv").write_text("tensor,T1\nConv1,0.5\n")
    (tmp_path / "file").write_text("")
    done = spikeattn(*[run if word == "RUN" else word for word in arguments])
    assert done.code == app.FAILED
    assert message in done.error
    assert done.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["energy", "RUN", "--confidence", 95], "--confidence 95.0: give a number between 0 and 1, such as 0.95"),
        (["energy", "RUN", "--replicates", 5], "--replicates 5: give 100 or more"),
        (["energy", "RUN", "--seed", -1], "--seed -1: give 0 or more"),
        (["energy", "RUN", "--first-conv", "onec"], "--first-conv 'onec': did you mean 'once'? valid are once, every-"),
        (["rates", "RUN", "--format", "latx"], "--format 'latx': did you mean 'latex'"),
        (["compare", "RUN", "--gamma", 2], "--gamma 2.0: give a number from 0 to 1"),
    ],
)
def test_values_that_cannot_be(spikeattn, run, arguments, message) -> None:
    done = spikeattn(*[run if word == "RUN" else word for word in arguments])
    assert (done.code, message in done.error, done.out) == (app.USAGE, True, ""), done.err


def test_what_is_missing_is_printed_as_a_dash() -> None:
    frame = pd.DataFrame(
        {"a": [1.5, math.nan, None], "b": pd.array([1, None, 3], dtype="Int64"), "c": ["x", None, "–"]}
    )
    lines = str(text(frame, {"a": "{:.1f}".format})).splitlines()
    assert [line.split() for line in lines[-3:]] == [["1.5", "1", "x"], ["–", "–", "–"], ["–", "3", "–"]]
