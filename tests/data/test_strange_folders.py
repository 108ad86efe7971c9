"""Folders, archives and tables that nobody has tidied: hidden folders, other extensions, links, numbers, paths."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spikeattn.cli.attention_inputs import open_images
from spikeattn.data import Dataset, Skipped, open_dataset
from spikeattn.errors import SpikeattnError

MODEL = SimpleNamespace(in_chans=3, img_size=8)
FISH, GOLDFISH = "n01440764", "n01443537"  # labels 0 and 1


def picture(form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 60)).save(out, form)
    return out.getvalue()


PNG = picture()


def fill(root: Path, *names: str) -> Path:
    """Files below a folder, all with an image in them whatever their name; a name that ends in '/' is a folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PNG)
    return root


def labels(dataset: Dataset) -> dict[str, int | str]:
    found = {}
    for i in range(len(dataset)):
        sample = dataset[i]
        found[dataset.id(i)] = sample.reason if isinstance(sample, Skipped) else sample[1]
    return found


def packed(path: Path, *members: tuple) -> Path:
    """A tar of (name, content), or (name, kind of link, target)."""
    with tarfile.open(path, "w") as tar:
        for name, content, *target in members:
            info = tarfile.TarInfo(name)
            if target:
                info.type, info.linkname = content, target[0]
            else:
                info.size = len(content)
            tar.addfile(info, None if target else io.BytesIO(content))
    return path


HIDDEN = [".ipynb_checkpoints/a.png", ".git/b.png", "__MACOSX/cat/c.png", "@eaDir/d.png", "cat/.x/e.png", "cat/._f.png"]


def test_hidden_folders_are_no_classes_and_their_images_are_counted(tmp_path):
    root = fill(tmp_path / ".cache", "cat/1.png", "dog/2.png", ".DS_Store", "dog/.DS_Store", "__pycache__/", *HIDDEN)
    (root / ".git" / "loop").symlink_to(root)
    dataset = open_dataset(f"folder:{root}", MODEL)
    assert dataset.classes == ["cat", "dog"] and labels(dataset) == {"cat/1.png": 0, "dog/2.png": 1}
    (note,) = dataset.notes
    assert "left out: 6 files with a hidden name" in note and "'.git/b.png'" in note and "DS_Store" not in note
    with pytest.raises(SpikeattnError, match=r"holds hidden files only \('.git/b.png'"):
        open_dataset(f"folder:{fill(tmp_path / 'all', *HIDDEN)}", MODEL)


def test_a_class_of_placeholders_only_is_empty(tmp_path):
    root = fill(tmp_path, "ant/1.png", "bee/.gitkeep", "cat/1.png")
    assert labels(open_dataset(f"folder:{root}", MODEL)) == {"ant/1.png": 0, "cat/1.png": 2}


def test_hidden_folders_in_imagenet_in_a_tar_and_among_recordings(tmp_path):
    fill(tmp_path / "in", f"{FISH}/a.png", f".ipynb_checkpoints/{FISH}/b.png", f"__MACOSX/{GOLDFISH}/c.png")
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(tmp_path / "in", arcname=".")
    for place in ("in", "in.tar"):
        dataset = open_dataset(f"imagenet:{tmp_path / place}", MODEL)
        assert labels(dataset) == {f"{FISH}/a.png": 0} and "left out: 2 files" in dataset.notes[-1]
    events = tmp_path / "nmnist" / "events_np" / "test"
    for name in ("3/a.npz", ".ipynb_checkpoints/b.npz", "3/.ipynb_checkpoints/c.npz", "stray.npz", "3/d.aedat"):
        (events / name).parent.mkdir(parents=True, exist_ok=True)
        with (events / name).open("wb") as file:
            np.savez(file, **{key: np.arange(20) % 2 if key == "p" else np.arange(20) for key in "txyp"})
    dataset = open_dataset(f"nmnist:{tmp_path / 'nmnist'}", time_steps=4)
    assert labels(dataset) == {"test/3/a.npz": 3}
    notes = " ".join(dataset.notes)
    assert "2 files with a hidden name" in notes and ".aedat (1)" in notes and "'stray.npz'" in notes


def test_all_names_of_known_formats_are_read_and_all_others_counted(tmp_path):
    names = ["jpg", "JPEG", "jpe", "JFIF", "png", "webp", "bmp", "tif", "ppm", "pgm", "gif", "avif"]
    root = fill(tmp_path, *(f"c/{i}.{name}" for i, name in enumerate(names)), "c/x.heic", "c/y.HEIC", "c/z", "read.txt")
    dataset = open_dataset(f"folder:{root}", MODEL)
    assert len(dataset) == len(names)
    (note,) = dataset.notes
    assert "left out: 4 files of another extension: .heic (2)" in note
    assert ".txt (1)" in note and "no extension (1)" in note and "read are .png" in note


def test_a_folder_of_unknown_extensions_is_named(tmp_path):
    root = fill(tmp_path, "a/1.png", "b/1.heic", "b/2.heic", "c/1.png")
    notes = " ".join(open_dataset(f"folder:{root}", MODEL).notes)
    assert "no image in 'b', which is no class" in notes and ".heic (2)" in notes
    with pytest.raises(SpikeattnError, match=r"holds no images \('b/', files of .heic \(2\); read are"):
        (root / "a" / "1.png").unlink(), (root / "a").rmdir(), (root / "c" / "1.png").unlink(), (root / "c").rmdir()
        open_dataset(f"folder:{root}", MODEL)


def test_attend_reads_a_folder_as_all_do(tmp_path):
    root = fill(tmp_path, "a.jfif", ".ipynb_checkpoints/a.jfif", "b.heic")
    dataset = open_images([root], MODEL)
    assert len(dataset) == 1 and "1 file with a hidden name" in dataset.notes[0] and ".heic (1)" in dataset.notes[1]


def test_links_on_a_disk(tmp_path):
    root = fill(tmp_path, "real/1.png")
    (root / "alias").symlink_to(root / "real")
    (root / "gone").symlink_to(root / "nothing")
    (root / "real" / "lost.png").symlink_to(root / "nothing.png")
    dataset = open_dataset(f"folder:{root}", MODEL)
    assert dataset.classes == ["alias", "real"]
    assert labels(dataset)["alias/1.png"] == 0 and labels(dataset)["real/lost.png"] == "No such file or directory"
    assert dataset.notes == ("left out: 1 link to nothing: 'gone'",)


def test_links_in_a_tar_are_read_as_what_they_lead_to(tmp_path):
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    tar = packed(
        tmp_path / "a.tar",
        (f"v/{FISH}/x.png", PNG),
        (f"v/{FISH}/hard.png", hard, f"v/{FISH}/x.png"),
        (f"v/{GOLDFISH}/soft.png", soft, f"../{FISH}/x.png"),
        (f"v/{GOLDFISH}/twice.png", soft, "soft.png"),
        (f"v/{GOLDFISH}/gone.png", soft, "nowhere.png"),
        (f"v/{GOLDFISH}/away.png", soft, "/etc/passwd"),
        (f"v/{GOLDFISH}/self.png", soft, "self.png"),
        ("v/n01484850", soft, FISH),
        ("v/read.me", soft, "nowhere"),
    )
    dataset = open_dataset(f"imagenet:{tar}", MODEL)
    found = labels(dataset)
    assert [found[f"{FISH}/{name}.png"] for name in ("x", "hard")] == [0, 0]
    assert [found[f"{GOLDFISH}/{name}.png"] for name in ("soft", "twice")] == [1, 1]
    assert [found[f"n01484850/{name}.png"] for name in ("x", "hard")] == [2, 2]
    for name, target in (("gone", "nowhere.png"), ("away", "/etc/passwd"), ("self", "self.png")):
        assert found[f"{GOLDFISH}/{name}.png"] == f"a link to {target!r}, which the archive does not hold"
    assert dataset.notes == ("left out: 1 link to nothing: 'v/read.me'",)
    with pytest.raises(SpikeattnError, match="a link to a folder that it lies in"):
        open_dataset(
            f"imagenet:{packed(tmp_path / 'b.tar', (f'{FISH}/x.png', PNG), (f'{FISH}/up', soft, '..'))}", MODEL
        )


def test_a_tar_holds_all_extensions_and_the_later_of_two_files(tmp_path):
    tar = packed(
        tmp_path / "a.tar",
        (f"{FISH}/a.webp", picture("WEBP")),
        (f"{FISH}/b.png", b"old"),
        (f"./{FISH}/b.png", PNG),
        (f"{FISH}/c.heic", PNG),
    )
    dataset = open_dataset(f"imagenet:{tar}", MODEL)
    assert labels(dataset) == {f"{FISH}/a.webp": 0, f"{FISH}/b.png": 0} and ".heic (1)" in dataset.notes[-1]


def test_a_tar_damaged_in_the_middle_is_no_shorter_tar(tmp_path):
    tar = packed(tmp_path / "a.tar", (f"{FISH}/a.png", PNG), (f"{FISH}/b.png", PNG))
    content = bytearray(tar.read_bytes())
    second = content.index(f"{FISH}/b.png".encode())
    content[second : second + 4] = b"damn"
    tar.write_bytes(content)
    with pytest.raises(SpikeattnError, match=f"is damaged at byte {second}"):
        open_dataset(f"imagenet:{tar}", MODEL)


def test_other_archives_are_to_be_unpacked(tmp_path):
    for name in ("a.zip", "a.tar.gz"):
        fill(tmp_path, name)
        for kind in ("imagenet", "folder"):
            with pytest.raises(SpikeattnError, match="unpack it first"):
                open_dataset(f"{kind}:{tmp_path / name}", MODEL)


def test_numbers_under_imagenet_are_the_labels(tmp_path):
    dataset = open_dataset(f"imagenet:{fill(tmp_path / 'a', '2/x.png', '10/x.png', '999/x.png')}", MODEL)
    assert labels(dataset) == {"2/x.png": 2, "10/x.png": 10, "999/x.png": 999}
    assert "taken as the labels 0 to 999" in dataset.notes[-1]
    for names, message in (
        (("1/x.png", "1000/x.png"), "'1000' is beyond the labels 0 to 999"),
        (("1/x.png", "01/y.png"), "'01', '1' are the same number"),
        (("1/x.png", f"{FISH}/x.png"), "'1' is not among the 1000 classes"),
        (("n99999999/x.png",), "'n99999999' is not among the 1000 classes"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            open_dataset(f"imagenet:{fill(tmp_path / names[-1], *names)}", MODEL)


def test_an_order_that_loaders_do_not_share_is_named(tmp_path):
    dataset = open_dataset(f"folder:{fill(tmp_path, *(f'{i}/x.png' for i in range(11)))}", MODEL)
    assert labels(dataset)["10/x.png"] == 2
    assert "label 2 is '10'; a model trained with timm's loader has '2' there" in dataset.notes[0]


def test_splits_in_capitals_are_splits(tmp_path):
    root = fill(tmp_path, f"VAL/{FISH}/a.png", f"Train/{FISH}/b.png")
    assert labels(open_dataset(f"imagenet:{root}", MODEL)) == {f"{FISH}/a.png": 0}
    with pytest.raises(SpikeattnError, match="look like splits"):
        open_dataset(f"folder:{root}", MODEL)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "/tmp/" + "x" * 300])
def test_paths_that_cannot_be_are_one_clear_error(name):
    for kind in ("folder", "imagenet", "cifar10", "nmnist"):
        with pytest.raises(SpikeattnError):
            open_dataset(f"{kind}:{name}", MODEL, time_steps=1 if kind == "nmnist" else None)


def table(folder: Path, **columns) -> Dataset:
    pq.write_table(pa.table(columns), folder.absolute() / "test.parquet")
    return open_dataset(f"cifar10:{folder}", MODEL)


def test_rows_of_paths_are_read_from_the_folder_of_the_table(tmp_path):
    fill(tmp_path, "im/0.png")
    rows = [{"bytes": PNG, "path": "x"}, *({"bytes": None, "path": path} for path in ("im/0.png", "gone.png", None))]
    found = list(labels(table(tmp_path, img=rows, label=[1, 2, 3, 4])).values())
    assert found[:2] == [1, 2] and "no file 'gone.png'" in found[2] and found[3] == "its row holds no image"
    assert list(labels(table(tmp_path, image=["im/0.png", "http://x/y.png"], label=[5, 6])).values())[0] == 5
    assert list(labels(table(tmp_path, image=[{"path": "im/0.png"}], label=[7])).values()) == [7]


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"image": [{"data": PNG}], "label": [1]}, "its column image is of type struct<data: binary>"),
        ({"image": [[1, 2]], "label": [1]}, "its column image is of type list"),
        ({"img": [PNG], "fine_label": [1]}, "rows of img, fine_label"),
        ({"image": [PNG], "label": ["cat"]}, "label is of type string, such as 'cat'"),
        ({"image": [PNG], "label": [3.0]}, "label is of type double"),
        ({"image": [PNG], "label": [True]}, "label is of type bool"),
        ({"image": [PNG, PNG, PNG], "label": [1, None, -1]}, "label -1, None is none of 0 to 9, in 2 of 3 rows"),
    ],
)
def test_foreign_columns_are_named(tmp_path, columns, message):
    with pytest.raises(SpikeattnError, match=message):
        table(tmp_path, **columns)


def test_two_columns_of_one_name_are_named(tmp_path):
    twice = pa.Table.from_arrays([pa.array([PNG]), pa.array([PNG]), pa.array([1])], names=["image", "image", "label"])
    pq.write_table(twice, tmp_path / "test.parquet")
    with pytest.raises(SpikeattnError, match="rows of image, image, label"):
        open_dataset(f"cifar10:{tmp_path}", MODEL)


@pytest.mark.skipif(os.name != "posix", reason="a colon in a name is for POSIX")
def test_a_name_with_a_colon_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s3:bucket").mkdir()
    assert len(table(Path("s3:bucket"), image=[PNG], label=[1])) == 1
