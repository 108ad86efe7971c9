"""`spikeattn compare`: what is printed and written, and one line for everything that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch

import spikeattn as sa
from spikeattn.cli import main
from spikeattn.models.calibrate import calibrate_batch_norm

TINY = {"img_size": 16, "in_chans": 1, "num_classes": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}


def _run(folder: Path, time_steps: int, n: int = 12) -> Path:
    torch.manual_seed(time_steps)
    model = timm.create_model("sdt_digits", time_steps=time_steps, **TINY).eval()
    images = torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2
    calibrate_batch_norm(model, images)
    model.provenance = {"name": "sdt_digits", "config": dict(model.config), "trained": None}
    sa.profile(model, [(images[:n], torch.arange(n) % 4)], folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    _run(folder / "T4", 4)
    _run(folder / "T2", 2)
    _run(folder / "few", 2, n=5)
    return folder


def test_beside_the_twin(runs, capsys):
    assert main(["compare", str(runs / "T4"), "--full"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("sdt_digits beside ann_digits: energy per image, sdt_digits, T=4, 12 images")
    for text in (
        "a layer breaks even at a firing rate of 1.28",
        "enough spikes make sdt_digits lose",
        "at gamma 0 (not measured), ",
        "horowitz-45nm-int8-acc32, beside ann_digits, 3 bits, ratios at gamma 0",
        "attention of this run includes token sums, AND gates at 0.01 pJ, leak of the q, k, v neurons",
        "QKV + attention",
        "note        gamma: 0 of the ANN's activations behind ReLUs and of the image are taken for zeros",
        "note        arithmetic: operations x pJ on both sides",
    ):
        assert text in printed
    table = printed[printed.index("part ") :].splitlines()
    assert table[0].split()[-5:] == ["interval", "weighted", "rate", "break-even", "verdict"]
    assert table[8].startswith("total") and "weighted rate: rate weighted by operations, " in printed


def test_a_screen_unless_full(runs, capsys):
    assert main(["compare", str(runs / "T4"), "--full"]) == 0
    full = capsys.readouterr().out
    assert main(["compare", str(runs / "T4")]) == 0
    screen = capsys.readouterr().out
    assert len(screen.splitlines()) <= 30 < 60 < len(full.splitlines())
    assert set(screen.splitlines()[:14]) <= set(full.splitlines()), "the same lines and the same first table"
    totals = screen[screen.index("the whole network under every cost table") :].splitlines()[3:6]
    assert [line.split()[0] for line in totals] == ["horowitz-45nm-fp32", *["horowitz-45nm-int8-acc32"] * 2]
    assert "--full has the rest: " in screen and "--full" not in full


def test_json_and_files_hold_all_rows(runs, tmp_path, capsys):
    arguments = ["compare", str(runs / "T4"), "--costs", "horowitz-45nm-fp32, horowitz-45nm-fp16", "--gamma", "0.5"]
    assert main([*arguments, "--json", "--out", str(tmp_path / "all.csv")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [price["costs"][14:] for price in record["prices"]] == ["fp32", "fp16", "int8-acc32"]
    assert [price["gamma"] for price in record["prices"]] == [0.5] * 3 and record["provenance"]["convention"] == "exact"
    rows = pd.read_csv(tmp_path / "all.csv")
    assert rows["table"].value_counts().to_dict() == {"blocks": 36, "parts": 24, "attention": 6}
    expected = sa.compare(sa.Profile.load(runs / "T4")).total
    assert record["ratio"]["value"] == pytest.approx(expected.value), "a share that is given is not measured"
    assert record["gamma"]["low"] == 0 and not record["gamma"]["measured"]
    assert record["gamma"]["ratio_at_low"] == record["ratio"]["value"]
    assert rows["ratio_at_high"].notna().sum() == 21, "three pricings of seven rows; attention has no ratio in parts"
    assert main([*arguments, "--out", str(tmp_path / "all.json")]) == 0
    assert json.loads((tmp_path / "all.json").read_text()) == record


def test_beside_another_run_and_another_ann(runs, capsys):
    assert (
        main(["compare", str(runs / "T4"), "--against", str(runs / "T2"), "--first-conv", "every-step", "--full"]) == 0
    )
    printed = capsys.readouterr().out
    assert "sdt_digits, T=4 loses, it costs" in printed and "break-even" not in printed
    assert "paired: both networks saw the same 12 images" in printed
    assert "charged as MACs at each of the 2 time steps" in printed
    assert main(["compare", str(runs / "T4"), "--against", "resnet18"]) == 1
    assert "ResNet does not run on an input (1, 1, 16, 16)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--against", "few"], 1, "different images: 12 and 5, of which 5 are the same by number and name"),
        (["--against", "runs/none"], 1, "runs/none: no such folder"),
        (["--against", "ann_digit"], 1, "did you mean 'ann_digits'"),
        (["--costs", "horowitz-45nm-fp3"], 1, "did you mean 'horowitz-45nm-fp32'"),
        (["--costs", ","], 1, "costs is empty"),
        (["--costs", "loihi"], 1, "has no price for mac"),
        (["--gamma", "2"], 2, "--gamma 2.0: give a number from 0 to 1"),
        (["--gamma", "much"], 2, "--gamma"),
        (["--convention", "exac"], 1, "did you mean 'exact'"),
        (["--out", "table.md"], 2, "a table is written as .csv, .parquet, .json"),
        (["--replicates", "3"], 2, "--replicates 3: give 100 or more"),
    ],
)
def test_one_line_for_what_is_wrong(runs, capsys, options, code, message):
    options = [str(runs / "few") if option == "few" else option for option in options]
    assert main(["compare", str(runs / "T4"), *options]) == code
    streams = capsys.readouterr()
    assert message in streams.err and "Traceback" not in streams.err and not streams.out
