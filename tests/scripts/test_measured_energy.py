"""Measured beside modelled: a replay counts what was recorded, folded pools change no sum, the page is its tables."""

from __future__ import annotations

import importlib

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.conftest import ROOT

REPORT = ROOT / "reports" / "measured"


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return lambda name: importlib.import_module(f"measured.{name}")


def test_recorded_steps_are_those_of_one_inference(part, tmp_path):
    """Axes (W, H, C, T) in the file; [T, C, H, W] of 16 steps from the layer's own first one."""
    pilotnet = part("pilotnet")
    spikes = np.arange(5 * 4 * 3 * 24).reshape(5, 4, 3, 24)
    np.save(tmp_path / "a.npy", spikes)
    window = pilotnet._recorded(tmp_path / "a.npy", 2)
    assert window.shape == (pilotnet.STEPS, 3, 4, 5)
    assert window[0, 1, 2, 3] == spikes[3, 2, 1, 2] and window[-1, 0, 0, 0] == spikes[0, 0, 0, 17]
    given = pilotnet.Recorded(np.ones((2, 3), dtype=bool))(torch.rand(2, 1, 3))
    assert given.tolist() == [[[1, 1, 1]], [[1, 1, 1]]]


def test_additions_at_weights_that_are_not_zero(part):
    conv = nn.Conv2d(1, 2, 2, bias=False)
    conv.weight.data = torch.tensor([[[[1.0, 0], [0, -3]]], [[[0, 0], [0, 0.5]]]])
    spikes = torch.zeros(3, 1, 3, 3)
    spikes[0, 0, 1, 1] = 1  # in the middle it meets every weight once: three are not 0
    spikes[2, 0, 0, 0] = 1  # in the corner the first alone
    assert part("pilotnet")._at_weights(conv, spikes) == 3 + 1
    assert conv.weight[0, 0, 1, 1] == -3  # as before


class SumPool2d(nn.LPPool2d):
    """A sum over 2 x 2, named as sinabs names it."""

    def __init__(self):
        super().__init__(1, 2, 2)


def test_pools_fold_into_the_layer_behind(part):
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 4, 5)
    layers = [SumPool2d(), conv, nn.ReLU(), SumPool2d(), nn.Flatten(), linear]
    x = torch.randint(0, 3, (2, 3, 8, 8)).float()
    folded = part("nmnist_cnn").folded(layers)
    assert [type(layer).__name__ for layer in folded] == ["Conv2d", "ReLU", "Flatten", "Linear"]
    assert folded[0].kernel_size == (6, 6) and folded[0].stride == (2, 2) and folded[0].padding == (2, 2)
    torch.testing.assert_close(nn.Sequential(*folded)(x), nn.Sequential(*layers)(x))


def test_frames_are_counts_per_millisecond(part, tmp_path):
    t, x, y, p = [5, 900, 1004, 1005, 400_000], [1, 1, 2, 2, 3], [7, 7, 8, 8, 9], [0, 0, 1, 1, 0]
    np.savez(tmp_path / "e.npz", t=np.array(t), x=np.array(x), y=np.array(y), p=np.array(p))
    frames = part("nmnist_cnn").frames(tmp_path / "e.npz")
    assert frames.shape == (310, 2, 34, 34) and frames.sum() == 5
    assert frames[0, 0, 7, 1] == 2 and frames[0, 1, 8, 2] == 1 and frames[1, 1, 8, 2] == 1 and frames[-1, 0, 9, 3] == 1


def test_the_committed_page_is_of_its_tables(part):
    pilotnet, page = part("pilotnet"), (REPORT / "measured.md").read_text()
    figures = pd.read_csv(REPORT / "pilotnet.csv")
    for what, energy in (("dynamic", pilotnet.DYNAMIC_MJ), ("total", pilotnet.TOTAL_MJ)):
        assert figures[f"factor_{what}"] == pytest.approx(figures.modelled_mj / energy) and f"{energy} mJ" in page
    for row in (*figures.to_dict("records"), *pd.read_csv(REPORT / "nmnist_cnn.csv").to_dict("records")):
        assert f"| {row['model']} | {row['modelled_mj']:.4g} |" in page
    by_model = figures.set_index("model").modelled_mj
    sops = by_model["SOPs x loihi"] / 23.6
    assert by_model["SOPs x truenorth"] == pytest.approx(2.5 * sops)
    assert by_model["compute"] == pytest.approx(0.9 * sops)  # the image is a current: no layer multiplies
    assert f"{sops * 1e9:,.0f}" in page and f"{pilotnet.DYNAMIC_MJ / sops:.3g} pJ" in page
