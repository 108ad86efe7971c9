"""`spikeattn sweep`, `reproduce`, `conventions` and `energy --convention A,B`, as a user sees them."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from spikeattn.cli import main
from spikeattn.energy.conventions import PRESETS, SWITCHES
from spikeattn.models import create_model
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.runs.result import Profile
from spikeattn.runs.run import profile

RATES = ["--rates", "table_s1_sdt_8_512", "--model", "sdt_8_512"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 12 images through an untrained network that fires."""
    torch.manual_seed(1)
    model, images = create_model("sdt_digits", time_steps=2), torch.rand(12, 1, 16, 16)
    calibrate_batch_norm(model, images)
    return profile(model, [images]).save(tmp_path_factory.mktemp("run") / "digits")


@pytest.fixture
def printed(capsys):
    """What a command line prints; it must succeed."""

    def call(*arguments: str) -> str:
        assert main([str(word) for word in arguments]) == 0
        return capsys.readouterr().out

    return call


@pytest.fixture
def failed(capsys):
    """The one line of a command line that must fail."""

    def call(*arguments: str) -> str:
        assert main([str(word) for word in arguments]) in (1, 2)
        captured = capsys.readouterr()
        assert captured.out == "" and "Traceback" not in captured.err
        return captured.err

    return call


def test_conventions_side_by_side_with_every_switch(run, printed):
    names = ["exact", "sdt-paper", "spikingformer-code"]
    record = json.loads(printed("energy", run, "--convention", ",".join(names), "--json"))
    totals = next(row for row in record["parts"] if row["part"] == "total")
    for name in names:
        expected = Profile.load(run).energy(convention=name).total.value
        way = record["conventions"][name]["waterfall"]
        assert totals[name] == expected == way[-1]["energy_mj"]
        assert record["conventions"][name]["evidence"] == PRESETS[name].evidence
    assert len(record["conventions"]["exact"]["waterfall"]) == 1
    text = printed("energy", run, "--convention", ",".join(names))
    assert "from exact," in text and "qkv_rate" in text and "untrained" in text


def test_conventions_of_published_rates(printed, tmp_path):
    text = printed("energy", *RATES, "--convention", "input-rate,sdt-paper,sdt-printed")
    assert "total           5.6129     5.3524       4.4982" in text
    assert "reconstruction, weak" in text
    out = tmp_path / "side.csv"
    assert printed("energy", *RATES, "--convention", "sdt-paper,sdt-printed", "--out", out) == ""
    assert pd.read_csv(out).columns.tolist() == ["part", "sdt-paper", "sdt-printed"]
    once = printed("energy", *RATES, "--convention", "sdt-paper,input-rate", "--first-conv", "once")
    assert "sdt-paper[first_conv=once]" in once


def test_list_of_conventions(printed, tmp_path):
    text = printed("conventions")
    for name, preset in PRESETS.items():
        assert f"{name:18}  {preset.evidence}" in text
    assert "sop=rate, layer_rate=own-output, qkv_size=N^2D" in text
    record = json.loads(printed("conventions", "--json"))
    assert record["switches"] == SWITCHES
    assert {entry["name"]: entry["checked_on"] for entry in record["conventions"]}["sdt-printed"].startswith(
        "one figure"
    )
    one = printed("conventions", "sdt-printed")
    assert "checked on  one figure: 4.498 for the printed 4.50 mJ" in one and "own-output" in one
    out = tmp_path / "list.csv"
    printed("conventions", "--out", out)
    assert set(pd.read_csv(out).columns) == {"name", "source", "evidence", "checked_on", *SWITCHES}


def test_sweep(run, printed, tmp_path):
    arguments = ["--rate-scale", "1,2", "--costs", "horowitz-45nm-fp32,horowitz-45nm-int8"]
    record = json.loads(printed("sweep", run, *arguments, "--json"))
    assert len(record["rows"]) == 2 * 2 * 2
    last = next(row for row in record["rows"] if row["t"] == 2 and row["rate_scale"] == 1)
    assert last["snn_mj"] == pytest.approx(Profile.load(run).energy().total.value)
    assert record["convention"] == "exact" and record["warnings"]
    text = printed("sweep", run, *arguments, "--full")
    assert "break-even rate" in text and "truncation" in text
    rows = [line for line in text.splitlines() if line.startswith("horowitz-45nm-fp32 ")]
    assert len(rows) == 4 and all("unknown" in row for row in rows)  # the images have no labels
    assert "accuracy unknown at every t: the images have no labels" in text and last["accuracy"] is None
    screen = printed("sweep", run, *arguments)
    assert len(screen.splitlines()) < 30 and "--full has all 8 rows" in screen and "truncation" not in screen
    assert "at other rates, after 2 steps" in screen and "under the other cost tables, after 2 steps" in screen
    for suffix, start in ((".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")):
        figure, out = tmp_path / f"sweep{suffix}", tmp_path / "sweep.csv"
        assert printed("sweep", run, *arguments, "--figure", figure, "--out", out) == ""
        assert figure.read_bytes().startswith(start) and len(pd.read_csv(out)) == 8
    rates = json.loads(printed("sweep", *RATES, "--json"))
    assert rates["convention"] == "input-rate" and rates["ann_macs"] == 8_571_375_616


def test_reproduce(printed, tmp_path):
    rows = json.loads(printed("reproduce", "--json"))
    assert {"model", "quantity", "convention", "computed", "printed", "residual", "evidence"} <= set(rows[0])
    ann = next(row for row in rows if row["convention"] == "sdt-ann-printed" and row["quantity"] == "energy, mJ")
    assert abs(ann["computed"] - 41.77) < 0.02
    text = printed("reproduce")
    assert "57.2088" in text and "firing rates of this model were not published" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep"], "give either the folder of a run"),
        (["sweep", "RUN", "--model", "sdt_8_512"], "--rates and --model go together"),
        (["sweep", "RUN", "--rate-scale", "a,b"], "numbers separated by commas"),
        (["sweep", "RUN", "--rate-scale", "-1"], "must be a finite number >= 0"),
        (["sweep", "RUN", "--costs", "horowitz"], "did you mean 'horowitz-45nm"),
        (["sweep", "RUN", "--costs", "loihi"], "no price for multiply-accumulates"),
        (["sweep", "RUN", "--convention", "exactly"], "did you mean 'exact'"),
        (["sweep", "RUN", "--figure", "sweep.gif"], "a figure is written as .svg"),
        (["sweep", "nowhere"], "no such folder"),
        (["energy", "RUN", "--convention", "exact,sdt_paper"], "did you mean 'sdt-paper'"),
        (["energy", *RATES, "--convention", "sdt-paper,exact"], "does not hold the exact count"),
        (["conventions", "syop"], "did you mean 'syops'"),
    ],
)
def test_wrong_command_lines_are_one_clear_error(run, failed, arguments, message):
    line = failed(*(run if word == "RUN" else word for word in arguments))
    assert message in line and len(line.strip().splitlines()) <= 2


def test_files_of_different_runs_are_an_error(run, failed, tmp_path):
    model = create_model("sdt_digits", time_steps=3)
    other = profile(model, [torch.rand(2, 1, 16, 16)]).save(tmp_path / "other")
    (other / "counts.parquet").write_bytes((run / "counts.parquet").read_bytes())
    assert "belong to another model or input size" in failed("energy", other, "--convention", "exact,sdt-paper")
    assert "belong to another model or input size" in failed("sweep", other)
