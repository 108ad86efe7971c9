"""BR-NPA heads in real networks: attached, explained, trained, counted, at high resolution."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.models.variants import br_npa, spiking_svda
from spikeattn.tracing.examine import plan

TINY = {"img_size": 16, "in_chans": 1, "num_classes": 5, "embed_dim": 16, "depth": 1, "num_heads": 2}
TINY |= {"pooling_stat": "1100", "time_steps": 3}


def live(images: Tensor, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    model = sa.models.SpikeDrivenTransformer(**(TINY | kwargs)).eval()
    calibrate_batch_norm(model, images)
    return model


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
    assert {entry.op for entry in ledger.uncounted} == {"mul", "div", "linalg_vector_norm"}


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


@pytest.mark.parametrize("pooling", ["1111", "1100"])
def test_an_sdt_answers_as_before_where_its_tokens_are_all_alike(pooling):
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(13))
    model = live(images, pooling_stat=pooling)
    attached = br_npa.attach(model, maps=3)
    for network in (model, attached):
        network.block[-1].register_forward_hook(lambda _, __, out: out[..., :1, :1].expand_as(out))
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(attached(images), expected, atol=1e-5, rtol=1e-4)
    assert expected.std(0).min() > 0


def test_a_model_derived_from_the_sdt_is_refused_by_name():
    with pytest.raises(SpikeattnError, match="SpikeDrivenSvdaTransformer is no plain"):
        br_npa.attach(spiking_svda.convert(sa.models.SpikeDrivenTransformer(**TINY)))


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
