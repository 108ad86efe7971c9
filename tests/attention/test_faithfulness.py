"""Faithfulness: models whose curves are known in closed form, and maps whose scores are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.attention import faithfulness as f
from spikeattn.attention.sanity import randomisation_check
from spikeattn.errors import SpikeattnError
from spikeattn.models.calibrate import calibrate_batch_norm


class Linear(nn.Module):
    """Two classes whose log-odds are the sum of weight * pixel; it keeps the largest batch it was given."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.largest = nn.Parameter(weight), 0

    def forward(self, x: Tensor) -> Tensor:
        self.largest = max(self.largest, len(x))
        evidence = (x * self.weight).flatten(1).sum(1)
        return torch.stack([evidence, torch.zeros_like(evidence)], 1)


WEIGHT = torch.tensor([[1.0, 2], [3, 0]])
IMAGE = torch.ones(1, 1, 2, 2)


def sigmoid(x: list[float]) -> np.ndarray:
    return 1 / (1 + np.exp(-np.array(x, dtype=float)))


def test_curves_are_those_of_a_linear_model():
    model = Linear(WEIGHT)
    down = f.deletion(model, IMAGE, WEIGHT[None])
    up = f.insertion(model, IMAGE, WEIGHT[None], fill="zero")
    np.testing.assert_allclose(down.scores[0], sigmoid([6, 3, 1, 0, 0]), rtol=1e-6)
    np.testing.assert_allclose(up.scores[0], sigmoid([0, 3, 5, 6, 6]), rtol=1e-6)
    assert down.share.tolist() == [0, 0.25, 0.5, 0.75, 1] and down.targets.tolist() == [0]
    s = sigmoid([6, 3, 1, 0, 0])
    np.testing.assert_allclose(down.auc, [(s[0] / 2 + s[1] + s[2] + s[3] + s[4] / 2) / 4])
    worse = f.deletion(model, IMAGE, -WEIGHT[None])
    assert worse.auc > down.auc


def test_ties_go_in_raster_order_and_the_other_class_has_the_other_curve():
    model = Linear(WEIGHT)
    np.testing.assert_allclose(f.deletion(model, IMAGE, np.ones((1, 2, 2))).scores[0], sigmoid([6, 5, 3, 0, 0]), 1e-6)
    other = f.deletion(model, IMAGE, WEIGHT[None], targets=np.array([1]))
    np.testing.assert_allclose(other.scores[0], 1 - sigmoid([6, 3, 1, 0, 0]), rtol=1e-6)


def test_a_map_at_the_grid_of_tokens_covers_rectangles_of_pixels():
    weight = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    model, images = Linear(weight), torch.ones(1, 1, 5, 7)
    scores = f.deletion(model, images, torch.tensor([[[1.0, 0, 2]]]), steps=3).scores[0]
    columns = [weight[:, :3].sum(), weight[:, 3:5].sum(), weight[:, 5:].sum()]
    total = float(sum(columns))
    left = [total, total - columns[2], total - columns[2] - columns[0], 0]
    np.testing.assert_allclose(scores, sigmoid([float(x) for x in left]), rtol=1e-5)


@pytest.mark.parametrize("fill", f.FILLS)
def test_the_memory_budget_changes_the_batches_and_nothing_else(fill: str):
    torch.manual_seed(1)
    model, images, maps = Linear(torch.randn(3, 8, 8)), torch.rand(5, 3, 8, 8), torch.rand(5, 4, 4)
    whole = f.insertion(model, images, maps, fill=fill)
    assert model.largest == 5 * 17
    model.largest = 0
    few = f.insertion(model, images, maps, fill=fill, memory_mb=0.02)
    assert 1 < model.largest < 17
    np.testing.assert_allclose(whole.scores, few.scores, rtol=1e-6)


def test_fills():
    torch.manual_seed(2)
    images = torch.rand(2, 3, 32, 48)
    blurred = f._filled(images, "blur")
    assert blurred.shape == images.shape and blurred.std() < 0.5 * images.std()
    torch.testing.assert_close(f._filled(torch.full((1, 1, 9, 9), 0.3), "blur"), torch.full((1, 1, 9, 9), 0.3))
    torch.testing.assert_close(f._filled(images, "mean")[1, 2, 3, 4], images[1, 2].mean())
    assert f._filled(torch.ones(1, 1, 1, 1), "blur").item() == pytest.approx(1)


def spiking() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    images = torch.rand(3, 1, 16, 16)
    model = sa.create_model("sdt_digits", depth=1, embed_dim=16, num_heads=2, time_steps=2)
    calibrate_batch_norm(model, images)
    return sa.br_npa.attach(model, 2), images


def test_a_spiking_model_gives_the_same_curves_in_any_chunks_and_comes_back_reset():
    model, images = spiking()
    maps = sa.br_npa.explain(model, images).saliency
    model.train()
    one = f.deletion(model, images, maps, steps=4)
    many = f.deletion(model, images, maps, steps=4, memory_mb=1e-3)
    assert model.training
    np.testing.assert_allclose(one.scores, many.scores, atol=1e-4)
    model.eval()
    alone = sa.br_npa.explain(model, images).logits
    with torch.no_grad():
        torch.testing.assert_close(model(images), alone)


def test_frames_are_deleted_in_every_time_step():
    model, _ = spiking()
    frames = torch.rand(2, 2, 1, 16, 16)
    last = f.deletion(model, frames, torch.rand(2, 8, 8), steps=2).scores[:, -1]
    silent = sa.br_npa.explain(model, torch.zeros_like(frames)).logits.softmax(1)
    targets = sa.br_npa.explain(model, frames).logits.argmax(1)
    np.testing.assert_allclose(last, silent[torch.arange(2), targets].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": torch.rand(2, 2, 2)}, "do not fit"),
        ({"maps": torch.rand(1, 3, 2)}, "do not fit"),
        ({"maps": torch.full((1, 2, 2), torch.nan)}, "NaN"),
        ({"maps": torch.rand(2, 2)}, r"\[B, h, w\]"),
        ({"fill": "blurr"}, "did you mean 'blur'"),
        ({"steps": 0}, "steps"),
        ({"targets": np.array([2])}, "classes from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, message: str):
    with pytest.raises(SpikeattnError, match=message):
        f.deletion(**({"model": Linear(WEIGHT), "images": IMAGE, "maps": WEIGHT[None]} | change))


def test_pointing_and_shares():
    maps = np.array([[[0.0, 1], [3, 0]], [[2.0, 2], [0, 0]], [[0.0, 0], [0, 0]]])
    roi = np.zeros((3, 4, 4), bool)
    roi[:, 2:, :2] = True  # the lower left cell
    roi[1] = False
    roi[1, :2, :2] = True  # the upper left cell
    np.testing.assert_allclose(f.pointing(maps, roi), [1, 0.5, 0.25])
    np.testing.assert_allclose(f.roi_share(maps, roi), [0.75, 0.5, 0])
    np.testing.assert_allclose(f.roi_percentile(maps, roi), [100, 100 * (0.5 + 2) / 3, 50])
    with pytest.raises(SpikeattnError, match="negative"):
        f.roi_share(-maps, roi)
    with pytest.raises(SpikeattnError, match="some, not all"):
        f.roi_percentile(maps, np.zeros((3, 2, 2), bool))
    with pytest.raises(SpikeattnError, match="boolean"):
        f.pointing(maps, roi.astype(int))


def test_sparseness_of_known_maps():
    maps = np.array([np.ones((2, 2)), [[0, 0], [0, 5]], np.zeros((2, 2)), [[1, 1], [0, 0]]])
    np.testing.assert_allclose(f.gini(maps), [0, 0.75, 0, 0.5], atol=1e-12)
    np.testing.assert_allclose(f.entropy_sparseness(maps), [0, 1, 0, 0.5], atol=1e-12)
    assert f.gini(np.ones((1, 1, 1))) == 0 and f.entropy_sparseness(np.ones((1, 1, 1))) == 0


@pytest.mark.parametrize("case", ["case0_relu", "case3_rates"])
def test_sparsity_of_the_reference_cases(references: Path, case: str):
    given = np.load(references / "br_npa" / f"{case}.npz")
    found = sa.br_npa.represent(torch.from_numpy(given["x"]), int(given["n"]))
    assert abs(f.br_npa_sparsity(found.maps, found.norms).mean() - given["sparsity"]) < 1e-5


def test_sparsity_of_silence_is_zero():
    found = sa.br_npa.represent(torch.zeros(1, 4, 3, 3))
    assert f.br_npa_sparsity(found.maps, found.norms) == 0


def test_rank_correlation_has_ties_and_no_nan():
    a = np.array([[[1.0, 2], [3, 4]], [[0.0, 0], [0, 0]]])
    np.testing.assert_allclose(f.rank_correlation(a, -a), [-1, 0])
    np.testing.assert_allclose(f.rank_correlation(a, a**3), [1, 0])


def layered() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)), torch.rand(3, 1, 8, 8)


def test_redrawn_layers_change_only_the_maps_behind_them():
    model, images = layered()
    before = [p.clone() for p in model.parameters()]
    first = randomisation_check(model, images, lambda m, x: m[0](x).sum(1), order="independent")
    assert first.groupby("layer", sort=False)["spearman"].mean().index.tolist() == ["2", "0"]
    assert (first.query("layer == '2'")["spearman"] == 1).all()
    assert (first.query("layer == '0'")["spearman"] < 1).all()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("draw", ["permute", "normal"])
def test_a_cascade_is_seeded_and_reports_significance_and_constant_maps(draw: str):
    model, images = layered()

    def maps(m: nn.Module, x: Tensor) -> Tensor:
        return m(x).sum(1)

    def significant(m: nn.Module, x: Tensor) -> Tensor:
        return maps(m, x) > maps(m, x).mean()

    a = randomisation_check(model, images, maps, significant, draw=draw, seed=7)
    assert a.equals(randomisation_check(model, images, maps, significant, draw=draw, seed=7))
    assert len(a) == 6 and a["jaccard"].between(0, 1).all() and not a["constant"].any()
    edge = randomisation_check(model, images, lambda m, x: torch.full((3, 2, 2), float(m is model)))
    assert edge["constant"].all() and (edge["spearman"] == 0).all()


def test_the_check_runs_on_spikes_and_names_unknown_layers():
    model, images = spiking()
    table = randomisation_check(
        model, images, lambda m, x: sa.br_npa.explain(m, x).saliency, layers=["head", "block.0.attn.q_conv"]
    )
    assert table["layer"].unique().tolist() == ["block.0.attn.q_conv", "head"]
    assert np.isfinite(table["spearman"]).all()
    with pytest.raises(SpikeattnError, match="head"):
        randomisation_check(model, images, lambda m, x: sa.br_npa.explain(m, x).saliency, layers=["haed"])
    with pytest.raises(SpikeattnError, match="cascade"):
        randomisation_check(model, images, lambda m, x: x[:, 0], order="cascad")
