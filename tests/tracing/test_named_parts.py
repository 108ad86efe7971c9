"""Batches that name their parts: what is taken by its name, and what is refused with the names that there are."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.tracing.batch_parts import call_of, parts_of
from spikeattn.tracing.named_parts import IMAGES, LABELS

X, Y = torch.rand(6, 1, 4, 4), torch.arange(6)
HERE = "batch 0 of the loader"


class Named(nn.Module):
    """Takes its input by name, as networks of transformers do."""

    def forward(self, pixel_values: Tensor, pixel_mask: Any = None, labels: Any = None) -> Tensor:
        return pixel_values


class Second(nn.Module):
    def forward(self, input_ids: Any = None, pixel_values: Any = None) -> Any:
        return pixel_values


@pytest.mark.parametrize("image", IMAGES)
def test_images_under_any_of_the_names(image: str) -> None:
    parts = parts_of({"label": Y, image: X, "path": ["a"] * 6}, HERE)
    assert parts.images is X and parts.labels is not None and parts.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("label", [*LABELS, "fine_label", "class_id", "Label"])
@pytest.mark.parametrize("given", [Y, Y.tolist(), Y.numpy(), Y[:, None]], ids=["tensor", "list", "array", "column"])
def test_labels_under_any_of_the_names(label: str, given: Any) -> None:
    parts = parts_of(UserDict({"pixel_values": X, label: given, "image_id": Y + 100, "scores": torch.rand(6)}), HERE)
    assert parts.labels is not None and parts.labels.tolist() == Y.tolist()


def test_without_labels_there_are_none() -> None:
    assert parts_of({"image": X, "idx": Y, "labels": None, "weight": torch.rand(6)}, HERE).labels is None
    assert parts_of([{"data": X, "label": Y}], HERE).images is X  # a dict per device, as DALI gives


def test_arrays_are_tensors_of_the_same_values() -> None:
    array = X.numpy().astype(">f4")
    array.setflags(write=False)
    parts = parts_of({"image": array, "label": Y.tolist()}, HERE)
    assert parts.images.dtype == torch.float32 and torch.equal(parts.images, X)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"pixel_values": X, "image": X, "label": Y}, r"'pixel_values' or 'image' may be the images.*batch\['label'\]"),
        ({"spikes": X, "label": Y}, r"'spikes', 'label', none of which is a name of images; valid are pixel_values, .*"
                                    r"\(batch\['spikes'\], batch\['label'\]\)"),
        ({"a": X, "b": X}, r"none of which is a name of images.*batch\['KEY'\]"),
        ({}, "an empty dict"),
        ({"image": X.tolist(), "label": Y}, r"'image' holds a list of 6 list.*with_format\(\"torch\"\)"),
        ({"image": X, "fine_label": Y, "coarse_label": Y}, "'fine_label' or 'coarse_label' may be the labels"),
        ({"image": X, "label": Y, "target": Y}, "'label' or 'target' may be the labels"),
        ({"image": X, "digit": Y}, r"none of which is a name of labels.*'digit' holds one whole number per image"),
        ({"image": X[0], "label": 3}, "'label' is one number: a row of a data set, not a batch; give torch.utils"),
        ({"image": X[0], "label": torch.tensor(3)}, "a row of a data set"),
        ({"image": X[0, 0, 0], "label": Y}, "is dict of 'image', 'label' of shape"),
        ({"image": X, "label": ["a"] * 6}, "labels that are no numbers"),
        ({"image": np.array([X.numpy(), "a"], dtype=object), "label": Y}, "an array of type object"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(batch: dict[str, Any], message: str) -> None:
    with pytest.raises(SpikeattnError, match=message):
        parts_of(batch, HERE)


def test_what_the_model_takes_beside_the_images_is_not_lost_in_silence() -> None:
    batch = {"pixel_values": X, "labels": Y}
    assert parts_of(batch, HERE, called=call_of(Named())).images is X
    batch["pixel_mask"] = torch.ones(6, 4, 4)
    with pytest.raises(SpikeattnError, match=r"Named takes 'pixel_mask' too.*model\(pixel_values=images\) runs it wit"):
        parts_of(batch, HERE, called=call_of(Named()))
    assert parts_of(batch, HERE).images is X  # a forward= of the user's decides it


def test_a_model_that_takes_the_images_by_name_alone_needs_a_forward() -> None:
    batch = {"pixel_values": X, "labels": Y}
    with pytest.raises(SpikeattnError, match=r"'pixel_values' by its name.*images: model\(pixel_values=images\)"):
        parts_of(batch, HERE, called=call_of(Second()))
    assert parts_of(batch, HERE).images is X
