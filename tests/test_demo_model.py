"""The trained model that comes with the package: it loads, it is small, it knows where it comes from, it is right."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from spikingjelly.activation_based import functional, neuron

import spikeattn as sa
from spikeattn.models.checkpoints import shipped_weights
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.stats.intervals import wilson_interval

FIELDS = {
    *("model", "architecture", "data", "split", "augmentation", "seed", "epochs", "selection", "optimiser"),
    *("test_accuracy", "test_correct", "test_images", "test_accuracy_wilson_95"),
    *("torch", "spikingjelly", "command", "date", "licence"),
}


@pytest.fixture(scope="module")
def card() -> dict[str, str]:
    with safe_open(shipped_weights("sdt_digits"), framework="pt") as file:
        return file.metadata()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small layers on threads that wait for each other are slow on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> SpikeDrivenTransformer:
    return sa.create_model("sdt_digits", pretrained=True)


def test_weights_fit_strictly_and_are_small(model, card):
    path = shipped_weights("sdt_digits")
    assert path.stat().st_size < 1_000_000
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    built = SpikeDrivenTransformer(**json.loads(card["architecture"]))
    built.load_state_dict(state, strict=True)
    assert model.config == built.config and model.provenance["trained"]
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


def test_docs_print_both_lines_of_the_demo(model, one_thread):
    """docs/energy.md, to 5 %: a third of the images is enough."""
    profile = sa.profile(
        model, sa.make_loader(sa.open_dataset("digits", model, split="test"), batch_size=60, limit=120)
    )
    text = (Path(__file__).parents[1] / "docs" / "energy.md").read_text(encoding="utf-8")
    for line in sa.compare(profile).lines:
        (printed,) = re.findall(rf"^    {line.scope} +ann_digits .*$", text, re.MULTILINE)
        said = re.findall(r"(?<![\w-])\d+\.?\d*", printed.partition(" at gamma")[0])
        numbers = [line.other.value * 1e3, line.own.value * 1e3, line.ratio.value, line.ratio.low, line.ratio.high]
        assert list(map(float, said)) == pytest.approx(numbers, rel=0.05), str(line)


def test_card_is_complete(model, card):
    assert card.keys() == FIELDS and all(card.values())
    assert model.provenance["card"] == card
    right, n = int(card["test_correct"]), int(card["test_images"])
    interval = wilson_interval(right, n)
    assert n == 360
    assert card["test_accuracy"] == f"{interval.value:.4f}"
    assert card["test_accuracy_wilson_95"] == f"[{interval.low:.4f}, {interval.high:.4f}]"
    assert card["command"].startswith("python scripts/train_demo.py --epochs ")


def test_held_out_digits_are_read_as_the_card_says_and_every_neuron_layer_fires(model, card, one_thread):
    fired = Counter()

    def add_rate(name: str, spikes: torch.Tensor) -> None:
        fired[name] += spikes.mean().item() / 6

    hooks = [
        module.register_forward_hook(lambda _, __, spikes, name=name: add_rate(name, spikes))
        for name, module in model.named_modules()
        if isinstance(module, neuron.LIFNode)
    ]
    digits = sa.open_dataset("digits", model)
    right = 0
    with torch.no_grad():
        for images, labels in zip(digits.images.split(60), digits.labels.split(60), strict=True):
            right += int((model(images).argmax(1) == labels).sum())
            functional.reset_net(model)
    for hook in hooks:
        hook.remove()
    assert right / len(digits) >= 0.96
    assert abs(right - int(card["test_correct"])) <= 1  # another machine sums in another order
    assert len(fired) == 4 + 2 * 7 + 1
    assert all(0.001 < rate < 0.9 for rate in fired.values()), fired
