"""Gate thresholds per channel ("spiking SVDA"): the gate in closed form, sigma = 1 and the fold as identities, MACs."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.models import SpikeDrivenTransformer
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.models.variants.spiking_svda import (
    ChannelScale,
    ChannelThresholdLIF,
    SpikeDrivenSvdaTransformer,
    convert,
    fold,
)
from spikeattn.tracing.examine import ledger_of

SMALL = {"img_size": 8, "in_chans": 1, "num_classes": 3, "embed_dim": 16, "depth": 2, "num_heads": 2}
SMALL |= {"pooling_stat": "0001", "time_steps": 3}


@pytest.fixture
def images() -> Tensor:
    return torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def lively(images: Tensor, **kwargs) -> SpikeDrivenTransformer:
    """A random model whose attention fires."""
    torch.manual_seed(0)
    model = SpikeDrivenTransformer(**(SMALL | kwargs))
    calibrate_batch_norm(model, images)
    for name, module in model.named_modules():
        if name.endswith(("q_bn", "k_bn", "v_bn")):
            nn.init.constant_(module.bias, 1.0)
    return model.eval()


@torch.no_grad()
def spikes_of(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Spikes of every neuron, and the logits, of one pass."""
    seen, handles = {}, []
    for name, module in model.named_modules():
        if isinstance(module, neuron.BaseNode):
            handles.append(module.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out})))
    functional.reset_net(model)
    seen["logits"] = model(images)
    functional.reset_net(model)
    for handle in handles:
        handle.remove()
    return seen


def set_sigma(model: SpikeDrivenSvdaTransformer, sigma: Tensor) -> None:
    for block in model.block:
        block.attn.scale.raw.data = sigma.to(block.attn.scale.raw).expm1().log()  # inverse of softplus


# ---------------------------------------------------------------- the neuron
def test_one_threshold_per_channel_in_closed_form():
    # tau = 2, constant input 1: v is 1/2, 3/4, 7/8 ...; a threshold of 0.75 is reached at the second step.
    node = ChannelThresholdLIF(torch.tensor([0.5, 0.75, 0.8, 1.0]))
    out = node(torch.ones(4, 2, 4))
    assert out[:, 0].T.tolist() == [[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert torch.equal(out[:, 0], out[:, 1])
    functional.reset_net(node)
    assert node.v == 0.0
    node.step_mode = "s"
    assert [node(torch.ones(1, 4, 1, 1)).flatten().tolist() for _ in range(2)] == [[1, 0, 0, 0], [1, 1, 0, 0]]


def test_with_equal_thresholds_it_is_spikingjellys_neuron():
    x = 3 * torch.randn((6, 2, 5, 3, 3), generator=torch.Generator().manual_seed(0))
    theirs = neuron.LIFNode(tau=2.0, v_threshold=0.5, detach_reset=True, step_mode="m")
    assert torch.equal(ChannelThresholdLIF(torch.full((5,), 0.5))(x), theirs(x))


def test_the_fold_of_powers_of_two_is_exact_and_of_any_sigma_in_double():
    generator = torch.Generator().manual_seed(0)
    votes = torch.randint(0, 6, (8, 4, 64), generator=generator)
    for sigma, dtype in (
        (2.0 ** torch.randint(-3, 4, (64,), generator=generator), torch.float32),
        (torch.rand(64, generator=generator, dtype=torch.float64) + 0.05, torch.float64),
    ):
        theirs = neuron.LIFNode(tau=2.0, v_threshold=0.5, detach_reset=True, step_mode="m")
        scaled = theirs(votes.to(dtype) * sigma)
        folded = ChannelThresholdLIF(0.5 / sigma)(votes.to(dtype))
        assert torch.equal(scaled, folded) and 0 < scaled.mean() < 1


def test_gradients_reach_the_input():
    x = torch.ones(2, 1, 3, requires_grad=True)
    ChannelThresholdLIF(torch.ones(3))(x).sum().backward()
    assert x.grad.abs().min() > 0


# ---------------------------------------------------------------- the model
def test_scale_is_sigma_times_the_votes():
    scale = ChannelScale(3, 0.7)
    torch.testing.assert_close(scale.sigma(), torch.full((3,), 0.7))
    scale.raw.data = torch.tensor([-1.0, 0.0, 2.0])
    votes = torch.arange(12.0).view(2, 2, 3, 1, 1)
    torch.testing.assert_close(scale(votes), torch.log1p(scale.raw.exp()).view(3, 1, 1) * votes)


@pytest.mark.parametrize("kwargs", [{}, {"dvs": True, "spike_mode": "plif"}])
def test_with_sigma_one_it_is_the_spike_driven_transformer(images, kwargs):
    plain = lively(images, **kwargs)
    model = convert(plain)
    before, after = spikes_of(plain, images), spikes_of(model, images)
    assert before.keys() == after.keys()
    for name, spikes in before.items():
        assert torch.equal(spikes, after[name]), name
    assert 0 < before["block.0.attn.talking_heads_lif"].mean() < 1
    count = [sum(p.numel() for p in m.parameters()) for m in (plain, model)]
    assert count[1] - count[0] == 2 * 16 and not model.training


def test_sigma_changes_the_gate_as_the_formula_says(images):
    model = convert(lively(images))
    set_sigma(model, torch.linspace(0.05, 3, 16))
    attn, seen = model.block[0].attn, {}
    attn.kv_mask.register_forward_hook(lambda m, args, out: seen.update(kv=out))
    gate = spikes_of(model, images)["block.0.attn.talking_heads_lif"]
    v = torch.zeros(4, 16)
    for t in range(3):
        v = v + (attn.scale.sigma().detach() * seen["kv"][t].sum((2, 3)) - v) / 2
        fires = v >= 0.5
        assert torch.equal(gate[t, :, :, 0, 0], fires.float())
        v = torch.where(fires, 0, v)


@pytest.mark.parametrize("kwargs", [{}, {"dvs": True}, {"spike_mode": "plif"}])
def test_folded_model_gives_the_same_spikes(images, kwargs):
    model = convert(lively(images, **kwargs)).double()
    generator = torch.Generator().manual_seed(1)
    set_sigma(model, torch.rand(16, generator=generator) * 2 + 0.05)
    folded = fold(model)
    before, after = spikes_of(model, images.double()), spikes_of(folded, images.double())
    assert before.keys() == after.keys()
    for name, spikes in before.items():
        assert torch.equal(spikes, after[name]), name
    assert type(folded) is SpikeDrivenTransformer and isinstance(
        folded.block[0].attn.talking_heads_lif, ChannelThresholdLIF
    )
    assert any("talking_heads_lif.thresholds" in key for key in folded.state_dict())


def test_the_ledger_holds_t_times_d_macs_per_block_until_folded(images):
    model = convert(lively(images))
    ledger, plain, folded = ledger_of(model), ledger_of(lively(images)), ledger_of(fold(model))
    for i in range(2):
        scale = ledger.synapse(f"block.{i}.attn.scale")
        assert scale.dense_macs * ledger.time_steps == 3 * 16 and scale.every_step
        assert (scale.input, scale.part, scale.block) == (f"block.{i}.attn.votes", "attention", i)
    assert ledger.dense_macs() - plain.dense_macs() == 2 * 16
    assert not ledger.uncounted
    assert folded.dense_macs() == plain.dense_macs() and not folded.uncounted
    assert [t.name for t in folded.tensors] == [t.name for t in plain.tensors]
    assert [p.name for p in folded.products] == [p.name for p in plain.products]
    gate = folded.tensor("block.0.attn.talking_heads_lif")
    assert gate.kind == "binary" and gate.maker == "neuron"


def test_sigma_is_priced_as_macs_and_the_fold_as_nothing(images):
    model = convert(lively(images))
    profiles = []
    for m in (model, fold(model)):
        profiles.append(sa.profile(m, [images]))
    scaled, folded = (p.operations().set_index("synapse") for p in profiles)
    rows = scaled.loc[[f"block.{i}.attn.scale" for i in range(2)]]
    assert rows["macs"].tolist() == [4 * 3 * 16] * 2 and rows["sops"].tolist() == [0, 0]  # images x T x D
    rest = scaled.drop(rows.index).reset_index(drop=True)  # the votes have a name of their own
    pd.testing.assert_frame_equal(rest, folded.reset_index(drop=True))
    macs = 2 * 3 * 16 * 4.6e-9  # mJ per image, at 4.6 pJ
    assert profiles[0].energy().total.value - profiles[1].energy().total.value == pytest.approx(macs)


def test_sigma_learns(images):
    model = convert(lively(images)).train()
    model(images).sum().backward()
    grad = model.block[1].attn.scale.raw.grad
    assert grad.isfinite().all() and grad.abs().sum() > 0


def test_errors_name_what_to_do(images):
    with pytest.raises(SpikeattnError, match="sigma=0"):
        SpikeDrivenSvdaTransformer(sigma=0, **SMALL)
    with pytest.raises(SpikeattnError, match="svda.convert"):
        convert(nn.Linear(2, 2))
    with pytest.raises(SpikeattnError, match="fold takes"):
        fold(lively(images))
    with pytest.raises(SpikeattnError, match="one positive number per channel"):
        ChannelThresholdLIF(torch.tensor([1.0, 0.0]))
