"""The event models that come with the package: small, with a card that is true."""

from __future__ import annotations

import json

import pytest
import torch

import spikeattn as sa
from spikeattn.models.checkpoints import shipped_weights
from spikeattn.stats.intervals import wilson_interval

NAMES = ("sdt_digits_events", "sdt_nmnist")
SHOWN = {"model", "architecture", "data", "split", "augmentation", "seed", "epochs", "selection", "optimiser"}
SHOWN |= {"settings", "test_accuracy", "test_correct", "test_images", "test_accuracy_wilson_95", "mean_firing_rates"}
SHOWN |= {"training_seconds", "device", "neurons", "torch", "timm", "spikingjelly", "command", "date", "licence"}


@pytest.mark.parametrize("name", NAMES)
def test_card_is_complete_and_agrees_with_itself(name):
    assert shipped_weights(name).stat().st_size < 6_000_000
    model = sa.create_model(name, pretrained=True)
    card = model.provenance["card"]
    assert card.keys() == SHOWN and all(card.values()) and card["model"] == name
    assert json.loads(card["architecture"]) == model.config
    interval = wilson_interval(int(card["test_correct"]), int(card["test_images"]))
    assert card["test_accuracy"] == f"{interval.value:.4f}"
    assert card["test_accuracy_wilson_95"] == f"[{interval.low:.4f}, {interval.high:.4f}]"
    assert "/" not in card["command"].removeprefix("python scripts/train.py ")
    assert "test split was not used" in card["selection"]


def check(name: str, data: str) -> None:
    """The card's accuracy and rates, counted again: another machine sums in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = sa.create_model(name, pretrained=True)
        profile = sa.profile(model, sa.make_loader(sa.open_dataset(data, model), 60))
    finally:
        torch.set_num_threads(threads)
    card, rows = model.provenance["card"], profile.counts.rows
    right = int((rows[f"pred_{profile.time_steps}"] == rows["label"]).sum())
    assert len(rows) == int(card["test_images"]) and abs(right - int(card["test_correct"])) <= 1
    table = profile.rates()
    mean = table[table["t"].astype(str) == "mean"].set_index("tensor")["nonzero_rate"]
    stated = json.loads(card["mean_firing_rates"])
    assert stated.keys() == set(mean.index) - {"input"}
    assert all(mean[tensor] == pytest.approx(rate, rel=0.02) for tensor, rate in stated.items())
    fired = [rate for tensor, rate in stated.items() if tensor.endswith("lif") or "_lif" in tensor]
    assert len(fired) == 4 + 2 * 7 + 1 and all(0.001 < rate < 0.9 for rate in fired)


def test_simulated_events_of_digits():
    check("sdt_digits_events", "digits-events")
    assert "SIMULATED" in sa.create_model("sdt_digits_events", pretrained=True).provenance["card"]["data"]


def test_nmnist_sample(shared):
    folder = shared / "data" / "nmnist_sample"
    if not folder.is_dir():
        pytest.skip("the sample of N-MNIST is not beside this checkout")
    check("sdt_nmnist", f"nmnist:{folder}")


def test_digits_in_scenes():
    check("sdt_digits_scenes", "digits-scenes")
    model = sa.create_model("sdt_digits_scenes", pretrained=True)
    card = model.provenance["card"]
    assert shipped_weights("sdt_digits_scenes").stat().st_size < 1_000_000
    assert json.loads(card["architecture"]) == model.config and all(card.values())
    assert "squares of 8 to 12 pixels" in card["augmentation"] and "without noise" in card["data"]
    assert 0.5 < int(card["test_correct_with_noise"]) / int(card["test_images"]) < float(card["test_accuracy"])
