"""Representative vectors: closed forms first, the reference cases, loops as an oracle, and what spikes do to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeattn.errors import SpikeattnError
from spikeattn.models.variants import br_npa


def tokens(*rows: list[float]) -> Tensor:
    """One image with these token vectors in a row: [1, C, 1, L]."""
    return torch.tensor(rows, dtype=torch.float32).T[None, :, None, :]


def test_two_groups_of_orthogonal_tokens_give_one_vector_each():
    vectors, maps = br_npa.representative_vectors(tokens([3, 0], [0, 2], [1, 0], [0, 4]), maps=2)
    expected = torch.tensor([[[0, 3.0], [2, 0]]])  # the mean of each group, the one with the longest token first
    torch.testing.assert_close(vectors, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(maps[0, :, 0], torch.tensor([[0, 0.5, 0, 0.5], [0.5, 0, 0.5, 0]]), atol=1e-5, rtol=0)


def test_cosines_are_the_weights():
    found = br_npa.represent(tokens([2, 0], [1, 1]), maps=1)
    cosine = 2**-0.5
    torch.testing.assert_close(found.maps.flatten(), torch.tensor([1, cosine]) / (1 + cosine), atol=1e-5, rtol=0)
    assert found.picked.tolist() == [[0]]
    torch.testing.assert_close(found.activity, torch.tensor([[2.0]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.pictures, found.maps * torch.tensor([2, 2**0.5]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", ["case0_relu", "case3_rates"])
def test_reference_cases(references: Path, case: str):
    given = np.load(references / "br_npa" / f"{case}.npz")
    K = int(given["n"])
    found = br_npa.represent(torch.from_numpy(given["x"]), K)
    assert np.abs(found.vectors.numpy() - given["vecs"]).max() < 1e-5
    assert np.abs(found.maps.numpy() - given["maps"]).max() < 1e-5
    assert np.abs(found.norms.numpy() - given["norm"][:, 0]).max() < 1e-5
    picked = torch.from_numpy(given["x"]).flatten(2).transpose(1, 2)[torch.arange(2)[:, None], found.picked]
    assert np.abs(picked.numpy() - given["vecs_norefine"]).max() < 1e-5


def test_activity_never_rises_and_maps_sum_to_one():
    torch.manual_seed(1)
    found = br_npa.represent(torch.rand(3, 8, 4, 5), maps=6)
    assert (found.activity.diff(dim=1) <= 1e-6).all()
    torch.testing.assert_close(found.maps.sum((2, 3)), torch.ones(3, 6))


def test_an_all_silent_image_is_uniform_and_flagged_and_leaves_its_neighbour_alone():
    torch.manual_seed(2)
    features = torch.rand(2, 4, 3, 3).round()
    features[0] = 0
    found = br_npa.represent(features, 3)
    assert found.silent.tolist() == [True, False]
    assert (found.maps[0] == 1 / 9).all() and (found.vectors[0] == 0).all() and (found.activity[0] == 0).all()
    assert (found.saliency[0] == 0).all()
    alone = br_npa.represent(features[1:], 3)
    torch.testing.assert_close(found.maps[1:], alone.maps, atol=0, rtol=0)


def test_a_silent_token_has_no_weight_and_is_not_picked_even_when_nothing_else_is_left():
    found = br_npa.represent(tokens([0, 0], [1, 0], [0, 0]), maps=8)
    assert (found.picked == 1).all()
    torch.testing.assert_close(found.maps[0, :, 0], torch.tensor([[0.0, 1, 0]]).expand(8, 3))


def test_ties_go_to_the_first_token_whatever_the_rounding():
    rates = torch.full((1, 7, 3, 3), 2 / 3)
    assert (br_npa.represent(rates, 3).picked == 0).all()
    rates[0, :, 1, 1] *= 1 + 1e-7  # below what counts as different
    assert br_npa.represent(rates, 1).picked.item() == 0
    rates[0, :, 1, 1] += 1 / 3
    assert br_npa.represent(rates, 1).picked.item() == 4
    shuffled = tokens([1, 0], [0, 1], [1, 0])
    assert br_npa.represent(shuffled, 2).picked.tolist() == [[0, 1]]


def test_one_token_is_its_own_representative():
    vector = torch.tensor([0.5, 0, 0.25]).view(1, 3, 1, 1)
    vectors, maps = br_npa.representative_vectors(vector, 2)
    torch.testing.assert_close(vectors, vector.view(1, 1, 3).expand(1, 2, 3))
    assert (maps == 1).all()
    assert (br_npa.representative_vectors(vector * 0, 2)[1] == 1).all()


def test_opposite_tokens_have_the_published_weight_or_none():
    opposite = tokens([2, 0], [-2, 0], [-1, 0])
    found = br_npa.represent(opposite, maps=2, nonnegative=True)
    torch.testing.assert_close(found.maps[0, :, 0], torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(  # 1 / (1 - 1 - 1) of each cosine
        br_npa.represent(opposite, maps=1).maps[0, 0, 0], torch.tensor([-1.0, 1, 1]), atol=1e-4, rtol=0
    )
    head = br_npa.RepresentativePooling(2)(opposite)
    torch.testing.assert_close(head, found.vectors.flatten(1))


def by_loops(features: np.ndarray, K: int) -> tuple[np.ndarray, np.ndarray]:
    """The formula of the specification in double precision, image by image and token by token."""
    B, C, h, w = features.shape
    vectors, maps = np.zeros((B, K, C)), np.zeros((B, K, h * w))
    for b in range(B):
        x = features[b].reshape(C, -1).T.astype(np.float64)  # [L, C]
        n = np.sqrt((x**2).sum(1)) + 1e-5
        active = x.any(1)
        if not active.any():
            maps[b] = 1 / len(x)
            continue
        a = np.where(active, n, -np.inf)
        for k in range(K):
            j = next(i for i in range(len(x)) if a[i] >= a.max() * (1 - 1e-6))
            s = np.array([x[i] @ x[j] / (n[i] * n[j]) for i in range(len(x))])
            maps[b, k] = s / s.sum()
            vectors[b, k] = maps[b, k] @ x
            a = np.where(active, a * (1 - s), -np.inf)
    return vectors, maps.reshape(B, K, h, w)


SHAPES = [(1, 4, 1, 1), (3, 1, 2, 3), (2, 512, 7, 7), (1, 2048, 3, 5), (4, 64, 8, 8), (1, 16, 1, 12), (2, 32, 14, 14)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["relu", "rates", "sparse rates", "one image silent", "signed"])
def test_any_shape_against_loops(shape, kind):
    rng = np.random.default_rng(SHAPES.index(shape))
    x = rng.standard_normal(shape)
    if kind == "relu":
        x = np.maximum(x, 0)
    elif kind != "signed":
        x = rng.binomial(4, 0.3 if kind == "rates" else 0.05, shape) / 4
    if kind == "one image silent":
        x[0] = 0
    K = 1 if shape[1] == 1 else 3  # with one channel all tokens are alike: what is picked then is rounding
    vectors, maps = br_npa.representative_vectors(torch.from_numpy(x.astype(np.float32)), K)
    expected_vectors, expected_maps = by_loops(x.astype(np.float32), K)
    wide = max(1.0, np.abs(expected_maps).max())  # cosines of signed features may add up to almost 0
    np.testing.assert_allclose(maps.numpy(), expected_maps, atol=1e-5 * wide, rtol=1e-4)
    np.testing.assert_allclose(vectors.numpy(), expected_vectors, atol=1e-5 * wide, rtol=1e-4)


def test_gradients_are_finite_also_for_silence():
    torch.manual_seed(3)
    features = (torch.rand(3, 6, 4, 4) > 0.7).float()
    features[0] = 0
    features.requires_grad_()
    br_npa.representative_vectors(features, 3)[0].square().sum().backward()
    assert torch.isfinite(features.grad).all() and features.grad[1:].abs().sum() > 0


def test_gradient_is_that_of_the_formula():
    torch.manual_seed(4)
    features = torch.rand(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: br_npa.representative_vectors(x, 2)[0], features)


def test_half_precision_is_computed_in_single_precision():
    features = torch.rand(1, 8, 4, 4).to(torch.bfloat16)
    vectors, maps = br_npa.representative_vectors(features, 2)
    wide = br_npa.representative_vectors(features.float(), 2)
    assert vectors.dtype == torch.bfloat16 and maps.dtype == torch.float32
    torch.testing.assert_close(maps, wide[1])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(br_npa.representative_vectors(features, 2)[1], wide[1])


@pytest.mark.parametrize("features", [torch.rand(2, 3, 4), torch.ones(1, 2, 3, 3).int(), torch.rand(1, 2, 0, 3), [1]])
def test_features_that_do_not_fit_are_named(features):
    with pytest.raises(SpikeattnError, match=r"\[B, C, h, w\]"):
        br_npa.representative_vectors(features)


@pytest.mark.parametrize("maps", [0, -1, 2.0, True])
def test_a_number_of_maps_below_one_is_refused(maps):
    with pytest.raises(SpikeattnError, match="maps"):
        br_npa.representative_vectors(torch.rand(1, 2, 3, 3), maps)
