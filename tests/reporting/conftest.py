"""Small finished profiles: a firing SDT on the digits, and a foreign network with hostile names."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import spikeattn as sa
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.reporting.output_folder import stems
from tests.any_spikingjelly import layer, neuron

HOSTILE = '<script>alert("x")</script>&_$%#{}~^\\'
T, IMAGES = 4, 24
LATEX = "on Debian and Ubuntu: apt install texlive-latex-recommended texlive-science lmodern"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def firing_sdt(time_steps: int, images: int) -> sa.Profile:
    """A random SDT whose batch norms are calibrated, on the first digits."""
    torch.manual_seed(0)
    model = sa.create_model("sdt_digits", embed_dim=32, num_heads=4, time_steps=time_steps)
    loader = sa.make_loader(sa.open_dataset("digits", model), batch_size=24, limit=images)
    calibrate_batch_norm(model, 3 * next(iter(loader)).images)
    return sa.profile(model, loader, provenance={"command": f"spikeattn profile --model {HOSTILE}"})


class Foreign(nn.Module):
    """Two stages without names in any paper, one of them named to break things; a square root that is not counted."""

    def __init__(self, hostile: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(layer.Conv2d(1, 4, 3, padding=1, step_mode="m"), neuron.IFNode(step_mode="m"))
        self.stages = nn.ModuleList()
        self.stages.append(nn.Sequential(layer.Conv2d(4, 4, 3, padding=1, step_mode="m"), neuron.IFNode(step_mode="m")))
        self.add_module(hostile, neuron.IFNode(v_threshold=0.2, step_mode="m"))
        self.fc = layer.Linear(4 * 64, 3, step_mode="m")
        self.hostile = hostile

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(5 * x.repeat(3, 1, 1, 1, 1))
        x = (x + self.stages[0](x)).sqrt()
        return self.fc(getattr(self, self.hostile)(x).flatten(2)).mean(0)


@pytest.fixture(scope="session")
def profile() -> sa.Profile:
    return firing_sdt(T, IMAGES)


@pytest.fixture(scope="session")
def single() -> sa.Profile:
    """One image, one time step."""
    return firing_sdt(1, 1)


@pytest.fixture(scope="session")
def silent() -> sa.Profile:
    torch.manual_seed(0)
    model = sa.create_model("sdt_digits", embed_dim=32, num_heads=4)
    return sa.profile(model, sa.make_loader(sa.open_dataset("digits", model), limit=IMAGES))


@pytest.fixture(scope="session")
def foreign() -> sa.Profile:
    """No labels, no paper names, an uncounted operation, and a module called <script>."""
    torch.manual_seed(0)
    model = Foreign(HOSTILE)
    model.provenance = {"name": HOSTILE, "trained": None}
    return sa.profile(model, [torch.rand(4, 1, 8, 8) for _ in range(2)])


@pytest.fixture(scope="session")
def attended(tmp_path_factory) -> Path:
    """What `spikeattn attend` writes, as far as a report reads it: two images, one of them with a hostile name."""
    folder, names = tmp_path_factory.mktemp("attended"), ["digits/11", HOSTILE]
    (folder / "panels").mkdir()
    files = [f"panels/{stem}.png" for stem in stems(names)]
    for shade, file in enumerate(files):
        Image.new("RGB", (1000, 800), (40 * shade, 90, 200)).save(folder / file)
    rows = [
        {"model": "UNTRAINED sdt_digits", "image": name, "layer": layer, "tokens": 16, "significant": 0.25,
         "significant_q": None, "pi0": 0.9, "largest_z": 2.5, "warned": False}
        for name in names for layer in (0, 1)
    ]  # fmt: skip
    interval = {"value": 0.4, "low": 0.3, "high": 0.5, "method": "percentile"}
    spent = [{"image": n, "blocks_mj": 4e-3, "spurious_mj": 1e-3 * (i + 1)} for i, n in enumerate(names)]
    network = {
        "title": "UNTRAINED sdt_digits",
        "details": "V_S; B = 9",
        "rule": "p ≤ 0.1",
        "model": {"name": "sdt_digits"},
    }
    energy = {"share_of_blocks": interval, "share_of_network": interval, "spurious_mj": interval, "outside_share": 0.1}
    grid = [
        {"null": null, "replicates": 9, "question": question, "rule": rule, "share": 0.4 + 0.1 * k, "low": 0.3,
         "high": 0.9, "interval": "studentised, replicates", "chosen": k == 0}
        for k, (null, rule, question) in enumerate(
            itertools.product(("pixel", HOSTILE), ("q <= 0.1",), ("how much", "where"))
        )
    ]  # fmt: skip
    energy |= {"specifications": grid, "interval": "images and replicates"}
    summary = {
        "command": f"spikeattn attend --images {HOSTILE}", "untrained": True, "networks": [network], "images": rows,
        "energy": energy | {"images": spent}, "files": files, "skipped": [],
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    np.savez(folder / "attention.npz", images=np.array(names))
    pd.DataFrame(rows).to_csv(folder / "attention.csv", index=False)
    return folder


@pytest.fixture
def rates():
    """A frame of rates with any number of tensors and time steps, without paper names."""

    def make(tensors: int, steps: int) -> pd.DataFrame:
        values = np.random.default_rng(0).random((tensors, steps)) ** 3 / 2
        values = np.concatenate([values, values.mean(axis=1, keepdims=True)], axis=1)
        names = [f"stages.{i // 9}.blocks.{i}.attention.neuron" for i in range(tensors)]
        frame = pd.DataFrame(
            {
                "tensor": np.repeat(names, steps + 1),
                "role": None,
                "part": None,
                "block": pd.array([pd.NA] * tensors * (steps + 1), dtype="Int64"),
                "kind": "binary",
                "t": pd.Series([*range(1, steps + 1), "mean"] * tensors, dtype=object),
                "nonzero_rate": values.ravel(),
                "ci_low": values.ravel() * 0.9,
                "ci_high": values.ravel() * 1.1,
                "interval": "percentile",
            }
        )
        frame.attrs = {"confidence": 0.95, "n_images": 7}
        return frame

    return make
