"""Nulls: reproducible to the bit in any chunk, with the statistics they promise."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from spikeattn.attention.nulls import INPUT_NULLS, draw_inputs, draw_tokens, poisson_binomial
from spikeattn.attention.philox import philox
from spikeattn.attention.random_bits import integers, normal, uniform, words
from spikeattn.attention.significance import assess_distribution
from spikeattn.errors import SpikeattnError


def image_for(null: str, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    if null == "events":
        return torch.poisson(torch.rand(4, 2, 16, 16, generator=g), generator=g)
    return torch.rand(3, 16, 16, generator=g) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]


@pytest.mark.parametrize("null", INPUT_NULLS)
def test_replicates_do_not_depend_on_the_chunk(null):
    image = image_for(null)
    whole = draw_inputs(null, image, range(7), seed=3, index=2, patch=(4, 4))
    parts = [draw_inputs(null, image, chunk, seed=3, index=2, patch=(4, 4)) for chunk in ([6], [0, 1, 2], [3, 4, 5])]
    assert torch.equal(whole, torch.cat([*parts[1:], parts[0]]))
    assert whole.shape == (7, *image.shape) and whole.dtype == image.dtype
    for other in ({"seed": 4, "index": 2}, {"seed": 3, "index": 1}):
        assert not torch.equal(whole, draw_inputs(null, image, range(7), patch=(4, 4), **other))
    assert torch.equal(draw_tokens(49, range(5), seed=1)[2:4], draw_tokens(49, [2, 3], seed=1))


def test_philox_in_torch_is_numpys():
    keys = [(0, 0, 0), (5, 1, 2**40), (2**63, 3, 1)]
    state = np.stack([np.random.SeedSequence(key).generate_state(2, np.uint64) for key in keys]).view(np.int64)
    expected = np.stack([np.random.Philox(np.random.SeedSequence(key)).random_raw(4000) for key in keys])
    np.testing.assert_array_equal(philox(torch.from_numpy(state), 1000).numpy().view(np.uint64), expected)
    assert torch.equal(words(keys, 4000), torch.from_numpy(expected.view(np.int64)))
    assert words([], 3).shape == (0, 3)


def test_the_kernel_in_tritons_interpreter_is_numpys_philox():
    pytest.importorskip("triton")
    code = """
import numpy as np, torch
from spikeattn.attention import philox_kernel
seeds = [np.random.SeedSequence(key) for key in [(0, 0, 0), (5, 1, 2**40), (2**63, 3, 1)]]
state = np.stack([seed.generate_state(2, np.uint64) for seed in seeds]).view(np.int64)
expected = np.stack([np.random.Philox(seed).random_raw(1200) for seed in seeds])
np.testing.assert_array_equal(philox_kernel.philox(torch.from_numpy(state), 300).numpy().view(np.uint64), expected)
"""
    env = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_runs_on_the_device():
    from spikeattn.attention import philox_kernel
    from spikeattn.attention.random_bits import _maker

    assert _maker(torch.device("cuda")) is philox_kernel.philox


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("null", INPUT_NULLS)
def test_replicates_do_not_depend_on_the_device(null):
    image = image_for(null)
    options = {"seed": 3, "index": 2, "patch": (4, 4)}
    drawn = draw_inputs(null, image.cuda(), range(7), **options)
    assert drawn.device.type == "cuda"
    assert torch.equal(drawn.cpu(), draw_inputs(null, image, range(7), **options))


def test_normal_values_uniform_values_and_integers_are_what_they_say():
    keys = [(7, 0, replicate) for replicate in range(8)]
    drawn = normal(keys, 2**17).double()
    x = drawn.flatten().sort().values
    ecdf = torch.arange(1, len(x) + 1) / len(x)
    assert (torch.special.ndtr(x) - ecdf).abs().max() < 1.95 / len(x) ** 0.5  # Kolmogorov-Smirnov at .001
    assert abs(drawn.mean()) < 4e-3 and abs(drawn.var() - 1) < 6e-3
    corr = torch.corrcoef(drawn)
    assert (corr - torch.eye(8)).abs().max() < 0.015
    assert abs((drawn[:, 1:] * drawn[:, :-1]).mean()) < 5e-3
    values = uniform(keys, 2**16)
    assert values.min() >= 0 and values.max() < 1 and abs(values.mean() - 0.5) < 2e-3
    counts = torch.bincount(integers(keys, 2**16, 7).flatten(), minlength=7)
    expected = 2**19 / 7
    assert len(counts) == 7 and ((counts - expected) ** 2 / expected).sum() < 22.5  # chi-squared, 6, at .001


def test_normal_has_the_mean_and_deviation_of_each_channel():
    image = image_for("normal")
    drawn = draw_inputs("normal", image, range(200))
    torch.testing.assert_close(drawn.mean((0, 2, 3)), image.mean((1, 2)), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.std((0, 2, 3)), image.std((1, 2), correction=0), atol=0.03, rtol=0)
    assert draw_inputs("normal", image, range(50), std_factor=2).std() > 1.5 * drawn.std()
    one = draw_inputs("normal", image, range(200), all_channels=False)
    assert (one.mean((0, 2, 3)) - image.mean()).abs().max() < 0.03


def test_uniform_stays_in_the_range_of_each_channel():
    image = image_for("uniform")
    drawn = draw_inputs("uniform", image, range(50))
    low, high = image.amin((1, 2)), image.amax((1, 2))
    assert (drawn.amin((0, 2, 3)) >= low).all() and (drawn.amax((0, 2, 3)) <= high).all()
    torch.testing.assert_close(drawn.mean((0, 2, 3)), (low + high) / 2, atol=0.05, rtol=0)


def test_pixels_keep_their_colours_and_patches_their_pixels():
    image = image_for("pixel")
    colours = {tuple(pixel) for pixel in image.flatten(1).T.tolist()}
    drawn = draw_inputs("pixel", image, range(3))
    found = {tuple(pixel) for pixel in drawn.transpose(0, 1).flatten(1).T.tolist()}
    assert found <= colours and len(found) > 200
    squares = image.unfold(1, 4, 4).unfold(2, 4, 4).permute(1, 2, 0, 3, 4).flatten(0, 1)
    patched = draw_inputs("patch", image, [0], patch=(4, 4))[0]
    for square in patched.unfold(1, 4, 4).unfold(2, 4, 4).permute(1, 2, 0, 3, 4).flatten(0, 1):
        assert (square == squares).flatten(1).all(1).any()
    assert not torch.equal(patched, image)


def test_events_keep_the_number_of_events_of_a_bin():
    frames = image_for("events")
    drawn = draw_inputs("events", frames, range(20))
    bins = {tuple(row) for row in frames.sum((2, 3)).tolist()}
    assert {tuple(row) for row in drawn.sum((3, 4)).flatten(0, 1).tolist()} <= bins
    assert (drawn == drawn.round()).all() and drawn.min() == 0


def test_poisson_binomial_against_closed_forms():
    binomial = [math.comb(12, k) * 0.25**k * 0.75 ** (12 - k) for k in range(13)]
    np.testing.assert_allclose(poisson_binomial(np.full((3, 4), 4), 16), binomial, atol=1e-12)
    np.testing.assert_allclose(poisson_binomial([0, 16, 8], 16), [0, 0.5, 0.5, 0], atol=1e-12)
    rates = np.array([1, 5, 9, 3])
    by_hand = np.array([1.0])
    for rate in rates / 10:
        by_hand = np.convolve(by_hand, [1 - rate, rate])
    np.testing.assert_allclose(poisson_binomial(rates, 10), by_hand, atol=1e-12)
    large = poisson_binomial(np.random.default_rng(0).integers(0, 197, 4096), 196)
    assert large.shape == (4097,) and large.sum() == pytest.approx(1)


def test_exact_null_is_calibrated_and_finds_a_signal():
    rng, N, n = np.random.default_rng(1), 49, 256
    small = []
    for _ in range(60):
        K = rng.integers(0, 25, n)
        spikes = np.zeros((n, N))
        for channel, k in enumerate(K):
            spikes[channel, rng.permutation(N)[:k]] = 1
        counts = spikes.sum(0)
        found = assess_distribution(counts, poisson_binomial(K, N))
        small.append((found.p < 0.05).mean())
    assert 0.03 < np.mean(small) < 0.07
    counts[7] += 60
    found = assess_distribution(counts, poisson_binomial(K, N))
    assert found.q[7] < 1e-4 and (found.q < 0.1).sum() < 4 and found.lfdr[7] < 0.01
    with pytest.warns(match="no token is called"):
        assert (assess_distribution(np.zeros(4), [1.0, 0.0]).q == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_inputs("pixels", torch.rand(3, 4, 4), [0]), "did you mean 'pixel'"),
        (lambda: draw_inputs("patch", torch.rand(3, 16, 16), [0], patch=(5, 5)), "that divide them"),
        (lambda: draw_inputs("events", torch.rand(3, 16, 16), [0]), "event counts"),
        (lambda: draw_inputs("normal", torch.full((3, 4, 4), torch.nan), [0]), "NaN"),
        (lambda: draw_inputs("normal", torch.rand(3, 4, 4), [0], seed=-1), "from 0 on"),
        (lambda: poisson_binomial([5], 4), "from 5 to 5 on 4 tokens"),
        (lambda: assess_distribution([3], [0.5, 0.5]), "largest, 1"),
        (lambda: assess_distribution([1], [0.5, 0.6]), "add up to 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(SpikeattnError, match=message):
        call()
