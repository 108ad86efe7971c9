"""Loaders of any kind: what is taken, what is refused, and what a resumed run reads of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from spikeattn.data import make_loader, open_dataset
from spikeattn.data.division import Take
from spikeattn.data.loaders import batches_of, shuffles
from spikeattn.errors import SpikeattnError

DONE = Take(done=frozenset({0}))
IMAGES, LABELS = torch.rand(6, 1, 4, 4), torch.arange(6)


@pytest.mark.parametrize("labels", [LABELS, LABELS.tolist(), LABELS.numpy(), LABELS.float(), LABELS[:, None]])
def test_labels_may_be_any_whole_numbers(labels):
    ((batch, _),) = batches_of([(IMAGES, labels)])
    assert batch.labels.tolist() == LABELS.tolist() and batch.labels.dtype == torch.int64


def test_images_may_come_alone_and_in_several_batches():
    batches = [batch for batch, _ in batches_of([IMAGES[:4], (IMAGES[4:],)])]
    assert [b.index.tolist() for b in batches] == [[0, 1, 2, 3], [4, 5]]
    assert {label for b in batches for label in b.labels.tolist()} == {-1}


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (None, "the loader is NoneType; give an iterable of batches"),
        (["digits"], "batch 0 of the loader is str; expected"),
        ([({"image": IMAGES}, LABELS)], "is tuple with dict of 'image' first; expected"),
        ([((IMAGES, LABELS), 0)], "is tuple with tuple first; expected"),
        ([(IMAGES, LABELS[:5])], "has 6 images and 5 labels"),
        ([(IMAGES, ["a"] * 6)], "labels that are no numbers"),
        ([(IMAGES, LABELS + 0.5)], "no whole numbers, such as 0.5"),
        ([(IMAGES, np.full(6, np.nan))], "no whole numbers, such as nan"),
    ],
)
def test_what_cannot_be_taken_is_named(loader, message):
    with pytest.raises(SpikeattnError, match=message):
        list(batches_of(loader))


def test_a_resumed_run_refuses_a_loader_that_shuffles():
    data = TensorDataset(IMAGES, LABELS)
    mixed, ordered = DataLoader(data, batch_size=2, shuffle=True), DataLoader(data, batch_size=2)
    assert shuffles(mixed) and not shuffles(ordered) and not shuffles([IMAGES])
    assert [(b.number, mine) for b, mine in batches_of(ordered, DONE)] == [(0, False), (1, True), (2, True)]
    assert len(list(batches_of(mixed))) == 3
    with pytest.raises(SpikeattnError, match="the loader shuffles"):
        list(batches_of(mixed, DONE))


def test_a_resumed_run_leaves_out_what_its_loader_left_out():
    loader = make_loader(open_dataset("digits"), batch_size=100, skip_batches={1})
    assert [(b.number, mine) for b, mine in batches_of(loader, DONE)] == [(0, False), (2, True), (3, True)]
