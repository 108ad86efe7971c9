"""The folder of a run when the machine fails: full disks, read-only folders, damaged parts, two runs at once."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pyarrow as pa
import pytest
import torch

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.storage import files
from spikeattn.storage.folder import RunFolder
from spikeattn.storage.lock import FolderLock
from spikeattn.storage.parts import Part, PartWriter, load, save

ROWS = pa.table({"index": [0, 1], "id": ["a", "b"], "label": [1, 2], "nnz:x:1": [3.0, 4.0]})


class Interrupted(Exception):
    pass


def digits(limit: int = 24):
    torch.manual_seed(0)
    model = sa.create_model("sdt_digits", depth=1)
    return model, sa.make_loader(sa.open_dataset("digits", model), batch_size=4, limit=limit)


PASSES = 2  # over the first batch before it is counted: a trace, and one that reads the structure


def stopping(after: int):
    calls: list[int] = []

    def forward(model, images):
        calls.append(1)
        if len(calls) > after + PASSES:
            raise Interrupted
        return model(images)

    return forward


def same(a: Path, b: Path) -> bool:
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in ("counts.parquet", "model.json"))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    model, loader = digits()
    return sa.profile(model, loader, out=tmp_path / "whole", plain=True).path


def interrupted(path: Path, after: int = 4) -> list[Path]:
    """A run that ended after some batches, one part each."""
    model, loader = digits()
    with pytest.raises(Interrupted):
        sa.profile(model, loader, out=path, forward=stopping(after), save_every=0, plain=True)
    return sorted((path / "parts").glob("*.arrow"))


def resumed(path: Path) -> None:
    model, loader = digits()
    sa.profile(model, loader, out=path, resume=True, plain=True)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "renamed"])
def test_a_damaged_part_is_named_and_costs_only_itself(tmp_path: Path, whole: Path, damage: str) -> None:
    run = tmp_path / "run"
    found = interrupted(run)
    assert len(found) == 4
    content, victim = bytearray(found[2].read_bytes()), found[2]
    if damage == "cut":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 3] ^= 8
        victim.write_bytes(content)
    elif damage == "empty":
        victim.write_bytes(b"")
    else:
        victim = victim.rename(victim.with_name("00000002-0123456789abcdef.arrow"))
    before = {path.name: path.read_bytes() for path in found if path.exists() and path != victim}
    with pytest.raises(SpikeattnError, match=rf"{victim.name}: damaged"):
        resumed(run)
    assert all((run / "parts" / name).read_bytes() == content for name, content in before.items())
    victim.unlink()
    resumed(run)
    assert same(run, whole)


def test_parts_of_another_run_are_refused(tmp_path: Path) -> None:
    first = interrupted(tmp_path / "one")
    part = load(first[0])
    strange = Part((9,), part.flags, (), part.table, "0" * 64, part.settings)
    save(strange, tmp_path / "one" / "parts")
    with pytest.raises(SpikeattnError, match="00000009-.*holds counts of another model"):
        resumed(tmp_path / "one")


@pytest.mark.parametrize("fails", range(1, 10))  # ledger, six parts, table, ledger
def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path, whole: Path, monkeypatch, fails: int) -> None:
    """The disk is full at the `fails`-th file; then there is room again."""
    run, written = tmp_path / "run", []

    def full(number: int) -> None:
        written.append(number)
        if len(written) >= fails:
            raise OSError(errno.ENOSPC, "No space left on device")

    model, loader = digits()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SpikeattnError, match="No space left on device.*what was written before is intact"):
            sa.profile(model, loader, out=run, save_every=0, plain=True)
    assert not [*files.unfinished(run), *files.unfinished(run / "parts")]
    kept = len(list((run / "parts").glob("*.arrow")))
    assert kept == max(0, min(fails - 2, 6))  # the ledger of the start comes first
    resumed(run)
    assert same(run, whole)


def test_a_count_table_that_does_not_fit_is_named(tmp_path: Path, whole: Path, monkeypatch) -> None:
    def full(self, table, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    model, loader = digits()
    with monkeypatch.context() as patch:
        patch.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
        with pytest.raises(SpikeattnError, match="counts.parquet: cannot write"):
            sa.profile(model, loader, out=tmp_path / "run", plain=True)
    resumed(tmp_path / "run")
    assert same(tmp_path / "run", whole)


def test_a_flipped_byte_in_the_finished_table_is_an_error(whole: Path) -> None:
    path = whole / "counts.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(SpikeattnError, match="counts.parquet: (damaged|not a readable)"):
        profile = sa.Profile.load(whole)
        for name in profile.counts.columns[3:]:
            profile.counts._read([name])


def test_a_crash_between_the_two_files_is_resumed(tmp_path: Path, whole: Path, monkeypatch) -> None:
    model, loader = digits()

    def dies(self, ledger):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", dies)
        with pytest.raises(Interrupted):
            sa.profile(model, loader, out=tmp_path / "run", plain=True)
    assert (tmp_path / "run" / "counts.parquet").exists()
    with pytest.raises(SpikeattnError, match="interrupted run"):
        sa.Profile.load(tmp_path / "run")
    with pytest.raises(SpikeattnError, match="holds an interrupted run"):
        sa.profile(model, loader, out=tmp_path / "run", plain=True)
    resumed(tmp_path / "run")
    assert same(tmp_path / "run", whole)


def test_a_crash_while_parts_are_removed_is_tidied_up(tmp_path: Path, whole: Path, monkeypatch) -> None:
    model, loader = digits()
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "_drop_parts", lambda self: None)
        sa.profile(model, loader, out=tmp_path / "run", plain=True)
    assert list((tmp_path / "run" / "parts").glob("*.arrow"))
    resumed(tmp_path / "run")
    assert same(tmp_path / "run", whole) and not (tmp_path / "run" / "parts").exists()


def test_other_threads_are_refused_unless_mixed_and_then_named(tmp_path: Path, monkeypatch) -> None:
    interrupted(tmp_path / "run")
    model, loader = digits()
    monkeypatch.setattr("torch.get_num_threads", lambda: 7)
    with pytest.raises(SpikeattnError, match="resume: threads is 7 now and was 1.*--allow-mixed"):
        sa.profile(model, loader, out=tmp_path / "run", resume=True, plain=True)
    done = sa.profile(model, loader, out=tmp_path / "run", resume=True, plain=True, allow_mixed=True)
    assert done.provenance["mixed"] == {"threads": [1, 7]}
    assert any(line.startswith("mixed: ") and "threads (1, 7)" in line for line in done.warnings)
    assert json.loads((tmp_path / "run" / "model.json").read_text())["provenance"]["mixed"]


def test_other_weights_are_refused_always(tmp_path: Path) -> None:
    interrupted(tmp_path / "run")
    model, loader = digits()
    model.head.weight.data[0, 0] += 1
    with pytest.raises(SpikeattnError, match="weights_sha256 is .* now and was"):
        sa.profile(model, loader, out=tmp_path / "run", resume=True, plain=True, allow_mixed=True)


def _hold(path: str, taken, free) -> None:
    lock = FolderLock(Path(path))
    lock.acquire()
    taken.set()
    free.wait(30)


def test_the_lock_keeps_another_process_out_and_dies_with_its_holder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    taken, free = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path), taken, free))
    holder.start()
    assert taken.wait(30)
    with pytest.raises(SpikeattnError, match=rf"another process is writing this run \(process {holder.pid} on "):
        FolderLock(tmp_path).acquire()
    holder.kill()
    holder.join()
    lock = FolderLock(tmp_path)
    lock.acquire()
    other = FolderLock(tmp_path)
    with pytest.raises(SpikeattnError, match="another process"):
        other.share()
    lock.share()  # the ranks of one run hold it together, and a second run stays out
    other.share()
    with pytest.raises(SpikeattnError, match="another process"):
        FolderLock(tmp_path).acquire()


def test_a_part_waits_for_its_origin(tmp_path: Path) -> None:
    seen: list[Part] = []
    writer = PartWriter(seen.append, 0)
    writer.add(Part((0,), skipped=((0, "a", "broken"),)))
    assert not seen and writer.waiting  # no model is known yet
    writer.origin = {"ledger": "x", "settings": {}}
    writer.add(Part((1,), table=ROWS))
    assert [part.batches for part in seen] == [(0, 1)] and not writer.waiting
    (tmp_path / "parts").mkdir()
    again = load(save(seen[0], tmp_path / "parts"))
    assert again.skipped == ((0, "a", "broken"),) and again.table.equals(ROWS) and again.ledger == "x"
