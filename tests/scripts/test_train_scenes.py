"""What sdt_digits_scenes is trained with: the LIF whose derivative is written out, and pictures with noise."""

from __future__ import annotations

import importlib

import pytest
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import LIFNode

import spikeattn as sa
from tests.conftest import ROOT


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.mark.parametrize("threshold", [1.0, 0.5])
def test_lif_has_the_spikes_and_the_gradient_of_spikingjelly(scripts, threshold):
    lif = importlib.import_module("training.lif")
    generator = torch.Generator().manual_seed(3)
    x = (torch.randn(4, 3000, generator=generator) * 1.5).requires_grad_()
    weight = torch.randn(4, 3000, generator=generator)
    theirs = LIFNode(tau=2.0, v_threshold=threshold, detach_reset=True, step_mode="m")(x)
    (expected,) = torch.autograd.grad(theirs, x, weight)
    ours = lif.Lif.apply(x, threshold)
    (found,) = torch.autograd.grad(ours, x, weight)
    assert torch.equal(ours, theirs) and 0.05 < float(ours.detach().mean()) < 0.9
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_neurons_are_themselves_again_afterwards(scripts):
    lif = importlib.import_module("training.lif")
    torch.manual_seed(0)
    model = sa.create_model("sdt_digits_scenes", depth=1, embed_dim=16, num_heads=2).eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        plain = model(images)
        functional.reset_net(model)
        with pytest.raises(ZeroDivisionError), lif.written_out(model):
            assert torch.equal(model(images), plain)
            raise ZeroDivisionError
        assert all("forward" not in vars(module) for module in model.modules())
        assert torch.equal(model(images), plain)


def test_training_pictures_are_the_digits_and_up_to_two_squares_of_noise(scripts):
    train_scenes = importlib.import_module("train_scenes")
    digits = sa.open_dataset("digits", split="train").images[:60]
    torch.manual_seed(1)
    pictures = train_scenes.scenes(digits)
    ordinary = set(digits.unique().tolist())  # noise never takes one of these values
    noisy = [sum(value not in ordinary for value in picture.flatten().tolist()) for picture in pictures]
    smallest, largest = train_scenes.SMALLEST**2, 2 * train_scenes.LARGEST**2
    assert min(noisy) == 0 and max(noisy) <= largest
    assert 10 < sum(count == 0 for count in noisy) < 30  # a third of the pictures
    assert all(count == 0 or count >= smallest for count in noisy)
    assert not torch.equal(pictures, train_scenes.scenes(digits))
