"""The six indicators: closed forms, then brute-force oracles on the N x N maps, then whole models and the log."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from spikingjelly.activation_based import functional
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from spikeattn.attention import indicators as ind
from spikeattn.attention.indicator_log import IndicatorLog
from spikeattn.errors import SpikeattnError
from spikeattn.models import SpikeDrivenTransformer
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.models.variants import svda
from spikeattn.reporting.figures.indicator_curves import indicator_figure, save_indicators

SMALL = {"img_size": 8, "patch_size": 2, "in_chans": 1, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
SPIKING = {"img_size": 8, "in_chans": 1, "num_classes": 3, "embed_dim": 32, "depth": 2, "num_heads": 4}


@pytest.fixture
def images() -> Tensor:
    return torch.rand((3, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def lively(images: Tensor, bias: float = 1.5, **kwargs: bool) -> SpikeDrivenTransformer:
    """A random model whose attention fires, the more the higher the bias of q, k and v."""
    torch.manual_seed(0)
    model = SpikeDrivenTransformer(**SPIKING, pooling_stat="0001", **kwargs)
    calibrate_batch_norm(model, images)
    for name, module in model.named_modules():
        if name.endswith(("q_bn", "k_bn", "v_bn")):
            torch.nn.init.constant_(module.bias, bias)
    return model.eval()


@pytest.fixture
def spiking(images: Tensor) -> SpikeDrivenTransformer:
    return lively(images)


# ---------------------------------------------------------------- closed forms
def test_spectra_in_closed_form():
    entropy, rank, sparsity = ind.spectral(torch.tensor([[1.0, -1, 1, 1], [5, 0, 0, 0], [1, 1, 0.009, 0]]))
    torch.testing.assert_close(entropy[:2], torch.tensor([math.log(4), 0.0]))
    torch.testing.assert_close(rank[:2], torch.tensor([4.0, 1.0]))
    assert sparsity.tolist() == [0, 0.75, 0.5]
    assert ind.spectral(torch.tensor([1.0, 0.01]))[2] == 0  # eps * max itself is not below it


def test_a_spectrum_of_zeros_is_undefined_everywhere():
    assert all(value.isnan() for value in ind.spectral(torch.zeros(3)))


def test_alignment_in_closed_form():
    q, k = torch.tensor([[2.0, 0], [0, 0]]), torch.tensor([[-1.0, 0], [0, 3], [1, 1], [0, 0]])
    torch.testing.assert_close(ind.alignment(q, k), torch.tensor((1 + 0 + 0.5**0.5) / 3))
    assert ind.alignment(torch.zeros(2, 2), k).isnan()


def test_alignment_of_spikes_is_overlap_over_root_of_counts():
    q, k = torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[1.0, 1, 1, 1], [0, 0, 1, 0], [1, 0, 0, 0]])
    expected = (2 / math.sqrt(2 * 4) + 0 + 1 / math.sqrt(2 * 1)) / 3
    torch.testing.assert_close(ind.alignment(q, k), torch.tensor(expected))


def test_selectivity_in_closed_form():
    assert ind.selectivity(torch.full((4, 4), 0.25)) == pytest.approx(0, abs=1e-6)
    assert ind.selectivity(torch.eye(4)) == 1
    two_of_four = torch.tensor([[1.0, 1, 0, 0]]).repeat(4, 1)  # counts, not probabilities: ln 2 / ln 4 is left
    assert ind.selectivity(two_of_four) == pytest.approx(0.5)
    two_of_four[1:] = 0  # rows of zeros do not count
    assert ind.selectivity(two_of_four) == pytest.approx(0.5)
    assert ind.selectivity(torch.zeros(4, 4)).isnan()
    with pytest.raises(SpikeattnError, match="two tokens"):
        ind.selectivity(torch.ones(1, 1))


def test_robustness_in_closed_form():
    a = torch.tensor([[3.0, 4], [0, 0]])
    assert ind.robustness(a, a) == 1
    assert ind.robustness(a, 0 * a) == 0
    assert ind.robustness(a, -a) == -1
    assert ind.robustness(a, a + torch.tensor([[0, 0], [0, 1.0]])) == pytest.approx(0.8)
    assert ind.robustness(0 * a, a).isnan()


def test_flipped_deletes_and_inserts_as_many():
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand((400, 500), generator=generator) < 0.2).float()
    out = ind.flipped(spikes, 0.1, generator)
    deleted, inserted = (spikes > out).sum().item(), (out > spikes).sum().item()
    expected = 0.1 * spikes.sum().item()  # 4000; standard errors are 60 and 63
    assert abs(deleted - expected) < 250 and abs(inserted - expected) < 250
    assert set(out.unique().tolist()) == {0.0, 1.0}
    for same in (torch.zeros(3, 4), torch.ones(3, 4)):  # nothing to delete; nowhere to insert
        assert torch.equal(ind.flipped(same, 0.0, generator), same)
    assert not ind.flipped(torch.zeros(3, 4), 1.0, generator).any()


# ---------------------------------------------------------------- oracles on the N x N maps
@pytest.mark.parametrize("shape", [(20, 6), (4, 6), (6, 6)])
def test_singular_values_are_those_of_the_whole_product(shape):
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn((2, *shape), generator=generator, dtype=torch.float64) for _ in range(2))
    whole = np.linalg.svd((q @ k.mT).numpy(), compute_uv=False)
    np.testing.assert_allclose(ind.singular_values(q, k).numpy(), whole[:, : min(shape)], rtol=1e-10)
    assert np.all(whole[:, min(shape) :] < 1e-10)


def test_spike_map_has_integer_entries_and_the_spectrum_of_the_oracle():
    generator = torch.Generator().manual_seed(1)
    q, k, v = ((torch.rand((2, 3, 30, 5), generator=generator) < 0.5).double() for _ in range(3))
    gate = (torch.rand((2, 3, 5), generator=generator) < 0.7).double()
    maps = ind.implied_map(q, k * v, gate)
    for t in range(2):
        for h in range(3):
            for i, j in ((0, 0), (3, 29), (17, 4)):
                expected = sum(q[t, h, i, c] * gate[t, h, c] * k[t, h, j, c] * v[t, h, j, c] for c in range(5))
                assert maps[t, h, i, j] == expected and expected == int(expected)
    values = ind.singular_values(q * gate[..., None, :], k * v)
    whole = np.linalg.svd(maps.numpy(), compute_uv=False)
    np.testing.assert_allclose(values.numpy(), whole[..., :5], atol=1e-10)
    assert (whole[..., 5:] < 1e-10).all()  # rank at most d


def by_hand(spectrum: np.ndarray, q: np.ndarray, k: np.ndarray, a: np.ndarray) -> dict[str, float]:
    """Entropy, rank, alignment and selectivity of one head with loops over tokens."""
    p = np.abs(spectrum) / np.abs(spectrum).sum()
    entropy = -sum(x * math.log(x) for x in p if x > 0)
    cosines = [abs(float(x @ y)) / (np.linalg.norm(x) * np.linalg.norm(y)) for x in q for y in k if x.any() and y.any()]
    rows = [row / row.sum() for row in a if row.sum() > 0]
    chosen = [1 + sum(x * math.log(x) for x in row if x > 0) / math.log(len(a)) for row in rows]
    return {
        "spectral_entropy": entropy,
        "effective_rank": math.exp(entropy),
        "alignment": float(np.mean(cosines)),
        "selectivity": float(np.mean(chosen)),
    }


def check(rows: pd.DataFrame, layer: str, head: int, samples: list[dict[str, float]]) -> None:
    row = rows[(rows["layer"] == layer) & (rows["head"] == head)].iloc[0]
    for name in samples[0]:
        assert row[name] == pytest.approx(np.mean([s[name] for s in samples]), rel=2e-4, abs=1e-6), name


def test_softmax_attention_of_a_vit(images):
    torch.manual_seed(0)
    vit = VisionTransformer(**SMALL).eval()
    seen = {}
    vit.blocks[1].attn.register_forward_pre_hook(lambda module, args: seen.update(x=args[0]))
    rows = ind.measure(vit, images)
    assert list(rows["layer"]) == ["blocks.0.attn"] * 2 + ["blocks.1.attn"] * 2 and set(rows["kind"]) == {"softmax"}
    qkv = vit.blocks[1].attn.qkv(seen["x"]).detach().double().numpy()  # [B, 17, 48]
    for head in range(2):
        samples = []
        for image in qkv:
            q, k = image[:, 8 * head : 8 * head + 8], image[:, 16 + 8 * head : 24 + 8 * head]
            a = np.exp(q @ k.T / math.sqrt(8))
            samples.append(by_hand(np.linalg.svd(q @ k.T, compute_uv=False), q, k, a / a.sum(1, keepdims=True)))
        check(rows, "blocks.1.attn", head, samples)


@pytest.mark.parametrize("per_head", [False, True])
def test_svda(images, per_head):
    torch.manual_seed(0)
    model = svda.convert(VisionTransformer(**SMALL), per_head=per_head).eval()
    layer, seen = model.blocks[0].attn, {}
    with torch.no_grad():
        layer.sigma.copy_(torch.linspace(-2, 9, len(layer.sigma)))
    layer.register_forward_pre_hook(lambda module, args: seen.update(x=args[0]))
    rows = ind.measure(model, images)
    assert set(rows["kind"]) == {"svda"}
    with torch.no_grad():
        q, k = layer.queries_keys(seen["x"])
        a, sigma = layer.attention(seen["x"]), layer.spectrum().detach()
    for head in range(2):
        each = zip(q[:, head], k[:, head], a[:, head], strict=True)
        samples = [by_hand(sigma[head].numpy(), *(x.double().numpy() for x in xs)) for xs in each]
        check(rows, "blocks.0.attn", head, samples)
    assert rows["robustness"].between(0, 1).all()


@pytest.mark.parametrize("dvs", [False, True])
def test_spike_driven_attention(spiking, images, dvs):
    """Against the maps of what the gate's neurons receive, k AND v, with dvs behind Erode; q from its own neurons."""
    model = lively(images, bias=0.5, dvs=True) if dvs else spiking  # the pools of dvs fill whatever fires as often
    seen = {}
    attn = model.block[1].attn
    for name in ("q_lif", "k_lif", "kv_pool" if dvs else "kv_mask", "talking_heads_lif"):
        getattr(attn, name).register_forward_hook(lambda m, args, out, name=name: seen.setdefault(name, out))
    rows = ind.measure(model, images)
    votes = seen["kv_pool" if dvs else "kv_mask"]
    assert votes.sum() != seen["k_lif"].sum()
    assert set(rows["kind"]) == {"spikes"} and len(rows) == 8
    for head in range(4):
        mine, samples = slice(8 * head, 8 * head + 8), []
        for t in range(4):
            for b in range(3):
                q, k, kv = (x[t, b, mine].flatten(1).T.double().numpy() for x in (seen["q_lif"], seen["k_lif"], votes))
                a = (q * seen["talking_heads_lif"][t, b, mine].flatten().numpy()) @ kv.T
                samples.append((q, k, a))
        live = [(q, k, a) for q, k, a in samples if a.any()]
        spectra = [by_hand(np.linalg.svd(a, compute_uv=False), q, k, a) for q, k, a in live]
        for name in ("spectral_entropy", "effective_rank", "selectivity"):
            check(rows, "block.1.attn", head, [{name: s[name]} for s in spectra])
        row = rows[(rows["layer"] == "block.1.attn") & (rows["head"] == head)].iloc[0]
        assert row["silent"] == pytest.approx(1 - len(live) / 12)
    assert rows["silent"].max() < 1 and rows["robustness"].min() < 1


def test_erode_and_heads_are_followed(images):
    torch.manual_seed(0)
    model = SpikeDrivenTransformer(**SPIKING, pooling_stat="0001", dvs=True)
    calibrate_batch_norm(model, images)
    rows = ind.measure(model, images)
    assert list(rows["head"]) == [0, 1, 2, 3] * 2


def test_a_silent_model_gives_nan_and_says_so(images):
    rows = ind.measure(SpikeDrivenTransformer(**SPIKING, pooling_stat="0001"), torch.zeros_like(images))
    assert (rows["silent"] == 1).all() and rows[list(ind.INDICATORS)].isna().all(axis=None)


# ---------------------------------------------------------------- the model stays as it was; the log
def test_the_model_is_left_as_it_was_and_results_repeat(spiking, images):
    spiking.train()
    state = {key: value.clone() for key, value in spiking.state_dict().items()}
    first, second = ind.measure(spiking, images), ind.measure(spiking, images)
    pd.testing.assert_frame_equal(first, second)
    assert all(module.training for module in spiking.modules())
    assert all(torch.equal(value, state[key]) for key, value in spiking.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in spiking.modules())
    assert spiking.head_lif.v == 0.0
    with pytest.raises(SpikeattnError):
        ind.measure(spiking, images[:, :, :4])
    assert not any(m._forward_hooks for m in spiking.modules()) and spiking.training
    functional.reset_net(spiking)


def test_errors_name_what_to_do(images):
    with pytest.raises(SpikeattnError, match="Linear has no attention layer"):
        ind.measure(torch.nn.Linear(8, 2), images)
    with pytest.raises(SpikeattnError, match="flips=2"):
        ind.measure(VisionTransformer(**SMALL), images, flips=2)
    with pytest.raises(SpikeattnError, match="log is empty"):
        _ = IndicatorLog(images).frame


def test_log_keeps_epochs_in_order_and_writes_them(images, tmp_path):
    log = IndicatorLog(images)
    torch.manual_seed(0)
    model = svda.convert(VisionTransformer(**SMALL))
    log.record(model, 1)
    with torch.no_grad():
        model.blocks[0].attn.sigma[4:] = 0
    log.record(model, 2)
    with pytest.raises(SpikeattnError, match="epoch 2 is in the log"):
        log.record(model, 2)
    paths = save_indicators(log.frame, tmp_path / "new")
    assert [path.name for path in paths] == ["indicators.csv", "indicators.svg", "indicators.png"]
    back = pd.read_csv(paths[0])
    pd.testing.assert_frame_equal(back, log.frame, rtol=1e-5, check_dtype=False)
    rank = back[back["layer"] == "blocks.0.attn"].groupby("epoch")["effective_rank"].mean()
    assert rank.to_list() == pytest.approx([8, 4])
    assert back.loc[back["epoch"] == 2, "spectral_sparsity"].max() == 0.5
    assert "effective rank" in paths[1].read_text() and len(indicator_figure(log.frame).axes) == 6


def test_drawing_the_log_is_still_found_where_it_was(images, tmp_path):
    from spikeattn.attention import indicator_log

    with pytest.warns(DeprecationWarning, match="use spikeattn.reporting.figures.indicator_curves.indicator_figure"):
        assert indicator_log.indicator_figure is indicator_figure
    log = IndicatorLog(images)
    log.record(svda.convert(VisionTransformer(**SMALL)), 0)
    with pytest.warns(DeprecationWarning, match="save_indicators") as caught:
        paths = log.save(tmp_path, "old")
    assert [path.name for path in paths] == ["old.csv", "old.svg", "old.png"] and caught[0].filename == __file__
    with pytest.raises(AttributeError, match="no attribute 'figure'"):
        _ = indicator_log.figure
