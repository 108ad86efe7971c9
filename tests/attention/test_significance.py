"""Significance of attention maps: the published reference cases, closed forms, and the maps that break formulas."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from spikeattn.attention.local_fdr import local_fdr
from spikeattn.attention.regularize import METHODS, regularize
from spikeattn.attention.significance import AttentionWarning, assess, benjamini_hochberg, published_pi0
from spikeattn.errors import SpikeattnError

CASES = (
    *("stat0_T196_B1", "stat3_T196_B20", "stat4_T64_B200"),
    *("vit0_normal_B1", "vit0_pixel_B8", "vit1_normal_global_B8"),
)
pytestmark = pytest.mark.filterwarnings("ignore::spikeattn.attention.significance.AttentionWarning")


def read(references, name):
    with np.load(references / "attention" / f"{name}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(params=CASES)
def case(request, references):
    return read(references, request.param)


def test_reference_statistics(case):
    found = assess(case["obs"], case["null"])
    m, B = case["obs"].size, len(case["null"])
    np.testing.assert_allclose(found.z, case["z"], atol=1e-5)
    np.testing.assert_allclose(found.p, case["p"], atol=2 / (m * (1 + B)))
    np.testing.assert_allclose(found.lfdr, case["lfdr"], atol=1e-5)
    np.testing.assert_allclose(found.q, case["q"], atol=1e-9)
    assert found.pi0 == pytest.approx(float(case["pi0"]), abs=1e-12)
    conservative = assess(case["obs"], case["null"], "plus-one")
    np.testing.assert_allclose(conservative.lfdr, np.maximum(case["lfdr_pi0_1"], conservative.q), atol=1e-5)
    if case["p_plusone_slow"].ndim:
        np.testing.assert_allclose(conservative.p, case["p_plusone_slow"], atol=1e-12)


@pytest.mark.parametrize("name", CASES[3:])
def test_reference_on_tokens_instead_of_pixels(references, name):
    case = read(references, name)
    found = assess(case["obs_tokens"], case["null_tokens"])
    for name in ("z", "p", "q", "lfdr"):
        pixels = np.kron(getattr(found, name).reshape(8, 8), np.ones((8, 8)))
        np.testing.assert_allclose(pixels, case[name], atol=1e-5)
    assert found.pi0 == pytest.approx(float(case["pi0"]), abs=1e-12)


@pytest.mark.parametrize("suffix", ["", "_0.1", "_med"])
def test_reference_masks(case, suffix):
    found = assess(case["obs"], case["null"])
    p_threshold, lfdr_threshold = case[f"thr{suffix}"]
    masks = {
        "p": (p_threshold, abs(found.p - p_threshold) < 1e-9),
        "lfdr": (lfdr_threshold, abs(found.lfdr - lfdr_threshold) < 1e-5),
        "pi0": (None, np.zeros(found.p.shape, bool)),
    }
    for method, (threshold, close) in masks.items():
        expected = case[f"obs_{method}{suffix}"]
        differs = regularize(case["obs"], found, method, threshold) != expected
        assert not (differs & ~close).any(), method


# statsmodels 0.15, multitest.local_fdr(z): z = linspace(-2, 2, 20) with its last five values raised by 2
STATSMODELS = (
    *(0.429646, 0.302910, 0.387364, 0.611856, 0.951288, 1.000000, 1.000000, 1.000000, 1.000000, 1.000000),
    *(1.000000, 1.000000, 1.000000, 1.000000, 1.000000, 0.021090, 0.005607, 0.001937, 0.001101, 0.001348),
)


def test_local_fdr_of_statsmodels():
    z = np.linspace(-2, 2, 20)
    z[-5:] += 2
    np.testing.assert_allclose(local_fdr(z), STATSMODELS, atol=1e-5)


def test_local_fdr_is_finite_whatever_the_scores():
    rng = np.random.default_rng(0)
    for z in (np.zeros(50), np.array([3.0]), np.array([0.0, 40.0]), np.repeat([0.0, 9.0], [60, 4]), rng.normal(size=9)):
        found = local_fdr(z)
        assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()


def test_closed_forms():
    # log scores: null 0 and 2 -> mean 1, sd 1; observed 1, 3, -1 -> z = 0, 2, -2
    found = assess(np.exp([1.0, 3.0, -1.0]), np.exp([[0.0, 2.0, 0.0], [2.0, 0.0, 2.0]]), "plus-one")
    np.testing.assert_allclose(found.z, [0, 2, -2], atol=1e-12)
    np.testing.assert_allclose(found.p, [1, 1 / 7, 1 / 7])
    np.testing.assert_allclose(found.q, [1, 3 / 14, 3 / 14])
    np.testing.assert_allclose(benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert published_pi0(np.full(100, 0.5)) == pytest.approx(1 / 11)


def test_counts_and_rates_agree():
    rng = np.random.default_rng(1)
    counts, null = rng.poisson(3, 64), rng.poisson(3, (50, 64))
    one, other = assess(counts, null, "plus-one", unit=1), assess(counts / 256, null / 256, "plus-one", unit=1 / 256)
    bare = assess(counts, null, "plus-one")
    for name in ("z", "p", "q", "lfdr"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-9)
        np.testing.assert_allclose(getattr(one, name), getattr(bare, name), atol=1e-9)


def published(observed, null):
    """z, p, pi0, q and masks at .1 written down from the paper, for scores without zeros."""
    x, x0 = np.log(observed), np.log(null)
    z, z0 = (x - x0.mean()) / x0.std(), (x0 - x0.mean()) / x0.std()
    everything = np.abs(np.concatenate([z.ravel(), z0.ravel()]))
    p = np.array([(everything > abs(one)).mean() for one in z.ravel()])
    m = p.size
    pi0 = min(1, (p > 0.89).sum() / (0.11 * m))
    order = np.argsort(p)
    q = np.array([(pi0 * m * p[order[i:]] / np.arange(i + 1, m + 1)).min() for i in range(m)])
    base = np.where(z.ravel() >= 0, observed.ravel(), 0)
    masks = {"p": base * (p <= 0.1), "pi0": base * (p <= np.percentile(p, 100 * (1 - pi0)))}
    return z, p, pi0, np.minimum(q[np.argsort(order)], 1), masks


@pytest.mark.parametrize(("tokens", "pixels"), [(4, 1), (4, 4), (9, 2), (49, 1), (64, 4), (196, 1), (784, 1)])
@pytest.mark.parametrize("B", [1, 2, 7, 40])
def test_published_statistics_for_any_number_of_tokens_and_replicates(tokens, B, pixels):
    rng = np.random.default_rng(tokens + B)
    side = int(tokens**0.5)
    signal = rng.random((side, side)) < 0.1
    spread = np.ones((pixels, pixels))
    observed = np.kron(np.exp(rng.standard_normal((side, side)) + 4 * signal), spread)
    null = np.stack([np.kron(one, spread) for one in np.exp(rng.standard_normal((B, side, side)))])
    z, p, pi0, q, masks = published(observed, null)
    found = assess(observed, null)
    np.testing.assert_allclose(found.z, z, atol=1e-9)
    np.testing.assert_allclose(found.p.ravel(), p, atol=1e-12)
    if pi0 > 0:  # no share of noise at all would call every token; at least one token counts
        assert found.pi0 == pytest.approx(pi0)
        np.testing.assert_allclose(found.q.ravel(), q, atol=1e-12)
        for method, expected in masks.items():
            np.testing.assert_array_equal(regularize(observed, found, method).ravel(), expected)


@pytest.mark.parametrize("estimator", ["published", "plus-one", "per-token"])
def test_zero_heavy_maps_are_not_significant_everywhere(estimator):
    rng = np.random.default_rng(2)
    for rate in (0.0, 0.01, 0.1, 0.3):
        for _ in range(5):
            observed, null = rng.poisson(rate, (14, 14)), rng.poisson(rate, (40, 14, 14))
            found = assess(observed, null, estimator, unit=1)
            arrays = [found.z, found.p, found.lfdr] + ([found.q] if estimator != "per-token" else [])
            assert all(np.isfinite(array).all() for array in arrays)
            assert (found.lfdr <= 0.1).mean() < 0.05
            assert all((values <= 0.1).mean() < 0.05 for values in arrays[3:])


@pytest.mark.parametrize("estimator", ["published", "plus-one", "per-token"])
@pytest.mark.parametrize("value", [0.0, 0.3, 5.0])
def test_constant_maps_call_no_token(estimator, value):
    null = np.random.default_rng(3).gamma(2, 1, (200, 16))
    for observed, replicates in ((np.full(16, value), null), (null[0], np.full((200, 16), value))):
        with pytest.warns(AttentionWarning, match="no token is called"):
            found = assess(observed, replicates, estimator)
        assert (found.p == 1).all() and (found.q == 1).all() and (found.lfdr == 1).all() and (found.z == 0).all()
        for method in METHODS:
            kept = regularize(observed, found, method)
            assert not kept.any(), method


def test_published_pi0_warns_below_196_tokens():
    rng = np.random.default_rng(4)
    with pytest.warns(AttentionWarning, match="moves in steps of 0.14"):
        assess(rng.gamma(2, 1, 64), rng.gamma(2, 1, (20, 64)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assess(rng.gamma(2, 1, 196), rng.gamma(2, 1, (20, 196)))
        assess(rng.gamma(2, 1, 64), rng.gamma(2, 1, (20, 64)), "plus-one")


def test_per_token_q_needs_replicates():
    rng = np.random.default_rng(5)
    found = assess(rng.gamma(2, 1, 20), rng.gamma(2, 1, (199, 20)), "per-token")
    assert found.p.min() >= 1 / 200 and found.lfdr.shape == (20,)
    assert found.q is None
    with pytest.raises(SpikeattnError, match="Draw at least 200 replicates"):
        found.measure("q")
    with pytest.raises(SpikeattnError, match="at least 200"):
        regularize(np.ones(20), found, "q")
    assert assess(rng.gamma(2, 1, 20), rng.gamma(2, 1, (200, 20)), "per-token").q.shape == (20,)


def test_soft_mask_and_shape():
    rng = np.random.default_rng(6)
    observed, null = rng.gamma(2, 1, (8, 8)), rng.gamma(2, 1, (100, 8, 8))
    found = assess(observed, null, "plus-one")
    soft = regularize(observed, found, "soft")
    np.testing.assert_allclose(soft, np.where(found.z >= 0, observed * (1 - found.lfdr), 0))
    assert soft.shape == (8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(4), np.ones((3, 5))), "one image at a time"),
        ((np.ones((2, 3, 4)), np.ones((2, 2, 3, 4))), "one image at a time"),
        ((np.ones(4), np.ones((0, 4))), "0 replicates"),
        ((np.array([1, np.nan]), np.ones((1, 2))), "NaN"),
        ((np.array([1, -1.0]), np.ones((1, 2))), "negative"),
        ((np.ones(2), np.ones((1, 2)), "plusone"), "did you mean 'plus-one'"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(SpikeattnError, match=message):
        assess(*arguments)


def test_bad_arguments():
    rng = np.random.default_rng(7)
    observed, null = rng.gamma(2, 1, 9), rng.gamma(2, 1, (9, 9))
    for options, message in (
        ({"unit": 0}, "value of one spike"),
        ({"ties": "random"}, "plus-one"),
        ({"ties": "odd"}, "treatment of ties"),
        ({"pi0": "storeys"}, "unknown pi0"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            assess(observed, null, **options)
    found = assess(observed, null, "plus-one")
    for arguments, message in (
        ((np.ones(8), found), "shape"),
        ((observed, found, "hard"), "unknown regularisation"),
        ((observed, found, "p", 1.5), "probability"),
        ((observed, found, "soft", 0.1), "no threshold"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            regularize(*arguments)
