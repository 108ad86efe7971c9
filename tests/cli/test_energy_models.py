"""`spikeattn energy-models` and `spikeattn energy RUN --energy-model A,B | all`."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import spikeattn as sa
from spikeattn.energy import by_model, list_energy_models


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> str:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 8), neuron.LIFNode(step_mode="m"), nn.Linear(8, 3))
    nn.init.normal_(net[0].weight, 0.5, 0.5)
    folder = tmp_path_factory.mktemp("runs") / "small"
    batch = (torch.rand(12, 12), torch.zeros(12, dtype=torch.long))
    sa.profile(net, [batch], forward=lambda net, x: net(x.expand(3, *x.shape)), out=folder)
    return str(folder)


def test_the_list_and_one_record(spikeattn, tmp_path) -> None:
    listed = json.loads(spikeattn("energy-models", "--json").out)
    assert [row["name"] for row in listed] == list(list_energy_models())
    assert all(row["inside"] and row["outside"] and row["source"] and row["fidelity"] for row in listed)
    text = spikeattn("energy-models").out
    assert all(any(line.startswith(f"{name} ") for line in text.splitlines()) for name in list_energy_models())
    one = spikeattn("energy-models", "sana-fe-loihi").out
    for said in ("SLAM-Lab/SANA-FE", "14 nm", "calibrated", "51.2", "111", "hops between cores", "confirmed"):
        assert said in one
    assert spikeattn("energy-models", "--out", "models.csv").out == ""
    assert list(pd.read_csv(tmp_path / "models.csv")["name"]) == list(list_energy_models())
    assert "unknown energy model 'loihi'" in spikeattn("energy-models", "loihi").error


def test_models_side_by_side(spikeattn, small, tmp_path) -> None:
    profile = sa.Profile.load(small)
    table = by_model(profile)
    record = json.loads(spikeattn("energy", small, "--energy-model", "all", "--json").out)
    assert [row["model"] for row in record["models"]] == list(table["model"])
    for row, ours in zip(record["models"], table.to_dict("records"), strict=True):
        assert (row["value"], row["ci_low"]) == (ours["value"], ours["ci_low"])
    assert {each["name"] for each in record["records"]} == set(list_energy_models()) and record["unpriced"]
    text = spikeattn("energy", small, "--energy-model", "compute, sana-fe-loihi").out
    assert spikeattn("energy", small, "--energy-model", "compute", "--energy-model", "sana-fe-loihi").out == text
    assert "x compute" in text and "not in it" in text and "has no price for 96 multiply-accumulates" in text
    assert spikeattn("energy", small, "--energy-model", "all", "--out", "all.csv").out == ""
    written = pd.read_csv(tmp_path / "all.csv")
    assert list(written["value"]) == pytest.approx(list(table["value"])) and "total" not in set(written["model"])
    one = spikeattn("energy", small, "--energy-model", "spikes-per-synapse").out
    assert "spikes per synapse" in one and "verdict" in one
    split = spikeattn("energy", small, "--energy-model", "sana-fe-loihi").out
    assert "somas" in split and "synapses" in split


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--energy-model", "compute,nsace"], "did you mean 'ns-ace'"),
        (["--energy-model", "all,compute"], "unknown energy model 'all'"),
        (["--energy-model", "all", "--off-chip"], "--off-chip goes with one model"),
        (["--energy-model", "compute,compute+memory", "--costs", "loihi"], "cannot be split"),
        (["--energy-model", "all", "--convention", "sdt-paper"], "like --convention exact"),
    ],
)
def test_what_is_refused(spikeattn, small, arguments, message) -> None:
    assert message in spikeattn("energy", small, *arguments).error
