"""The conclusions of the pages on SVDA, on "spiking SVDA" and on BR-NPA follow from their tables."""

from __future__ import annotations

import importlib
from types import ModuleType

import pandas as pd
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from tests.conftest import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """A module of scripts/ by name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def runs(right: dict[str, int], images: str = "test_images", column: str = "model") -> pd.DataFrame:
    """Two seeds of 1000 images each, with as many right per seed."""
    rows = [{column: name, "seed": seed, "correct": n, images: 1000} for name, n in right.items() for seed in (0, 1)]
    return pd.DataFrame(rows).assign(accuracy=lambda frame: frame["correct"] / 1000)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ((900, 950, 950, 952), "the gain is the start, not the layer"),
        ((900, 950, 950, 980), "SVDA shared: better than the control too"),
        ((900, 903, 905, 905), "nor the control than softmax"),
        ((900, 850, 850, 850), "nor the control than softmax"),
    ],
)
def test_the_conclusion_on_svda_follows_from_the_accuracies(script, right, expected):
    page = script("svda_page")
    text = page.conclusion(runs(dict(zip(("softmax", page.CONTROL, *page.LAYERS), right, strict=True))))
    assert expected in text
    assert f"{page.CONTROL} {(right[1] - right[0]) / 10:+.1f} (standard error" in text


def test_differences_are_in_points_with_their_binomial_error(script):
    points, error = script("svda_page").difference(runs({"a": 900, "b": 800}), "a", "b")
    assert points == pytest.approx(10)
    assert error == pytest.approx(100 * (0.9 * 0.1 / 2000 + 0.8 * 0.2 / 2000) ** 0.5)


def test_seeds_that_scatter_more_than_their_images_set_the_error(script):
    table = runs({"a": 900, "b": 850})
    table.loc[(table["model"] == "a") & (table["seed"] == 1), "correct"] = 800  # +5 and -5 points
    points, error = script("svda_page").difference(table, "a", "b")
    assert points == pytest.approx(0) and error == pytest.approx(10 / 2**0.5 / 2**0.5)


def test_the_control_is_softmax_with_larger_q_and_k_alone(script):
    train = script("train_svda")
    plain, control = (train.build(name, 0, 10.0) for name in ("softmax", script("svda_page").CONTROL))
    assert type(control) is VisionTransformer
    changed = {key for key, value in plain.state_dict().items() if not torch.equal(value, control.state_dict()[key])}
    assert changed == {f"blocks.{i}.attn.qkv.weight" for i in range(3)}
    before, after = (model.blocks[1].attn.qkv.weight for model in (plain, control))
    torch.testing.assert_close(after, torch.cat([6 * before[:128], before[128:]]))
    x = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0))
    assert (x @ after[:128].T).std().item() == pytest.approx(1, abs=0.1)  # the reason for 6
    assert [layer.per_head for layer in train.svda.layers(train.build("SVDA", 0, 10.0)).values()] == [True] * 3
    assert not train.svda.layers(train.build("SVDA shared", 0, 10.0))["blocks.0.attn"].per_head


@pytest.mark.parametrize(
    ("right", "expected"),
    [((900, 905), "No effect on the accuracy is shown"), ((900, 960), "higher with it"), ((900, 840), "lower with it")],
)
def test_the_conclusion_on_gate_thresholds_follows_from_the_accuracies(script, right, expected):
    train = script("train_spiking_svda")
    table = runs(dict(zip((train.PLAIN, train.SCALED), right, strict=True)))
    text = train.conclusion(table.assign(sigma_min=0.8, sigma_median=1.0, sigma_max=1.25))
    assert expected in text and "between 0.80 and 1.25" in text


@pytest.mark.parametrize(
    ("right", "lower", "gain"),
    [
        ((353, 347, 352, 353), "within the error", False),
        ((353, 300, 352, 353), "clearly", False),
        ((320, 320, 320, 350), "", True),
        ((353, 353, 352, 340), "", False),
    ],
)
def test_the_conclusion_on_br_npa_names_a_baseline_that_fine_tuning_lowered(script, right, lower, gain):
    page = script("br_npa_page")
    heads = (page.SHIPPED, page.AVERAGE, page.UNTRAINED, page.BR_NPA)
    table = pd.DataFrame({"head": heads, "correct": right, "images": 360})
    text = page.conclusion(pd.concat([table, table]))  # a row per map
    assert ("fewer right after its fine-tuning" in text) == bool(lower) and f"before, {lower}" in text + "before, "
    assert ("has more right than the shipped model" in text) == gain
    assert ("is not shown" in text) == (not gain)
    assert f"Fine-tuning with the average: {right[1] - right[0]:+d} (standard error" in text
