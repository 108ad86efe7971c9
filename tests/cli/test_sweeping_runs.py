"""`spikeattn sweep` with points that are run: T, thresholds, checkpoints; what is kept, drawn, and cannot be."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

import spikeattn as sa
from spikeattn.cli import main
from spikeattn.provenance import weights_hash

OWN = """
import torch
from spikingjelly.activation_based import neuron
from torch import nn

class Net(nn.Module):
    def __init__(self, T, heed):
        super().__init__()
        self.T = T if heed else 2
        self.layer, self.lif = nn.Linear(256, 10), neuron.LIFNode(step_mode="m")

    def forward(self, images):
        return self.lif(3 * self.layer(images.flatten(1)).expand(self.T, -1, -1))

def build(T=2, heed=True):
    torch.manual_seed(0)
    return Net(T, heed)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run of the shipped network, of which the sweeps begin."""
    folder = tmp_path_factory.mktemp("base") / "run"
    options = ["--pretrained", "--data", "digits", "--limit", "12", "--threads", "1", "--time-steps", "2"]
    assert main(["profile", "--model", "sdt_digits", *options, "--out", str(folder)]) == 0
    return folder


def test_time_steps_are_run_kept_and_drawn(spikeattn, base, tmp_path):
    words = [
        "sweep",
        base,
        "--time-steps",
        1,
        2,
        "--runs",
        tmp_path / "T",
        "--threads",
        1,
        "--costs",
        "horowitz-45nm-fp32",
    ]
    done = spikeattn(*words, "--figure", tmp_path / "T.png")
    assert done.code == 0, done.err
    assert done.out.startswith("sdt_digits, 12 images, over time steps: every row a run of its own")
    assert (tmp_path / "T.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads(spikeattn(*words, "--json").out)
    own = sa.Profile.load(base)
    assert record["rows"][1]["energy_mj"] == own.energy().total.value
    assert record["rows"][1]["accuracy"] == own.summary()["accuracy"]
    assert [row["t"] for row in record["rows"]] == [1, 2] and (tmp_path / "T" / "T1" / "model.json").is_file()
    assert sa.Profile.load(tmp_path / "T" / "T1").provenance["inputs"]["time_steps"] == 1
    for suffix in ("csv", "tex"):
        assert spikeattn(*words, "--out", tmp_path / f"T.{suffix}").code == 0
    assert len(pd.read_csv(tmp_path / "T.csv")) == 2 and "Wilson interval" in (tmp_path / "T.tex").read_text()


def test_a_point_of_thresholds_is_opened_with_them_again(spikeattn, base, tmp_path):
    done = spikeattn("sweep", base, "--threshold-scale", "0.5", "1", "--runs", tmp_path / "runs", "--threads", 1)
    assert done.code == 0 and "v_threshold of every spiking neuron (19 LIFNode) x the value" in done.out
    from spikeattn.cli.stored_networks import Instead, open_stored

    ledger = sa.Profile.load(tmp_path / "runs" / "threshold-0.5").ledger
    again = open_stored(ledger, None, None, None, torch.device("cpu"), Instead("", ""))
    plain = sa.load_model("sdt_digits", pretrained=True)
    thresholds = [[m.v_threshold for m in net.modules() if hasattr(m, "v_threshold")] for net in (again.net, plain)]
    assert thresholds[0] == [0.5 * each for each in thresholds[1]]
    told = spikeattn("sweep", tmp_path / "runs" / "threshold-0.5", "--time-steps", 1).error
    assert "itself a point of a sweep over thresholds" in told


def test_checkpoints(spikeattn, base, tmp_path):
    files = []
    for name, scale in (("a", 1.0), ("b", 0.9)):
        model = sa.load_model("sdt_digits", pretrained=True)
        with torch.no_grad():
            model.head.weight.mul_(scale)
        files.append(tmp_path / f"{name}.pth")
        torch.save(model.state_dict(), files[-1])
    words = [word for file in files for word in ("--checkpoint", file)]
    done = spikeattn("sweep", base, *words, "--runs", tmp_path / "runs", "--threads", 1, "--json")
    assert [row["value"] for row in json.loads(done.out)["rows"][:2]] == ["a.pth", "b.pth"]
    kept = sa.Profile.load(tmp_path / "runs" / "checkpoint-b").ledger.settings
    assert kept.weights_sha256 == weights_hash(model) != sa.Profile.load(base).ledger.settings.weights_sha256


def test_a_network_of_ones_own_needs_the_name_of_its_t(spikeattn, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    run = tmp_path / "run"
    made = spikeattn("profile", "--model", "own.py:build", "--data", "digits", "--limit", 8, "--threads", 1,
                     "--input-shape", "1,16,16", "--out", run)  # fmt: skip
    assert made.code == 0, made.err
    unnamed = spikeattn("sweep", run, "--time-steps", 1, 3)
    assert (
        unnamed.code == 2
        and "T of own.py:build cannot be set" in unnamed.error
        and "--time-steps-arg T" in unnamed.error
    )
    named = spikeattn("sweep", run, "--time-steps", 1, 3, "--time-steps-arg", "T", "--json", "--threads", 1)
    assert [row["t"] for row in json.loads(named.out)["rows"][:2]] == [1, 3], named.err
    wrong = spikeattn("sweep", run, "--time-steps", 1, 3, "--time-steps-arg", "steps", "--threads", 1)
    assert "steps" in wrong.error and not wrong.out
    own = ("--data", "digits", "--limit", 8, "--threads", 1, "--input-shape", "1,16,16", "--out", tmp_path / "deaf")
    deaf = spikeattn("profile", "--model", "own.py:build", "--model-arg", "heed=False", *own)
    assert deaf.code == 0
    told = spikeattn("sweep", tmp_path / "deaf", "--time-steps", 1, 3, "--time-steps-arg", "T", "--threads", 1).error
    assert "T = 1 was asked for, and the network runs 2 time steps" in told


def test_what_does_not_go_together(spikeattn, base, tmp_path):
    sa.profile(sa.load_model("sdt_digits", pretrained=True), [torch.rand(2, 1, 16, 16)], tmp_path / "python")
    for words, told in (
        (
            (base, "--time-steps", 1, "--threshold-scale", 1),
            "--time-steps and --threshold-scale: a sweep goes over one",
        ),
        ((base, "--time-steps", 0), "give whole numbers from 1 on"),
        ((base, "--time-steps", "1,1"), "each once"),
        ((base, "--threshold-scale", "low"), "give numbers above 0"),
        ((base, "--runs", "r"), "--runs r: nothing is run"),
        ((base, "--time-steps", 1, "--rate-scale", 2), "rates are counted"),
        ((base, "--time-steps", 1, "--time-steps-arg", "T"), "sdt_digits takes its T without it"),
        (("--rates", "table_s1_sdt_8_512", "--model", "sdt_8_512", "--time-steps", 1), "has no network to run"),
        ((tmp_path / "python", "--time-steps", 1), "the run was made from Python"),
    ):
        done = spikeattn("sweep", *words)
        assert done.code in (1, 2) and told in done.error and not done.out
