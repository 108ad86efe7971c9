"""Digits on a canvas: the digits of `digits`, moved; the same places on every machine."""

from __future__ import annotations

import pytest
import torch

import spikeattn as sa
from spikeattn.data.digit_scenes import CANVAS, SIDE, DigitScenes, placed
from spikeattn.data.digits import Digits
from spikeattn.errors import SpikeattnError


def test_scenes_are_the_digits_at_places_of_their_own():
    scenes, digits = sa.open_dataset("digits-scenes"), Digits()
    assert len(scenes) == len(digits) == 360 and torch.equal(scenes.labels, digits.labels)
    assert scenes.images.shape == (360, 1, CANVAS, CANVAS) and scenes.images.dtype == torch.float32
    torch.testing.assert_close(scenes.images.sum((1, 2, 3)), digits.images.sum((1, 2, 3)))
    places = set()
    for scene, digit in zip(scenes.images[:40, 0], digits.images[:40, 0], strict=True):
        windows = scene.unfold(0, SIDE, 1).unfold(1, SIDE, 1)  # [17, 17, 16, 16]
        found = (windows == digit).all(-1).all(-1).nonzero()
        assert len(found) >= 1
        places.add(tuple(found[0].tolist()))
    assert len(places) > 30
    assert scenes.id(3).removeprefix("digits-scenes/") == digits.id(3).removeprefix("digits/")
    image, label = scenes[5]
    assert torch.equal(image, scenes.images[5]) and label == int(digits.labels[5])


def test_places_follow_from_the_index_alone():
    assert torch.equal(DigitScenes().images, DigitScenes().images)
    first = DigitScenes("train").images[0, 0]
    rows, columns = (first.sum(axis) > 0 for axis in (1, 0))
    assert (int(rows.nonzero()[0]), int(columns.nonzero()[0])) == (16, 1)


def test_placing_writes_each_digit_once():
    digits = torch.arange(2 * SIDE * SIDE).reshape(2, 1, SIDE, SIDE).float() + 1
    canvas = placed(digits, torch.tensor([[0, 16], [3, 5]]))
    assert torch.equal(canvas[0, :, :16, 16:], digits[0]) and torch.equal(canvas[1, :, 3:19, 5:21], digits[1])
    assert (canvas > 0).sum() == 2 * SIDE * SIDE


def test_other_shapes_splits_and_paths_are_refused():
    with pytest.raises(SpikeattnError, match="img_size=32"):
        sa.open_dataset("digits-scenes", sa.create_model("sdt_digits"))
    with pytest.raises(SpikeattnError, match="split"):
        sa.open_dataset("digits-scenes", split="val")
    with pytest.raises(SpikeattnError, match="takes no path"):
        sa.open_dataset("digits-scenes:somewhere")
    assert len(sa.open_dataset("digits-scenes", sa.create_model("sdt_digits_scenes"))) == 360
