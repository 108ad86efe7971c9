"""`profile` on loaders and models of every kind; tests/storage/test_runs.py has runs that fail and resume."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import spikeattn as sa
from spikeattn.cli.output import headline
from spikeattn.errors import SpikeattnError
from tests.counting.networks import tiny_sdt
from tests.models.sdt_oracle import exact_input

IMAGES, LABELS = exact_input(6, 3, 16, 16), torch.arange(6) % 4


def test_a_loader_that_shuffles_is_named_in_the_result():
    model, data = tiny_sdt(), TensorDataset(IMAGES, LABELS)
    mixed = sa.profile(model, DataLoader(data, batch_size=3, shuffle=True))
    assert any(line.startswith("shuffled: ") for line in mixed.warnings)
    ordered = sa.profile(model, DataLoader(data, batch_size=3))
    assert not any(line.startswith("shuffled: ") for line in ordered.warnings)
    assert mixed.operations()["sops"].sum() == ordered.operations()["sops"].sum()


def test_labels_beyond_the_outputs_are_named_in_the_result():
    beyond, within = (sa.profile(tiny_sdt(), [(IMAGES, labels)]).warnings for labels in (LABELS + 900, LABELS))
    assert any(line.startswith("labels: the largest is 903") for line in beyond)
    assert not any(line.startswith("labels: ") for line in within)


def test_accuracy_is_printed_with_the_number_of_images_that_have_a_label():
    summary = sa.profile(tiny_sdt(), [(IMAGES[:4], LABELS[:4]), IMAGES[4:]]).summary()
    assert (summary["images"], summary["labelled_images"]) == (6, 4)
    assert "(Wilson interval, 4 images, T=" in headline(summary)


def test_what_is_no_model_is_an_error():
    with pytest.raises(SpikeattnError, match="the model is function; give a torch module"):
        sa.profile(lambda images: images, [IMAGES])


def test_weights_that_are_shapes_alone_are_an_error():
    with torch.device("meta"):
        model = tiny_sdt()
    with pytest.raises(SpikeattnError, match="weight patch_embed.* is on the meta device, which holds shapes"):
        sa.profile(model, [IMAGES])
