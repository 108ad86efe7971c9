"""Noise is called as seldom as promised, planted signals are found: calibrate_attention.py in small."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spikeattn as sa
from spikeattn.attention.nulls import draw_inputs
from spikeattn.attention.significance import assess


@pytest.mark.parametrize(
    ("mean", "ties", "low"), [(None, "plain", 0.03), (0.5, "random", 0.03), (3, "random", 0.03), (1, "plain", 0.0)]
)
def test_per_token_p_under_noise(mean, ties, low):
    rng, shares = np.random.default_rng(0), []
    for number in range(60):
        scores = rng.gamma(2, 1, (201, 64)) if mean is None else rng.poisson(mean, (201, 64))
        unit = None if mean is None else 1
        found = assess(scores[0], scores[1:], "per-token", unit=unit, ties=ties, seed=number)
        shares.append((found.p < 0.05).mean())
    assert low <= np.mean(shares) <= 0.07


@pytest.mark.parametrize("tokens", [49, 64, 196])
def test_planted_signals(tokens):
    rng, wrong, right = np.random.default_rng(tokens), [], []
    for _ in range(400):
        signal = rng.permutation(tokens) < 6
        observed = np.exp(rng.standard_normal(tokens) + 4 * signal)
        called = assess(observed, np.exp(rng.standard_normal((50, tokens))), "plus-one").q <= 0.1
        wrong.append((called & ~signal).sum() / max(1, called.sum()))
        right.append(called[signal].mean())
    assert np.mean(wrong) <= 0.12 and np.mean(right) >= 0.8


def test_noise_images_through_the_demo_model():
    model = sa.create_model("sdt_digits", pretrained=True)
    digits = sa.open_dataset("digits", model).images[:3]
    noise = torch.cat([draw_inputs("pixel", image, [0], seed=9, index=i) for i, image in enumerate(digits)])
    found = sa.attend(model, noise, "pixel", 59, estimator="per-token", seed=10)
    assert (found.p < 0.05).mean() <= 0.07
    assert (found.lfdr <= 0.1).mean() < 0.05
