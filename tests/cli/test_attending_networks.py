"""`spikeattn attend` with two networks, with a run, with events, and with a network that is silent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spikeattn.cli import app

from .attending import QUICK, files

NMNIST = Path(__file__).parents[3] / "shared/data/nmnist_sample"


def test_two_networks_stand_beside_each_other(spikeattn, svg_only, tmp_path) -> None:
    done = spikeattn(*QUICK, "--limit", 1, "--against", "twin", "--calibrate")
    assert done.code == 0, done.err
    assert "UNTRAINED ann_digits: received of block 2 of 2" in done.out
    assert "agreement  Both are asked where their attention is" in done.out
    assert "           where: rank correlation of the maps" in done.out
    assert "UNTRAINED: random weights, these maps describe nothing" in done.out
    out = tmp_path / "out"
    for name, warned in (("panels/digits_11", False), ("panels_against/digits_11", True), ("beside/digits_11", True)):
        assert ("UNTRAINED" in (out / f"{name}.svg").read_text()) == warned, name
        assert {f"{name}.pdf", f"{name}.png"} <= files(out)
    arrays = np.load(out / "attention.npz")
    assert arrays["against_maps"].shape == (1, 1, 8, 8)
    assert set(pd.read_csv(out / "attention.csv")["model"]) == {"sdt_digits", "UNTRAINED ann_digits"}
    summary = json.loads((out / "summary.json").read_text())
    assert [row["image"] for row in summary["agreement"]] == ["digits/11"]
    assert {row["model"]: row["significant_where"] is None for row in summary["images"]} == {
        "sdt_digits": False, "UNTRAINED ann_digits": True,
    }  # fmt: skip
    assert "where_q" in arrays and "against_where_q" not in arrays
    beside = (out / "beside/digits_11.svg").read_text()
    assert ">Where<" in beside and ">How much<" not in beside and "Both are asked where" in beside


def test_spikes_and_softmax_agree_on_where_and_two_spiking_networks_on_both(spikeattn, tmp_path) -> None:
    """What is significant to both is recomputed from the arrays, of the one question that both were asked."""
    options = ("--limit", 2, "--replicates", 60, "--null", "pixel", "--pictures", 0)
    done = spikeattn(*QUICK, *options, "--against", "vit_digits", "--against-pretrained")
    assert done.code == 0, done.err
    assert "Both are asked where their attention is, whatever the total: that of vit_digits always" in done.out
    summary, arrays = json.loads((tmp_path / "out/summary.json").read_text()), np.load(tmp_path / "out/attention.npz")
    assert summary["comparison"]["questions"] == ["where"] == sorted({r["question"] for r in summary["agreement"]})
    how_much, where = arrays["significant"].mean((1, 2, 3)), arrays["where_significant"].mean((1, 2, 3))
    other = arrays["against_significant"].mean((1, 2, 3))
    assert (how_much > where + other).any()  # so that a mix of questions would show
    assert all(row["either"] <= where[i] + other[i] + 0.06 for i, row in enumerate(summary["agreement"]))

    two = spikeattn(*QUICK, *options, "--against", "sdt_digits", "--against-pretrained", "--out", "two")
    assert two.code == 0, two.err
    rows = pd.DataFrame(json.loads((tmp_path / "two/summary.json").read_text())["agreement"])
    assert rows["question"].tolist() == ["how much"] * 2 + ["where"] * 2
    assert rows["jaccard"].dropna().eq(1).all() and rows["rank_correlation"].tolist() == pytest.approx([1] * 4)
    shares = rows.groupby("question", sort=False)["both"].apply(list)
    assert shares["how much"] != shares["where"]


def test_a_run_must_be_of_the_same_model_and_images(spikeattn, run) -> None:
    wrong = spikeattn("attend", "--model", "vit_digits", "--data", "digits", "--out", "other", "--run", run)
    assert "the run is of sdt_digits, and the model is vit_digits; give the run of the same model" in wrong.error
    beyond = spikeattn(*QUICK, "--limit", 45, "--run", run, "--out", "far", "--replicates", 1, "--pictures", 0)
    assert "the run holds no counts of 5 of the images" in beyond.error
    assert "image/s" not in beyond.err  # said before any of them is looked at


def test_events_are_tested_against_events(spikeattn, svg_only, tmp_path) -> None:
    small = [f"--model-arg={pair}" for pair in ("in_chans=2", "embed_dim=32", "num_heads=4")]
    data = ("--data", "digits-events", "--limit", 1, "--replicates", 5, "--out", "out", "--time-steps", 2)
    command = ("attend", "--model", "sdt_digits", *small, "--calibrate", *data, "--threads", 1)
    done = spikeattn(*command)
    assert done.code == 0, done.err
    assert "null: events, B = 5" in done.out
    assert "ON events" in next((tmp_path / "out/panels").glob("*.svg")).read_text()
    noise = spikeattn(*command, "--evaluate", "--out", "noise")
    assert noise.code == app.USAGE
    assert "--evaluate plants normal noise, which is no event count; give --null pixel with it" in noise.error


@pytest.mark.skipif(not NMNIST.exists(), reason="needs ../shared/data/nmnist_sample")
def test_a_recording_stands_beside_the_twin(spikeattn, tmp_path) -> None:
    small = [f"--model-arg={pair}" for pair in ("in_chans=2", "img_size=34", "embed_dim=32", "num_heads=4")]
    data = ("--data", f"nmnist:{NMNIST}", "--limit", 1, "--replicates", 5, "--out", "out", "--time-steps", 2)
    done = spikeattn(
        "attend", "--model", "sdt_2_256", *small, "--calibrate", *data, "--against", "twin", "--pictures", 0
    )
    assert done.code == 0, done.err
    assert np.load(tmp_path / "out/attention.npz")["against_maps"].shape == (1, 1, 9, 9)


def test_a_silent_network_calls_nothing_and_says_so(spikeattn, tmp_path) -> None:
    untrained = [word for word in QUICK if word != "--pretrained"]
    done = spikeattn(*untrained, "--pictures", 0)
    assert done.code == 0
    assert "warning: 2 images, first digits/11: the map is constant: no token is called" in done.err
    arrays = np.load(tmp_path / "out/attention.npz")
    assert not arrays["significant"].any()
    assert all(np.isfinite(arrays[name]).all() for name in ("z", "p", "q", "lfdr"))
    assert all(row["warned"] for row in json.loads((tmp_path / "out/summary.json").read_text())["images"])
