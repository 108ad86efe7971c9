"""On which axis the images of a loader lie: told by its labels, by `layout=`, or by its other batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikeattn.data import make_loader, open_dataset
from spikeattn.data.batches import Batch
from spikeattn.data.loaders import batches_of, images_first
from spikeattn.errors import SpikeattnError


def frames(T: int, B: int) -> tuple[Tensor, Tensor]:
    """[T, B, 3] with one label per image."""
    return torch.rand(T, B, 3), torch.arange(B)


def read(loader: object, layout: str | None = None) -> list[Batch]:
    return [batch for batch, _ in batches_of(loader, layout=layout)]  # type: ignore[arg-type]


def test_labels_tell_that_time_comes_first() -> None:
    given = [frames(5, 4), frames(5, 2), frames(5, 1)]
    batches = read(given)
    assert [batch.time_first for batch in batches] == [True] * 3
    assert [batch.index.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5], [6]]
    assert all(torch.equal(b.images, x.transpose(0, 1)) for b, (x, _) in zip(batches, given, strict=True))
    named = read([{"frames": x, "targets": y} for x, y in given])
    assert all(torch.equal(a.images, b.images) for a, b in zip(named, batches, strict=True))


def test_labels_tell_that_images_come_first() -> None:
    x, y = frames(4, 5)
    (batch,) = read([(x, y[:4])])
    assert batch.time_first is False and batch.images is x


def test_nothing_tells_of_as_many_steps_as_images_or_without_labels() -> None:
    for batch in (frames(4, 4), frames(4, 5)[0]):
        assert read([batch])[0].time_first is None
        assert torch.equal(read([batch])[0].images, batch[0] if isinstance(batch, tuple) else batch)


def test_batches_that_tell_nothing_follow_an_earlier_one() -> None:
    given = [frames(4, 5), frames(4, 4)]
    first, second = read(given)
    assert second.time_first and torch.equal(second.images, given[1][0].transpose(0, 1))
    assert not read([(x.transpose(0, 1), y) for x, y in given])[1].time_first


def test_a_later_batch_may_not_contradict() -> None:
    x, y = frames(4, 2)
    with pytest.raises(SpikeattnError, match=r'batch 1 .* is \[T, B, ...\] by .*batch 0, of shape.*layout="TB"'):
        read([frames(4, 4), (x, y)])
    assert [batch.time_first for batch in read([frames(4, 4), (x, y)], "TB")] == [True, True]
    with pytest.raises(SpikeattnError, match=r"batch 1 .* is \[B, T, ...\] by its labels, and batch 0 is \[T, B"):
        read([(x, y), (x.transpose(0, 1), y)])


def test_layout_says_it_where_nothing_tells() -> None:
    x, y = frames(4, 4)
    for batch in ((x, y), x):
        assert torch.equal(read([batch], "TB")[0].images, x.transpose(0, 1))
        assert read([batch], "BT")[0].images is x and read([batch], "BT")[0].time_first is False


def test_layout_may_not_contradict() -> None:
    x, y = frames(5, 4)
    with pytest.raises(SpikeattnError, match=r"has 5 images and 4 labels, by layout=\"BT\" and its shape \(5, 4, 3\)"):
        read([(x, y)], "BT")
    with pytest.raises(SpikeattnError, match=r"images of shape \(4, 5, 3\) and 4 labels; leave layout out"):
        read([(x.transpose(0, 1), y)], "TB")
    with pytest.raises(SpikeattnError, match=r"images of shape \(4, 3\); leave layout out"):
        read([x[0]], "TB")
    for own in (make_loader(open_dataset("digits"), limit=2), read([x])):
        if isinstance(own, list):
            own = [batch._replace(time_first=False) for batch in own]
        with pytest.raises(SpikeattnError, match="leave it out"):
            read(own, "TB")


def test_neither_order_is_an_error_of_labels() -> None:
    with pytest.raises(SpikeattnError, match="has 5 images and 3 labels; give"):
        read([(torch.rand(5, 4, 3), torch.arange(3))])


def test_what_takes_images_first_says_so() -> None:
    x, y = frames(5, 4)
    assert len(next(images_first([(x.transpose(0, 1), y)])).images) == 4
    with pytest.raises(SpikeattnError, match=r"is \[T, B, ...\] by its 4 labels.*images.transpose\(0, 1\)"):
        list(images_first([(x, y)]))
