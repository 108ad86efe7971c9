"""Two images, and images clustered by class: what every command says then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import spikeattn as sa
from spikeattn.cli.app import main

SAID = "2 images: an interval over so few says little"


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "run"
    options = ["--pretrained", "--data", "digits", "--limit", "2", "--threads", "1", "--out", str(folder)]
    assert main(["profile", "--model", "sdt_digits", *options]) == 0
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["energy"],
        ["energy", "--energy-model", "compute+memory"],
        ["rates"],
        ["rates", "--tidy"],
        ["compare"],
        ["sweep"],
    ],
    ids=" ".join,
)
def test_two_images_in_every_command(spikeattn, two, command):
    done = spikeattn(command[0], two, *command[1:])
    assert done.code == 0 and SAID in done.out
    assert "∞" not in done.out and " nan" not in done.out


def test_infinite_limits_read_as_such_and_are_null_in_json(spikeattn, two):
    done = spikeattn("compare", two)
    assert "no upper limit]" in done.out and " inf" not in done.out
    record = json.loads(spikeattn("compare", two, "--json").out)
    rows = [row for row in record["parts"] if row["ratio_low"] is not None and row["ratio_high"] is None]
    assert rows and any(SAID in note for note in record["notes"])


def test_the_report_of_two_images(spikeattn, two, tmp_path, svg_only):
    done = spikeattn("report", two, "--out", tmp_path / "report")
    assert done.code == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert SAID in page and "no upper limit" in page
    assert SAID in done.out, "also to whoever reads no page"


def test_attention_to_two_images(spikeattn, tmp_path, svg_only):
    ask = ["attend", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--limit", 2, "--replicates", 20]
    done = spikeattn(*ask, "--out", tmp_path / "attention")
    assert done.code == 0 and "warning    few-images: 2 images: their mean says little of others" in done.out


def test_two_images_at_every_point_of_a_sweep(spikeattn, two):
    done = spikeattn("sweep", two, "--time-steps", 1, 2)
    assert done.code == 0 and SAID in done.out


def test_cluster_by_class(spikeattn, run):
    profile = sa.Profile.load(run)
    clustered = json.loads(spikeattn("energy", run, "--cluster-by-class", "--json").out)
    expected = profile.energy(cluster="label")
    assert clustered["interval_mj"] == [expected.total.low, expected.total.high]
    assert clustered["interval_mj"] != [profile.energy().total.low, profile.energy().total.high]
    assert clustered["provenance"]["cluster"] == "label"
    for command in (["energy"], ["energy", "--energy-model", "compute"], ["compare"], ["rates"]):
        done = spikeattn(command[0], run, *command[1:], "--cluster-by-class")
        assert done.code == 0 and "over classes, each with its images" in done.out, command
    tidy = json.loads(spikeattn("rates", run, "--tidy", "--cluster-by-class", "--json").out)
    assert [row["ci_high"] for row in tidy["rates"]] == list(profile.rates(cluster="label")["ci_high"])
    parts = json.loads(spikeattn("energy", run, "--energy-model", "compute", "--cluster-by-class", "--json").out)
    assert parts["provenance"]["cluster"] == "label"
    for models in ("compute,spikingjelly-simple", "all"):
        command = ("energy", run, "--energy-model", models, "--cluster-by-class")
        assert "interval    95% over classes, each with its images" in spikeattn(*command).out
        side_by_side = json.loads(spikeattn(*command, "--json").out)
        assert side_by_side["provenance"]["cluster"] == "label"
        assert side_by_side["models"][0]["ci_high"] == pytest.approx(expected.total.high)
    refused = spikeattn("energy", run, "--convention", "exact,sdt-paper", "--cluster-by-class")
    assert refused.code == 2 and "--cluster-by-class is about the interval of a run" in refused.err
