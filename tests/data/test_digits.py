"""The embedded digits: split, scale and order never change."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from spikeattn.data import make_loader, open_dataset
from spikeattn.data.digits import Digits
from spikeattn.errors import SpikeattnError


def test_split_is_the_fixed_permutation():
    order = np.random.RandomState(0).permutation(1797)
    train, test = Digits("train"), Digits("test")
    assert (len(train), len(test)) == (1437, 360)
    assert {train.id(i) for i in range(1437)} == {f"digits/{i}" for i in order[:1437]}
    assert {test.id(i) for i in range(360)} == {f"digits/{i}" for i in order[1437:]}


def test_images_are_the_scaled_digits():
    data = load_digits()
    digits = open_dataset("digits")
    for i in (0, 100, 359):
        image, label = digits[i]
        original = int(digits.id(i).split("/")[1])
        assert image.shape == (1, 16, 16) and image.dtype == torch.float32
        assert label == data.target[original]
        # bilinear weights at twice the size: corners keep their value, the mean of inner pixels is kept
        small = data.images[original] / 16
        assert image[0, 0, 0] == small[0, 0] and image[0, -1, -1] == small[-1, -1]
        row = small[0]
        expected = [row[0], 0.75 * row[0] + 0.25 * row[1], 0.25 * row[0] + 0.75 * row[1]]
        assert image[0, 0, :3].tolist() == pytest.approx(expected)
    assert digits.images.min() == 0 and digits.images.max() == 1


def test_the_default_split_is_held_out():
    assert open_dataset("digits").split == "test"
    assert open_dataset("digits", split="train").split == "train"
    with pytest.raises(SpikeattnError, match="valid are test, train"):
        open_dataset("digits", split="val")


def test_a_model_that_takes_something_else_is_told_the_size():
    open_dataset("digits", SimpleNamespace(in_chans=1, img_size=16))
    for model in (
        SimpleNamespace(in_chans=3, img_size=16),
        SimpleNamespace(pretrained_cfg={"input_size": (1, 32, 32)}),
    ):
        with pytest.raises(SpikeattnError, match="a digit is 1x16x16 .* in_chans=1, img_size=16"):
            open_dataset("digits", model)


def test_batch_and_provenance():
    digits = open_dataset("digits")
    batch = next(iter(make_loader(digits, 32)))
    assert batch.images.shape == (32, 1, 16, 16) and len(set(batch.ids)) == 32
    told = digits.provenance()
    assert told["number"] == 360 and told["split"] == "test" and "scikit-learn" in told["versions"]
    assert digits.classes == [str(i) for i in range(10)]
