"""`--model FILE.nir`: from a NIR file to the run and its check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import spikeattn as sa

nir = pytest.importorskip("nir", reason='reads NIR files: pip install "spikeattn[nir]"')


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """net.nir in the working folder: digits of 16 x 16 pixels, and a time step that the file leaves open."""
    weight = np.random.default_rng(0).normal(0, 0.3, (10, 256)).astype(np.float32)
    flat = nir.Flatten({"input": np.array([1, 16, 16])}, 0, -1)
    one, two = np.ones(10, dtype=np.float32), np.full(10, 2, dtype=np.float32)
    lif = nir.LIF(tau=two, r=one, v_leak=0 * one, v_threshold=one)
    first, last = nir.Input({"input": np.array([1, 16, 16])}), nir.Output({"output": np.array([10])})
    nodes = {"input": first, "flat": flat, "fc": nir.Linear(weight), "lif": lif, "output": last}
    nir.write(tmp_path / "net.nir", nir.NIRGraph(nodes, list(zip(nodes, list(nodes)[1:], strict=False))))
    return tmp_path


PROFILE = ("profile", "--model", "net.nir", "--data", "digits", "--limit", 6, "--threads", 1, "--out", "run")


def test_from_the_file_to_a_verified_run(spikeattn, place) -> None:
    done = spikeattn(*PROFILE, "--model-arg", "dt=1", "--time-steps", 3)
    assert done.code == 0, done.err
    assert done.out.startswith("net.nir, T=3, 6 images")
    model = sa.Profile.load("run").provenance["settings"]["model"]
    assert (model["config"], model["card"]) == ({"dt": 1.0, "time_steps": 3}, {"nir": nir.version})
    assert model["notes"] == ["NIR: time step dt = 1, given"]
    check = json.loads(spikeattn("verify", "run", "--json").out)
    assert (check["passed"], check["not_done"]) == (True, [])


def test_another_file_is_not_the_run_s(spikeattn, place) -> None:
    assert spikeattn(*PROFILE, "--model-arg", "dt=1", "--time-steps", 3).code == 0
    graph = nir.read("net.nir")
    graph.nodes["lif"].v_threshold = graph.nodes["lif"].v_threshold * 2
    nir.write("net.nir", graph)
    check = json.loads(spikeattn("verify", "run", "--json").out)
    assert {each["name"]: each["result"] for each in check["checks"]}["model"] == "failed"


def test_what_is_missing_is_asked_for(spikeattn, place) -> None:
    assert spikeattn(*PROFILE).error.startswith("error: net.nir does not say its time step, which its neurons need")
    still = spikeattn(*PROFILE, "--model-arg", "dt=1")
    assert "give frames [B, T, 1, 16, 16], or time_steps= (--model-arg time_steps=T)" in still.error
    wrong = spikeattn("profile", "--model", "none.nir", "--data", "digits", "--out", "run")
    assert wrong.error == "error: there is no file none.nir"
