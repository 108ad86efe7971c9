"""Shards and ranks: the same bytes however the batches are spread, and what must not be joined is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spikeattn as sa
from spikeattn.data.dataset import Dataset, Skipped
from spikeattn.data.division import Shard, Take
from spikeattn.data.loaders import batches_of
from spikeattn.errors import SpikeattnError
from spikeattn.runs.progress import RunningEnergy, estimate
from spikeattn.runs.result import EmptyShard
from spikeattn.runs.shards import merge_shards
from spikeattn.runs.verification import verify

LIMIT, BATCH = 46, 4


def digits(limit: int = LIMIT, batch: int = BATCH, depth: int = 1):
    torch.manual_seed(0)
    model = sa.create_model("sdt_digits", depth=depth)
    return model, sa.make_loader(sa.open_dataset("digits", model), batch_size=batch, limit=limit)


def run(path: Path, shard: str = "0/1", **options) -> Path:
    model, loader = digits(**options)
    return sa.profile(model, loader, out=path, shard=shard, plain=True).path


def contents(path: Path) -> list[bytes]:
    return [(path / name).read_bytes() for name in ("counts.parquet", "model.json")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, and the same in three shards."""
    root = tmp_path_factory.mktemp("shards")
    run(root / "whole")
    for i in range(3):
        run(root / f"part{i}", f"{i}/3")
    return root


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("total", [1, 7, 23])
def test_every_batch_is_taken_once_whatever_the_shards_and_ranks(n: int, total: int) -> None:
    done = frozenset(range(0, total, 4))
    for ranks in (1, 2, 3):
        takes = [Take(done, Shard(i, n), r, ranks) for i in range(n) for r in range(ranks)]
        taken = [number for take in takes for number in take.of_plan(total)]
        assert sorted(taken) == [k for k in range(total) if k not in done]
        assert sorted(k for take in takes for k in range(total) if k in take) == sorted(taken)


def test_every_take_learns_the_model_from_the_same_batch() -> None:
    _, loader = digits()
    for take in (Take(), Take(shard=Shard(2, 3)), Take(frozenset({0, 1}), rank=1, ranks=2)):
        first, _ = next(batches_of(loader, take))
        assert first.number == 0


def test_merged_shards_are_the_whole_run_byte_for_byte(made: Path) -> None:
    merged = merge_shards([made / f"part{i}" for i in (2, 0, 1)], made / "merged")
    assert contents(merged.path) == contents(made / "whole")
    assert sorted(p.name for p in merged.path.iterdir()) == ["counts.parquet", "model.json"]
    part = sa.Profile.load(made / "part1")
    assert part.n_images == 16 and any(line.startswith("shard: this is 1/3") for line in part.warnings)


def test_what_does_not_belong_together_is_refused(made: Path, tmp_path: Path) -> None:
    def refused(message: str, *names: str | Path) -> None:
        with pytest.raises(SpikeattnError, match=message):
            merge_shards([made / name for name in names], tmp_path / "out")
        assert not (tmp_path / "out" / "model.json").exists()

    refused("shard 1/3 of the run is missing", "part0", "part2")
    refused("shard 2/3 is given twice", "part0", "part1", "part2", made / "part2")
    refused("a run that is no shard", "part0", "whole", "part2")
    refused("no such folder", "part0", "nowhere")
    refused("they overlap", "part0", "part1", run(tmp_path / "half", "1/2"))
    refused("data.chosen is 45 now and was 46", "part0", "part1", run(tmp_path / "other", "2/3", limit=45))
    refused("holds counts of another model", "part0", "part1", run(tmp_path / "deep", "2/3", depth=2))
    changed = shutil.copytree(made / "part2", tmp_path / "lost")
    next((changed / "parts").glob("*.arrow")).unlink()
    refused("batches are missing, the first is 2: parts of shard 2/3", "part0", "part1", changed)
    damaged = shutil.copytree(made / "part2", tmp_path / "damaged")
    part = next((damaged / "parts").glob("*.arrow"))
    part.write_bytes(part.read_bytes()[:-9])
    refused(f"{part.name}: damaged", "part0", "part1", damaged)
    unfinished = shutil.copytree(made / "part2", tmp_path / "unfinished")
    (unfinished / "model.json").unlink()
    refused("shard 2/3 is not finished", "part0", "part1", unfinished)


@pytest.mark.parametrize("text", ["", "3", "3/3", "a/2", "-1/2", "1/0", "1/2/3"])
def test_shards_that_cannot_be(text: str) -> None:
    with pytest.raises(SpikeattnError, match=r"give i/n with i from 0 to n-1, such as 0/(\d) to \d/\1"):
        Shard.parse(text)


def test_seconds_between_parts_are_not_negative() -> None:
    model, loader = digits()
    for seconds in (-1, float("nan")):
        with pytest.raises(SpikeattnError, match="the seconds between parts"):
            sa.profile(model, loader, save_every=seconds)


def test_a_shard_resumes_only_as_itself_and_needs_a_batch(made: Path, tmp_path: Path) -> None:
    model, loader = digits()
    with pytest.raises(SpikeattnError, match="the shard is 1/3 now and was 2/3"):
        sa.profile(model, loader, out=made / "part2", resume=True, shard="1/3", plain=True)
    with pytest.raises(SpikeattnError, match="the run has 12 batches, so there is none"):
        sa.profile(model, loader, out=tmp_path / "none", shard="12/13", plain=True)


class Holes(Dataset):
    """Digits of which some cannot be read."""

    def __init__(self, dataset: Dataset, broken: set[int]) -> None:
        self._digits, self._broken = dataset, broken

    def __len__(self) -> int:
        return len(self._digits)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int] | Skipped:
        return Skipped(self.id(i), "empty file", i) if i in self._broken else self._digits[i]

    def id(self, i: int) -> str:
        return self._digits.id(i)

    def provenance(self) -> dict:
        return self._digits.provenance()


def test_a_shard_of_unreadable_images_is_merged_like_any_other(tmp_path: Path) -> None:
    def part(name: str, shard: str, broken: set[int], **options) -> Path:
        torch.manual_seed(0)
        model = sa.create_model("sdt_digits", depth=1)
        loader = sa.make_loader(Holes(sa.open_dataset("digits", model), broken), batch_size=4, limit=16)
        return sa.profile(model, loader, out=tmp_path / name, shard=shard, plain=True, **options).path

    for case, broken in {"first": {0, 1, 2, 3, 8, 9, 10, 11}, "second": {4, 5, 6, 7, 12, 13, 14, 15}}.items():
        whole = part(f"{case}-whole", "0/1", broken)
        for i in range(2):
            if (case, i) in (("first", 0), ("second", 1)):
                for resume in (False, True):
                    with pytest.raises(EmptyShard, match=f"none of the 8 images of shard {i}/2 could be read") as error:
                        part(f"{case}-{i}", f"{i}/2", broken, resume=resume)
                    assert len(error.value.skipped) == 8 and error.value.shard == f"{i}/2"
            else:
                part(f"{case}-{i}", f"{i}/2", broken)
        merged = merge_shards([tmp_path / f"{case}-{i}" for i in range(2)], tmp_path / f"{case}-merged")
        assert contents(merged.path) == contents(whole)
        assert merged.n_images == 8 and any(line.startswith("skipped: 8 images") for line in merged.warnings)


def test_without_a_readable_image_there_is_nothing_to_merge(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = sa.create_model("sdt_digits", depth=1)
    loader = sa.make_loader(Holes(sa.open_dataset("digits", model), set(range(8))), batch_size=4, limit=8)
    for shard in ("0/1", "1/2"):
        with pytest.raises(SpikeattnError, match="the loader gave no image to profile; . could not be read"):
            sa.profile(model, loader, out=tmp_path / "out", shard=shard, plain=True)
    assert not (tmp_path / "out").exists()


def test_merging_can_be_repeated_wherever_it_ended(made: Path, tmp_path: Path, monkeypatch) -> None:
    """The disk is full at its first, second, ... file; and after it has ended well."""
    shards, out = [made / f"part{i}" for i in range(3)], tmp_path / "out"
    replace, failures = Path.replace, 0
    for fails in range(1, 5):
        calls = iter(range(1, 100))

        def failing(self: Path, target: Path, calls=calls, fails=fails) -> Path:
            if next(calls) == fails:
                raise OSError(28, "No space left on device")
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", failing)
            try:
                merge_shards(shards, out)
            except SpikeattnError as error:
                assert "No space left on device" in str(error)
                failures += 1
    assert failures == 2  # the table and the ledger; then it has ended well, and is only compared
    assert merge_shards(shards, out).n_images == LIMIT and contents(out) == contents(made / "whole")
    other = run(tmp_path / "other", limit=8)
    with pytest.raises(SpikeattnError, match="holds another finished run"):
        merge_shards(shards, other)


def test_two_ranks_of_torchrun_write_the_bytes_of_one(tmp_path: Path) -> None:
    words = ["profile", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--limit", "40", "--plain"]
    words += ["--batch-size", "8", "--threads", "1", "--device", "cpu", "--json"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = []
    for start, out in ([sys.executable], "one"), (launch, "two"):
        done = subprocess.run(
            [*start, "-m", "spikeattn", *words, "--out", str(tmp_path / out)],
            capture_output=True, text=True, env=environment, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads(done.stdout)["summary"]["images"] == 40  # one rank prints
        found.append(hashlib.sha256((tmp_path / out / "counts.parquet").read_bytes()).hexdigest())
    assert found[0] == found[1]


def test_verify_repeats_batches_and_finds_what_was_changed(made: Path, tmp_path: Path) -> None:
    model, loader = digits()
    good = verify(made / "whole", model, loader, batches=2)
    assert good.passed and [check.result for check in good.checks] == ["ok"] * 6, good.checks
    assert "2 of 12 batches" in good.checks[-1].detail
    assert verify(made / "whole").checks[-1].result == "not done"
    model.head.weight.data[0, 0] += 1
    assert [c.name for c in verify(made / "whole", model, loader).checks if c.result == "failed"] == ["model"]
    model, other = digits(limit=20)
    assert "data" in [c.name for c in verify(made / "whole", model, other).checks if c.result == "failed"]
    copy = shutil.copytree(made / "whole", tmp_path / "copy")
    profile = sa.Profile.load(made / "whole")
    table = profile.counts._read(profile.counts.columns).to_pandas()
    column = next(name for name in table if name.startswith("nnz:block.0.mlp"))
    table.loc[:, column] += 1  # one more spike in every image: a table that is whole, and wrong
    import pyarrow as pa

    sa.storage.Counts(pa.Table.from_pandas(table, preserve_index=False), profile.ledger).save(copy / "counts.parquet")
    model, loader = digits()
    failed = {c.name: c.detail for c in verify(copy, model, loader, batches=1).checks if c.result == "failed"}
    assert set(failed) == {"file"} or "batches" in failed
    record = json.loads((copy / "model.json").read_text())
    record["provenance"]["counts_sha256"] = hashlib.sha256((copy / "counts.parquet").read_bytes()).hexdigest()
    (copy / "model.json").write_text(json.dumps(record))
    failed = {c.name: c.detail for c in verify(copy, model, loader, batches=1).checks if c.result == "failed"}
    assert set(failed) == {"batches"} and "with the same settings" in failed["batches"]
    table.loc[:, column] += 10**6
    sa.storage.Counts(pa.Table.from_pandas(table, preserve_index=False), profile.ledger).save(copy / "counts.parquet")
    assert "counts" in [c.name for c in verify(copy).checks if c.result == "failed"]


def test_the_running_energy_is_that_of_the_result(made: Path) -> None:
    profile = sa.Profile.load(made / "whole")
    energy, running = profile.energy(), RunningEnergy(profile.ledger)
    running.add_table(profile.counts._read(profile.counts.columns))
    n, total, squares = running.sums
    assert n == LIMIT and total / n == pytest.approx(energy.total.value, rel=1e-12)
    assert squares == pytest.approx((energy.per_image**2).sum(), rel=1e-12)
    assert estimate([1, 4.9, 24.01]) == ""
    assert estimate([100, 490.0, 100 * 4.9**2 + 99 * 0.25]) == "4.90 mJ ± 0.10"
    assert estimate([2, 2e-3, 2e-6]) == "1.000 µJ ± 0.000"
