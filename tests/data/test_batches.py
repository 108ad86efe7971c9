"""The plan of batches: the same whatever the workers, the rank or the point of resumption."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeattn.data import Dataset, Skipped, batch_indices, make_loader, open_dataset
from spikeattn.data.division import Shard, Take
from spikeattn.data.loaders import batches_of
from spikeattn.errors import SpikeattnError


class Numbers(Dataset):
    """Sample i is an image filled with i; the ones in `broken` cannot be read."""

    name = "numbers"
    spec = "numbers"

    def __init__(self, n: int, broken: tuple[int, ...] = (), odd: int | None = None) -> None:
        self.n, self.broken, self.odd = n, broken, odd

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int):
        if i in self.broken:
            return Skipped(self.id(i), "broken on purpose", i)
        return torch.full((1, 3 if i == self.odd else 2, 2), float(i)), i % 10

    def id(self, i: int) -> str:
        return f"n/{i}"


def test_batches_are_consecutive_and_complete():
    plan = batch_indices(103, 32)
    assert [len(indices) for indices in plan] == [32, 32, 32, 7]
    assert np.array_equal(np.concatenate(plan), np.arange(103))
    assert np.array_equal(np.concatenate(batch_indices(103, 7, limit=10)), np.arange(10))
    assert np.array_equal(np.concatenate(batch_indices(5, 7, limit=10)), np.arange(5))


def test_a_sample_is_sorted_seeded_and_nested():
    small = np.concatenate(batch_indices(1000, 16, sample=20, seed=3))
    large = np.concatenate(batch_indices(1000, 64, sample=50, seed=3))
    assert np.all(np.diff(small) > 0) and len(small) == 20
    assert set(small) < set(large)
    assert set(small) != set(np.concatenate(batch_indices(1000, 16, sample=20, seed=4)))
    # the stream of RandomState is frozen, so these numbers hold under every numpy
    assert np.concatenate(batch_indices(10, 4, sample=3, seed=0)).tolist() == [2, 4, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"sample": -1}, "sample is -1"),
        ({"sample": 1001}, "sample=1001: there are"),
        ({"limit": 2, "sample": 2}, "one of them"),
        ({"seed": -1, "sample": 2}, "seed is -1"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_wrong_numbers_are_refused(arguments, message):
    with pytest.raises(SpikeattnError, match=message):
        make_loader(Numbers(10), **arguments)


def test_an_empty_data_set_is_refused():
    with pytest.raises(SpikeattnError, match="no samples"):
        make_loader(Numbers(0))


def test_contents_of_a_batch():
    batches = list(make_loader(Numbers(10, broken=(1, 4, 5)), batch_size=4))
    first, second, last = batches
    assert [batch.number for batch in batches] == [0, 1, 2]
    assert first.images.shape == (3, 1, 2, 2) and first.images.dtype == torch.float32
    assert first.index.tolist() == [0, 2, 3] and first.index.dtype == torch.int64
    assert first.images[:, 0, 0, 0].tolist() == [0, 2, 3] and first.labels.tolist() == [0, 2, 3]
    assert first.ids == ["n/0", "n/2", "n/3"]
    assert first.skipped == [Skipped("n/1", "broken on purpose", 1)]
    assert [one.index for one in second.skipped] == [4, 5]
    assert last.ids == ["n/8", "n/9"] and last.skipped == []


def test_a_batch_of_unreadable_samples_is_empty_but_there():
    batch = next(iter(make_loader(Numbers(3, broken=(0, 1, 2)))))
    assert batch.images.shape == (0,) and batch.index.shape == (0,) and batch.ids == []
    assert batch.labels.dtype == torch.int64
    assert len(batch.skipped) == 3


def test_workers_change_nothing():
    def read(workers: int) -> list[tuple]:
        loader = make_loader(Numbers(23, broken=(7,)), batch_size=4, workers=workers, sample=20, seed=1)
        return [(b.images.tolist(), b.labels.tolist(), b.index.tolist(), b.ids, b.skipped, b.number) for b in loader]

    assert read(0) == read(2)


def test_resumed_runs_and_ranks_take_whole_batches_of_the_same_plan():
    whole = {batch.number: batch.ids for batch in make_loader(Numbers(50), batch_size=8)}
    resumed = make_loader(Numbers(50), batch_size=8, skip_batches={0, 1, 5})
    assert {batch.number: batch.ids for batch in resumed} == {k: whole[k] for k in (2, 3, 4, 6)}
    assert len(resumed) == 4 and resumed.dataset.total == 7 and resumed.dataset.n_samples == 50
    ranks = [make_loader(Numbers(50), batch_size=8, skip_batches=range(1 - rank, 7, 2)) for rank in (0, 1)]
    assert {b.number: b.ids for loader in ranks for b in loader} == whole
    assert list(make_loader(Numbers(8), batch_size=8, skip_batches=[0])) == []


def test_samples_of_different_shapes_are_named():
    with pytest.raises(SpikeattnError, match=r"n/2 has shape \[1, 3, 2\] and n/0 has \[1, 2, 2\]"):
        list(make_loader(Numbers(4, odd=2)))
    with pytest.raises(SpikeattnError, match=r"^n/2 has shape") as caught:  # of a worker: without its traceback
        list(batches_of(make_loader(Numbers(4, odd=2), workers=1)))
    assert "Traceback" not in str(caught.value)


def test_provenance_tells_data_and_choice_apart():
    one = make_loader(Numbers(50), batch_size=8, sample=10, seed=1).dataset.provenance()
    assert one["number"] == 50 and one["chosen"] == 10 and one["batch_size"] == 8 and one["seed"] == 1
    assert one == make_loader(Numbers(50), batch_size=8, sample=10, seed=1).dataset.provenance()
    other = make_loader(Numbers(51), batch_size=8, sample=10, seed=1).dataset.provenance()
    assert one["ids_sha256"] != other["ids_sha256"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("imagnet:/data", "did you mean 'imagenet:PATH'"),
        ("nmnist", "lacks the path: nmnist:PATH"),
        ("imagenet:", "lacks the path"),
        ("digits:here", "takes no path"),
        ("", "unknown data"),
        (".", "folder:."),
    ],
)
def test_names_of_data(spec, message):
    with pytest.raises(SpikeattnError, match=message):
        open_dataset(spec)


def test_a_folder_without_permission_is_a_user_error(monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "somewhere")

    monkeypatch.setattr("spikeattn.data.images.open_folder", refuse)
    with pytest.raises(SpikeattnError, match="no permission to read somewhere"):
        open_dataset("folder:somewhere")


def test_ranks_of_shards_share_batches_whose_number_is_not_known():
    shares = [Take(shard=Shard(index, 2), rank=rank, ranks=3) for index in range(2) for rank in range(3)]
    assert [[number for number in range(12) if number in share] for share in shares] == [
        [0, 6], [2, 8], [4, 10], [1, 7], [3, 9], [5, 11],
    ]  # fmt: skip
    assert 6 not in Take(done=frozenset({6}), shard=Shard(0, 2), rank=0, ranks=3)
