"""Files of other people: a folder is touched only where it is empty or a run of ours, and never through a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.storage import files
from spikeattn.storage.folder import RunFolder, strangers
from spikeattn.storage.lock import FolderLock


def small() -> nn.Module:
    from spikingjelly.activation_based import neuron

    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), neuron.IFNode(), nn.Linear(8, 3))


def profile(out: Path, **options) -> sa.Profile:
    return sa.profile(small(), [torch.rand(4, 6), torch.rand(2, 6)], out=out, time_steps=1, save_every=0, **options)


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


PLANTED = [
    {"ubuntu.iso.part": b"half an image"},
    {"counts.parquet": b"mine", "notes.txt": b"mine"},
    {".lock": b"of another program", "photo.jpg": b""},
    {"parts/model.json": b"a mould", "parts/bolt.arrow": b"x"},
    {"parts/deep/file": b"x"},
    {"model.json": b'{"format": 1}', "weights.bin": b"x"},
    {"00000000-0123456789abcdef.arrow": b"x"},
    {".spikeattn-0123456789abcdef.part/file": b"x"},
]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: next(iter(planted)))
def test_a_folder_of_somebody_else_is_left_as_it_is(tmp_path: Path, planted: dict[str, bytes], resume: bool) -> None:
    for name, content in planted.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    before = everything(tmp_path)
    with pytest.raises(SpikeattnError, match="holds other files .* and no run; give an empty or a new folder"):
        profile(tmp_path, resume=resume)
    assert everything(tmp_path) == before


def test_files_beside_a_run_stay_whatever_becomes_of_it(tmp_path: Path) -> None:
    def breaking(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        if len(list((tmp_path / "parts").glob("*.arrow"))) == 1:
            raise KeyboardInterrupt
        return model(images)

    with pytest.raises(KeyboardInterrupt):
        profile(tmp_path, forward=breaking)
    beside = {"notes.txt": b"mine", "big.iso.part": b"x", "parts/mine.arrow": b"x", "parts/a.part": b"x"}
    for name, content in beside.items():
        (tmp_path / name).write_bytes(content)
    assert sorted(strangers(tmp_path)) == sorted(beside)
    assert profile(tmp_path, resume=True, forward=lambda model, images: model(images)).n_images == 6
    assert {name: (tmp_path / name).read_bytes() for name in beside} == beside
    assert sorted(everything(tmp_path)) == sorted([*beside, "parts", "counts.parquet", "model.json"])


@pytest.mark.parametrize("name", ["parts", "counts.parquet", "model.json", ".spikeattn.lock", "parts/model.json"])
def test_a_link_in_the_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    other, run = tmp_path / "other", tmp_path / "run"
    (other / "parts").mkdir(parents=True)
    (other / "precious").write_text("precious")
    (other / "00000000-0123456789abcdef.arrow").write_text("precious")
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).symlink_to(other if name == "parts" else other / "precious")
    before = everything(other)
    with pytest.raises(SpikeattnError, match="is a link, where a run keeps its own files"):
        profile(run, resume=True)
    assert everything(other) == before and (run / name).is_symlink()


def test_a_lock_with_another_name_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "precious", tmp_path / "run" / ".spikeattn.lock")
    with RunFolder(tmp_path / "run"):
        assert (tmp_path / "precious").read_text() == "precious"
        with pytest.raises(SpikeattnError, match="another process is writing this run .another process.;"):
            FolderLock(tmp_path / "run").acquire()
    assert (tmp_path / "precious").read_text() == "precious"


def test_names_of_unfinished_files_cannot_be_foreseen_and_are_no_links(tmp_path: Path, monkeypatch) -> None:
    seen = set()
    for _ in range(20):
        with files.whole(tmp_path / "table.csv") as file:
            seen.add(Path(file.name).name)
            file.write(b"x")
    assert len(seen) == 20
    (tmp_path / "precious").write_text("precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0" * 16)
    (tmp_path / f".spikeattn-{'0' * 16}.part").symlink_to(tmp_path / "precious")
    with pytest.raises(SpikeattnError, match="cannot write"), files.whole(tmp_path / "table.csv"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_target_that_is_a_link_is_replaced_and_a_device_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "table.csv").symlink_to(tmp_path / "precious")
    files.write(tmp_path / "table.csv", "new")
    assert (tmp_path / "precious").read_text() == "precious" and (tmp_path / "table.csv").read_text() == "new"
    with pytest.raises(SpikeattnError, match="is a folder"):
        files.write(tmp_path, "new")
    with pytest.raises(SpikeattnError, match="is no file"):
        files.write(Path("/dev/null"), "new")


def test_a_folder_that_the_run_made_goes_with_an_error(tmp_path: Path) -> None:
    def fails(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        raise ValueError("no")

    with pytest.raises(SpikeattnError):
        profile(tmp_path / "a" / "b", forward=fails)
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with pytest.raises(SpikeattnError):
        profile(tmp_path / "mine", forward=fails)
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize("what", ["one", "all", "folder"])
def test_parts_that_vanish_in_mid_run_are_missed(tmp_path: Path, what: str) -> None:
    import shutil

    gone: list[int] = []

    def vanishing(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        there = sorted((tmp_path / "parts").glob("*.arrow")) if (tmp_path / "parts").is_dir() else []
        if len(there) == 2 and not gone:
            gone.append(1)
            if what == "folder":
                shutil.rmtree(tmp_path / "parts")
            for path in there[: 1 if what == "one" else 2]:
                path.unlink(missing_ok=True)
        return model(images)

    batches = [torch.rand(2, 6) for _ in range(4)]
    options = {"out": tmp_path, "time_steps": 1, "save_every": 0}
    with pytest.raises(SpikeattnError, match=r"of 4 batches \(number 0.*have gone from its parts.*resume") as error:
        sa.profile(small(), batches, forward=vanishing, **options)
    assert ("1 of 4" in str(error.value)) == (what == "one")
    done = sa.profile(small(), batches, forward=lambda model, images: model(images), resume=True, **options)
    assert done.n_images == 8
    whole = sa.profile(small(), batches, time_steps=1)
    assert done.rates().equals(whole.rates())
