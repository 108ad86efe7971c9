"""`spikeattn audit`, as a user sees it, from an empty folder."""

from __future__ import annotations

import json

import pandas as pd

LAYERS = """\
Layer,rate,MACs,pJ
stem,,1000,4140
conv,0.5,2000,900
"""
MAP = 'name = "mine"\nformula = "rate x MACs x 0.9 pJ"\n[columns]\nlayer = "Layer"\nrate = "rate"\ndense = "MACs"\n'
NET = """\
import torch
from spikingjelly.activation_based import layer, neuron

class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.img_size = 8
        self.stem = layer.Conv2d(3, width, 1, bias=False, step_mode="m")
        self.lif = neuron.LIFNode(step_mode="m")
        self.conv = layer.Conv2d(width, 5, 1, bias=False, step_mode="m")
    def forward(self, x):
        return self.conv(self.lif(self.stem(x.repeat(2, 1, 1, 1, 1)))).mean((0, 3, 4))

def build(width=4):
    return Net(width)
"""


def test_audit(spikeattn, tmp_path):
    (tmp_path / "t.csv").write_text(LAYERS)
    (tmp_path / "map.toml").write_text(MAP.replace("[columns]", 'time_steps = 1\n[columns]\nenergy = "pJ"'))
    outcome = spikeattn("audit", "t.csv", "--map", "map.toml")
    assert outcome.code == 0 and outcome.err == ""
    assert "energy: 1 of 2 differ" in outcome.out
    assert "4.14 pJ per MAC where 4.6 pJ is stated" in outcome.out
    assert "A difference says that two figures of one table disagree" in outcome.out
    assert "exact: a table of rates does not hold the exact count" in outcome.out
    record = json.loads(spikeattn("audit", "t.csv", "--map", "map.toml", "--json").out)
    (only,) = record["differences"]
    assert (only["line"], only["layer"], only["formula"]) == (2, "stem", 4600)
    priced = {row["convention"]: row["energy_mj"] for row in record["conventions"]}
    assert priced["exact"] is None and round(priced["input-rate"] * 1e9) == 5500
    assert spikeattn("audit", "t.csv", "--map", "map.toml", "--out", "d.csv").out == ""
    assert list(pd.read_csv(tmp_path / "d.csv")["layer"]) == ["stem"]


def test_audit_on_a_network_of_ones_own(spikeattn, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "map.toml").write_text(MAP)
    (tmp_path / "t.csv").write_text("Layer,rate,MACs\nstem,,768\nconv,0.5,1280\n")
    record = json.loads(spikeattn("audit", "t.csv", "--map", "map.toml", "--model", "net.py:build", "--json").out)
    assert record["differences"] == [] and record["compared"] == {"network": 2}
    priced = {row["convention"]: row["energy_mj"] for row in record["conventions"]}
    assert abs(priced["input-rate"] * 1e9 - (4.6 * 768 + 0.9 * 1280)) < 1e-6  # T = 2: 2 x 0.5 x 1280, the stem once
    wide = spikeattn("audit", "t.csv", "--map", "map.toml", "--model", "net.py:build", "--model-arg", "width=8")
    assert wide.code == 0 and "network: 2 of 2 differ" in wide.out
    (tmp_path / "t.csv").write_text("Layer,rate,MACs\nstem,,768\nconv9,0.5,1280\n")
    wrong = spikeattn("audit", "t.csv", "--map", "map.toml", "--model", "net.py:build")
    assert wrong.code == 1 and "conv9 (line 3); the network has stem, conv" in wrong.error


def test_audit_refuses_in_one_sentence(spikeattn, tmp_path):
    (tmp_path / "t.csv").write_text(LAYERS)
    assert spikeattn("audit", "t.csv").code == 1
    assert "they are Layer, rate, MACs, pJ. Write a map" in spikeattn("audit", "t.csv").error
    assert "cannot be read" in spikeattn("audit", "none.csv").error
    named = spikeattn("audit", "layers_spikeyolo")  # a table of the package
    assert named.code == 0 and "energy: 1 of 89 differ" in named.out
    assert spikeattn("audit").code == 2
    assert spikeattn("audit", "t.csv", "--heads", "0").code == 2
    (tmp_path / "map.toml").write_text(MAP)
    assert "unknown cost table" in spikeattn("audit", "t.csv", "--map", "map.toml", "--costs", "gold").error
