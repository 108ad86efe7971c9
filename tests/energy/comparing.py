"""Small live profiles to compare, and how a row of a comparison is found."""

from __future__ import annotations

import pandas as pd
import timm
import torch

import spikeattn as sa
from spikeattn.models.calibrate import calibrate_batch_norm

PARTS = ["SPS", "QKV", "attention", "projection", "MLP1", "MLP2", "head", "total"]
TINY = {"img_size": 16, "in_chans": 1, "num_classes": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}


def row(frame: pd.DataFrame, part: str = "total", costs: str = "horowitz-45nm-fp32", bits: bool = False) -> pd.Series:
    chosen = frame[(frame["costs"] == costs) & (frame["part"] == part)]
    return chosen[chosen["against"].str.endswith("bits") == bits].iloc[0]


def live(time_steps: int, seed: int, n: int = 30) -> sa.Profile:
    torch.manual_seed(seed)
    model = timm.create_model("sdt_digits", time_steps=time_steps, **TINY).eval()
    images = torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(5)) * 2
    calibrate_batch_norm(model, images)
    model.provenance = {"name": "sdt_digits", "config": dict(model.config), "trained": None}
    return sa.profile(model, [(images[:n], torch.arange(n) % 4)])
