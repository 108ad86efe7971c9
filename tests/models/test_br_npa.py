"""BR-NPA: closed forms first, the reference cases, what spikes do to it, and the heads in real networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.models import br_npa
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.recording.examine import plan

TINY = {"img_size": 16, "in_chans": 1, "num_classes": 5, "embed_dim": 16, "depth": 1, "num_heads": 2}
TINY |= {"pooling_stat": "1100", "time_steps": 3}


def tokens(*rows: list[float]) -> Tensor:
    """One image with these token vectors in a row: [1, C, 1, L]."""
    return torch.tensor(rows, dtype=torch.float32).T[None, :, None, :]


def live(images: Tensor, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    model = sa.models.SpikeDrivenTransformer(**(TINY | kwargs)).eval()
    calibrate_batch_norm(model, images)
    return model


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
def test_reference_cases(shared: Path, case: str):
    given = np.load(shared / "refs" / "brnpa" / f"{case}.npz")
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


def test_macs_equal_the_counted_ones():
    features = torch.rand(1, 16, 5, 7)
    head = nn.Sequential(br_npa.RepresentativePooling(4), nn.Linear(64, 10))
    with FlopCounterMode(display=False) as counter:
        head(features)
    macs = br_npa.head_macs(16, 35, maps=4, num_classes=10)
    assert counter.get_total_flops() == 2 * (macs["total"] - macs["norms"])  # the counter has no rule for norms
    assert macs == {"norms": 560, "cosines": 2240, "sums": 2240, "linear": 640, "total": 5680}


def test_the_ledger_holds_the_heads_products_once_per_image_and_names_what_it_leaves_out():
    torch.manual_seed(12)
    images = torch.rand(2, 1, 16, 16)
    ledger = plan(br_npa.attach(live(images), maps=2), images).ledger
    own = [product for product in ledger.products if product.name.startswith("pool.")]
    macs = br_npa.head_macs(16, 16, maps=2, num_classes=5)
    assert sum(product.elements for product in own) == macs["cosines"] + macs["sums"]
    assert not any(product.every_step for product in own) and not ledger.synapse("head").every_step
    assert ledger.synapse("head").dense_macs == macs["linear"]
    assert [entry.op for entry in ledger.uncounted] == ["mean", "linalg_vector_norm"]


def test_attached_sdt_is_the_rate_of_the_last_lif_and_leaves_the_model_alone():
    torch.manual_seed(5)
    images = torch.rand(4, 1, 16, 16)
    model = live(images)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    attached = br_npa.attach(model, maps=2)
    spikes = []
    handle = attached.head_lif.register_forward_hook(lambda _, __, out: spikes.append(out))
    with torch.no_grad():
        logits = attached(images)
    handle.remove()
    rate = spikes[0].mean(0)
    assert spikes[0].shape == (3, 4, 16, 4, 4) and 0 < rate.mean() < 1
    vectors, _ = br_npa.representative_vectors(rate, 2)
    torch.testing.assert_close(logits, F.linear(vectors.mean(1), model.head.weight, model.head.bias))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert list(attached.paper_names()) == list(model.paper_names())
    assert {k for k, _ in attached.named_parameters()} == {k for k, _ in model.named_parameters()}


def test_explained_maps_belong_to_the_logits_and_the_model_is_reset():
    torch.manual_seed(6)
    images = torch.rand(3, 1, 16, 16)
    attached = br_npa.attach(live(images), maps=3).train()
    found = br_npa.explain(attached, images)
    assert attached.training and found.maps.shape == (3, 3, 4, 4) and found.saliency.shape == (3, 4, 4)
    attached.eval()
    with torch.no_grad():
        torch.testing.assert_close(attached(images), found.logits)
    functional.reset_net(attached)
    torch.testing.assert_close(br_npa.explain(attached, images).logits, found.logits)


def test_a_silent_sdt_answers_with_its_bias_and_says_so():
    attached = br_npa.attach(sa.models.SpikeDrivenTransformer(**TINY))
    found = br_npa.explain(attached, torch.zeros(2, 1, 16, 16))
    assert found.silent.all()
    torch.testing.assert_close(found.logits, attached.head.bias.expand(2, 5))


def test_event_frames_and_learned_time_constants_pass_too():
    torch.manual_seed(7)
    frames = torch.rand(2, 3, 1, 16, 16)
    attached = br_npa.attach(live(frames, spike_mode="plif", dvs=True), maps=2)
    assert br_npa.explain(attached, frames).logits.shape == (2, 5)


def test_training_reaches_the_backbone():
    torch.manual_seed(8)
    images = torch.rand(4, 1, 16, 16)
    attached = br_npa.attach(live(images), maps=3, dropout=0.1).train()
    F.cross_entropy(attached(images), torch.tensor([0, 1, 2, 3])).backward()
    gradient = attached.patch_embed.proj_conv.weight.grad
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_what_cannot_be_attached_is_named():
    with pytest.raises(SpikeattnError, match="tet"):
        br_npa.attach(sa.models.SpikeDrivenTransformer(**(TINY | {"tet": True})))
    with pytest.raises(SpikeattnError, match="forward_features"):
        br_npa.attach(nn.Linear(2, 2))
    model = sa.models.SpikeDrivenTransformer(**TINY)
    with pytest.raises(SpikeattnError, match="already"):
        br_npa.attach(br_npa.attach(model))
    with pytest.raises(SpikeattnError, match="maps from 1"):
        br_npa.attach(model, maps=0)
    with pytest.raises(SpikeattnError, match="no BR-NPA head"):
        br_npa.explain(model, torch.rand(1, 1, 16, 16))


def test_timm_cnn_keeps_its_body_and_starts_from_its_classifier():
    torch.manual_seed(9)
    model = timm.create_model("resnet10t", num_classes=7).eval()
    images = torch.rand(2, 3, 64, 64)
    attached = br_npa.attach(model, maps=3)
    found = br_npa.explain(attached, images)
    vectors, _ = br_npa.representative_vectors(model.forward_features(images), 3)
    torch.testing.assert_close(found.logits, model.fc(vectors.mean(1)).detach(), atol=1e-5, rtol=1e-4)
    assert found.maps.shape == (2, 3, 2, 2)
    with pytest.raises(SpikeattnError, match="not a map"):
        br_npa.attach(timm.create_model("test_vit", num_classes=7))(torch.rand(1, 3, 160, 160))


@pytest.mark.parametrize("name", ["resnet10t", "resnet18d", "efficientnet_b0", "regnetx_002"])
def test_removed_strides_make_the_map_of_a_cnn_finer_with_the_same_weights(name):
    torch.manual_seed(10)
    model = timm.create_model(name, num_classes=3).eval()
    finer = br_npa.high_resolution(br_npa.attach(model), stages=2, input_size=(3, 64, 64))
    images = torch.rand(1, 3, 64, 64)
    assert model.forward_features(images).shape[-2:] == (2, 2)
    assert br_npa.explain(finer, images).maps.shape[-2:] == (8, 8)
    assert all(torch.equal(a, b) for a, b in zip(finer.body.parameters(), model.parameters(), strict=False))


def test_halvings_that_are_no_stride_are_refused():
    with pytest.raises(SpikeattnError, match="even kernel"):
        br_npa.high_resolution(timm.create_model("test_convnext"), input_size=(3, 64, 64))
    with pytest.raises(SpikeattnError, match="halvings"):
        br_npa.high_resolution(timm.create_model("resnet10t"), stages=9, input_size=(3, 64, 64))
    with pytest.raises(SpikeattnError, match="whole number"):
        br_npa.high_resolution(timm.create_model("resnet10t"), stages=0)


def test_one_max_pool_less_gives_an_sdt_four_times_the_tokens():
    images = torch.rand(2, 1, 16, 16)
    attached = br_npa.attach(live(images), maps=2, dropout=0.2)
    finer = br_npa.high_resolution(attached)
    assert finer.config == attached.config | {"pooling_stat": "1000"}
    assert br_npa.explain(finer, images).maps.shape == (2, 2, 8, 8)
    assert all(torch.equal(a, b) for a, b in zip(finer.parameters(), attached.parameters(), strict=True))
    with pytest.raises(SpikeattnError, match="cannot drop 3"):
        br_npa.high_resolution(attached, stages=3)


def test_distillation_loss_is_its_formula():
    torch.manual_seed(11)
    student, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3])
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    expected = 0.7 * 9 * (p * (p / q).log()).sum(1).mean() + 0.3 * F.cross_entropy(student, labels)
    loss = br_npa.distillation_loss(student, teacher, labels, temperature=3, kl_share=0.7)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    assert br_npa.distillation_loss(student, student, labels, kl_share=1).abs() < 1e-6
    with pytest.raises(SpikeattnError, match="kl_share"):
        br_npa.distillation_loss(student, teacher, labels, kl_share=2)
