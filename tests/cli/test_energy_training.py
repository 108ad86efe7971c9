"""`spikeattn energy RUN --training`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome


def test_a_training_step_beside_inference(spikeattn: Callable[..., Outcome], run: Path) -> None:
    asked = ("energy", run, "--training", "--optimizer", "adam", "--batch-size", 32)
    text = spikeattn(*asked).out
    for line in ("convention  bptt-spikes", "optimizer   adam: m = b1*m", "inference   ", "not in it   memory traffic"):
        assert line in text
    assert "weight gradients" in text and "arithmetic: " in text and "no paper prints" in text
    record = json.loads(spikeattn(*asked, "--json").out)
    assert record["total_mj"]["value"] > record["inference_mj"]["value"] > 0
    assert record["over_inference"]["value"] == pytest.approx(
        record["total_mj"]["value"] / record["inference_mj"]["value"]
    )
    assert [row["phase"] for row in record["phases"]][-2:] == ["update", "total"]
    dense = json.loads(spikeattn(*asked, "--convention", "bptt-dense", "--json").out)
    assert dense["total_mj"]["value"] > record["total_mj"]["value"]
    assert spikeattn(*asked, "--out", "training.csv").out == ""
    assert Path("training.csv").read_text().startswith("phase,macs,sops,acs")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--training"], "--training needs --optimizer"),
        (["--training", "--optimizer", "sgd"], "--batch-size"),
        (["--optimizer", "sgd"], "give RUN --training with them"),
        (["--training", "--optimizer", "sdg", "--batch-size", 2], "did you mean 'sgd'"),
        (["--training", "--optimizer", "sgd", "--batch-size", 2, "--convention", "exact"], "bptt-spikes"),
        (["--training", "--optimizer", "sgd", "--batch-size", 2, "--energy-model", "all"], "give RUN --training"),
    ],
)
def test_wrong_command_lines(spikeattn: Callable[..., Outcome], run: Path, options: list, said: str) -> None:
    outcome = spikeattn("energy", run, *options)
    assert outcome.code != 0 and said in outcome.error


def test_conventions_of_training_are_listed_and_explained(spikeattn: Callable[..., Outcome]) -> None:
    assert "bptt-spikes, bptt-dense" in spikeattn("conventions").out
    text = spikeattn("conventions", "bptt-dense").out
    assert "dense MACs, as hardware that skips no zeros" in text and "not in it   memory traffic" in text
    record = json.loads(spikeattn("conventions", "bptt-spikes", "--json").out)
    assert record["switches"] == {"forward": "operations", "weight_gradient": "spikes"}
