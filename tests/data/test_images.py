"""Images: labels that do not depend on the folders present, and unreadable files that are named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from spikeattn.data import Skipped, make_loader, open_dataset
from spikeattn.data.decoding import decode
from spikeattn.data.image_files import FORMATS
from spikeattn.errors import SpikeattnError

CFG = {
    "input_size": (3, 32, 32),
    "interpolation": "bicubic",
    "crop_pct": 0.95,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "num_classes": 1000,
}
MODEL = SimpleNamespace(pretrained_cfg=CFG)
PLAIN = SimpleNamespace(pretrained_cfg={**CFG, "mean": (0.0,) * 3, "std": (1.0,) * 3, "crop_pct": 1.0})


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (48, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def flat(path: Path, array: np.ndarray, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def imagenet(root: Path) -> Path:
    """Three classes of the 1000, two images each."""
    for k, wnid in enumerate(("n02123045", "n01440764", "n15075141")):
        for i in range(2):
            photo(root / "val" / wnid / f"{wnid}_{i}.JPEG", seed=10 * k + i)
    return root


def pack(tar: Path, folder: Path, prefix: str = "") -> Path:
    with tarfile.open(tar, "w") as out:
        out.add(folder, arcname=prefix or ".")
    return tar


def summary(dataset) -> list[tuple[str, int, float]]:
    return [(dataset.id(i), dataset[i][1], dataset[i][0].double().sum().item()) for i in range(len(dataset))]


def test_labels_come_from_imagenet_not_from_the_folders(tmp_path):
    dataset = open_dataset(f"imagenet:{imagenet(tmp_path)}", MODEL)
    assert [dataset.id(i) for i in range(6)] == sorted(dataset.id(i) for i in range(6))
    assert dataset.id(0) == "n01440764/n01440764_0.JPEG"
    assert [dataset[i][1] for i in range(6)] == [0, 0, 281, 281, 999, 999]
    # Synset ids stand for the names with timm before 0.9.
    assert len(dataset.classes) == 1000 and dataset.classes[281].startswith(("tabby", "n02123045"))
    assert dataset[0][0].shape == (3, 32, 32) and dataset[0][0].dtype == torch.float32


def test_every_layout_gives_the_same_data(tmp_path):
    root = imagenet(tmp_path / "imagenet")
    expected = summary(open_dataset(f"imagenet:{root}", MODEL))
    tars = tmp_path / "tars"
    tars.mkdir()
    for wnid in sorted((root / "val").iterdir()):
        pack(tars / f"{wnid.name}.tar", wnid)
    for given in (
        root / "val",
        pack(tmp_path / "whole.tar", root, "imagenet"),
        pack(tmp_path / "dot.tar", root / "val"),
        pack(tmp_path / "tar_of_tars.tar", tars),
    ):
        assert summary(open_dataset(f"imagenet:{given}", MODEL)) == expected, given
    assert not list(tmp_path.glob("*.pickle"))  # nothing is written beside the user's files


def test_splits(tmp_path):
    root = imagenet(tmp_path / "in")
    photo(root / "train" / "n01443537" / "a.JPEG")
    photo(root / "train" / "n01443537" / "._a.JPEG")
    tar = pack(tmp_path / "both.tar", root, "in")
    for given in (root, tar):
        assert len(open_dataset(f"imagenet:{given}", MODEL)) == 6
        train = open_dataset(f"imagenet:{given}", MODEL, split="train")
        assert (len(train), train.id(0), train[0][1]) == (1, "n01443537/a.JPEG", 1)
        with pytest.raises(SpikeattnError, match="no folder 'test'"):
            open_dataset(f"imagenet:{given}", MODEL, split="test")
    (root / "val").rename(tmp_path / "elsewhere")
    with pytest.raises(SpikeattnError, match="imagenet:.*/train"):
        open_dataset(f"imagenet:{root}", MODEL)


def test_tar_is_read_by_workers_too(tmp_path):
    dataset = open_dataset(f"imagenet:{pack(tmp_path / 'a.tar', imagenet(tmp_path / 'in'), 'in')}", MODEL)
    assert isinstance(dataset[0], tuple)  # opened once in this process before the workers start
    here, there = (
        torch.cat([batch.images for batch in make_loader(dataset, 2, workers=workers)]) for workers in (0, 2)
    )
    assert torch.equal(here, there)


def test_a_corrupt_image_is_skipped_and_named(tmp_path):
    root = imagenet(tmp_path)
    folder = root / "val" / "n01440764"
    whole = (folder / "n01440764_0.JPEG").read_bytes()
    (folder / "b_truncated.JPEG").write_bytes(whole[: len(whole) // 2])
    (folder / "c_empty.JPEG").write_bytes(b"")
    (folder / "d_text.JPEG").write_bytes(b"this is no image")
    (folder / "e_lfs.JPEG").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    png = photo(folder / "f_png.png").read_bytes()
    (folder / "f_png.png").write_bytes(png[:60] + bytes(40) + png[100:])
    dataset = open_dataset(f"imagenet:{root}", MODEL)
    batch = next(iter(make_loader(dataset)))
    assert len(batch.ids) == 6 and len(batch.skipped) == 5
    reasons = {one.id.split("/")[1]: one.reason for one in batch.skipped}
    assert "truncated" in reasons["b_truncated.JPEG"]
    assert reasons["c_empty.JPEG"] == "empty file"
    assert reasons["d_text.JPEG"] == "not an image of the formats " + ", ".join(dict.fromkeys(FORMATS.values()))
    assert "git-LFS pointer" in reasons["e_lfs.JPEG"]
    assert "f_png.png" in reasons
    assert all(str(tmp_path) not in reason for reason in reasons.values())
    # the neighbours keep their own index, label and pixels
    assert batch.labels.tolist() == [0, 0, 281, 281, 999, 999]
    assert batch.index.tolist() == [i for i in range(11) if dataset.id(i) in batch.ids]


def test_a_file_that_vanished_is_skipped(tmp_path):
    root = imagenet(tmp_path)
    dataset = open_dataset(f"imagenet:{root}", MODEL)
    (root / "val" / dataset.id(2)).unlink()
    assert dataset[2] == Skipped(dataset.id(2), "No such file or directory", 2)


def test_decompression_bombs_are_skipped(tmp_path, monkeypatch):
    photo(tmp_path / "large.png", size=(200, 200))
    photo(tmp_path / "strip.png", size=(4000, 1))
    photo(tmp_path / "usual.png", size=(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    large, strip, usual = (open_dataset(f"folder:{tmp_path}", MODEL)[i] for i in range(3))
    assert "decompression bomb" in large.reason
    assert "4000x1 pixels would be resized" in strip.reason
    assert usual[0].shape == (3, 32, 32)


GREY = np.tile(np.linspace(0, 255, 32).round().astype(np.uint8), (32, 1))
COLOUR = np.stack([GREY, GREY.T, 255 - GREY], axis=-1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "array", "mode", "expected", "tolerance"),
    [
        ("grey.png", GREY, None, GREY, 0),
        ("grey16.png", GREY.astype(np.uint16) * 257, None, GREY, 0),
        ("grey16.tif", GREY.astype(np.uint16) * 257, None, GREY, 0),
        ("grey16.pgm", GREY.astype(np.uint16) * 257, None, GREY, 0),
        ("bilevel.png", np.where(GREY > 127, 255, 0).astype(np.uint8), "1", np.where(GREY > 127, 255, 0), 0),
        ("colour.png", COLOUR, None, COLOUR, 0),
        ("alpha.png", np.dstack([COLOUR, GREY]), None, COLOUR, 0),
        ("palette.png", GREY, "P", GREY, 8),
        ("cmyk.tif", COLOUR, "CMYK", COLOUR, 1),
        ("cmyk.jpg", COLOUR, "CMYK", COLOUR, 40),
        ("lossless.webp", COLOUR, None, COLOUR, 60),
    ],
)
def test_pixel_formats(tmp_path, name, array, mode, expected, tolerance, channels):
    options = {"transparency": bytes(256)} if name == "palette.png" else {}
    path = flat(tmp_path / name, array, mode, **options)
    image = decode(path.read_bytes(), "RGB" if channels == 3 else "L")
    wanted = np.asarray(Image.fromarray(expected.astype(np.uint8)).convert("RGB" if channels == 3 else "L")).astype(int)
    assert np.abs(np.asarray(image).astype(int) - wanted).max() <= tolerance
    model = SimpleNamespace(pretrained_cfg=PLAIN.pretrained_cfg, in_chans=channels)
    tensor, label = open_dataset(f"folder:{tmp_path}", model)[0]
    assert tensor.shape == (channels, 32, 32) and label == -1


def test_pixels_without_a_white_level_are_skipped(tmp_path):
    flat(tmp_path / "float.tif", GREY.astype(np.float32))
    flat(tmp_path / "int32.tif", GREY.astype(np.int32) * 1000)
    skipped = [open_dataset(f"folder:{tmp_path}", MODEL)[i] for i in range(2)]
    assert all("no defined white level" in one.reason for one in skipped)


def test_one_channel_gets_one_mean(tmp_path):
    photo(tmp_path / "a.png")
    dataset = open_dataset(f"folder:{tmp_path}", SimpleNamespace(pretrained_cfg=CFG, in_chans=1, img_size=24))
    assert dataset[0][0].shape == (1, 24, 24)
    assert dataset.provenance()["mean"] == pytest.approx([0.449])
    with pytest.raises(SpikeattnError, match="the model takes 2"):
        open_dataset(f"folder:{tmp_path}", SimpleNamespace(in_chans=2))


def test_folder_of_classes_and_folder_without(tmp_path):
    for name in ("zebra/1.png", "ant/deep/er/2.png", "ant/1.png", "notes/readme.txt"):
        path = tmp_path / "classes" / name
        photo(path) if name.endswith("png") else (path.parent.mkdir(), path.write_text("x"))
    dataset = open_dataset(f"folder:{tmp_path / 'classes'}", MODEL)
    assert dataset.classes == ["ant", "zebra"]
    found = [(dataset.id(i), dataset[i][1]) for i in range(3)]
    assert found == [("ant/1.png", 0), ("ant/deep/er/2.png", 0), ("zebra/1.png", 1)]
    assert "1000 outputs and the data 2 classes" in dataset.provenance()["notes"][0]
    photo(tmp_path / "loose" / "a.JPG")
    loose = open_dataset(f"folder:{tmp_path / 'loose'}", MODEL)
    assert loose.classes is None and loose[0][1] == -1
    assert open_dataset(f"folder:{tmp_path}", MODEL, split="loose").id(0) == "a.JPG"


def test_wrong_places_say_what_was_found_and_what_is_expected(tmp_path):
    def message(spec: str, **options) -> str:
        with pytest.raises(SpikeattnError) as caught:
            open_dataset(spec, MODEL, **options)
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    photo(tmp_path / "flat" / "ILSVRC2012_val_00000001.JPEG")
    photo(tmp_path / "named" / "cat" / "1.jpg")
    photo(tmp_path / "named" / "n01440764" / "1.jpg")
    photo(tmp_path / "split" / "train" / "cat" / "1.jpg")
    (tmp_path / "file.jpg").write_bytes(b"x")
    (tmp_path / "text.tar").write_bytes(b"x" * 2000)
    pack(tmp_path / "flat.tar", tmp_path / "flat")
    pack(tmp_path / "empty.tar", tmp_path / "empty")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as out:
        out.add(tmp_path / "named")
    whole = pack(tmp_path / "whole.tar", imagenet(tmp_path / "in") / "val").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])

    assert "does not exist" in message(f"imagenet:{tmp_path}/nowhere/val") and "expected PATH/val/<wnid>" in message(
        f"imagenet:{tmp_path}/nowhere"
    )
    assert "'empty/'" in message(f"folder:{tmp_path}/nowhere")
    assert "holds no images (nothing)" in message(f"imagenet:{tmp_path}/empty")
    assert "holds no images" in message(f"folder:{tmp_path}/empty")
    assert "is a file" in message(f"folder:{tmp_path}/file.jpg")
    assert "not a .tar" in message(f"imagenet:{tmp_path}/file.jpg")
    assert "is truncated" in message(f"imagenet:{tmp_path}/cut.tar")
    for name in ("text.tar", "packed.tar"):
        assert "uncompressed tar" in message(f"imagenet:{tmp_path}/{name}")
    assert "holds no images (0 files)" in message(f"imagenet:{tmp_path}/empty.tar")
    for name in ("flat", "flat.tar"):
        assert "outside class folders" in message(f"imagenet:{tmp_path}/{name}")
    assert "'cat' is not among the 1000 classes" in message(f"imagenet:{tmp_path}/named")
    assert "look like splits" in message(f"folder:{tmp_path}/split")
    assert "no folder 'val'" in message(f"folder:{tmp_path}/split", split="val")


def test_provenance_is_json_and_complete(tmp_path):
    told = open_dataset(f"imagenet:{imagenet(tmp_path)}", MODEL).provenance()
    assert json.loads(json.dumps(told)) == told
    assert told["split"] == "val" and told["number"] == 6 and told["notes"] == []
    assert told["interpolation"] == "bicubic" and told["crop_pct"] == 0.95
    assert told["mean"] == [0.485, 0.456, 0.406] and told["input_size"] == [3, 32, 32]
    assert set(told["versions"]) == {"timm", "torchvision", "pillow"}
    elsewhere = open_dataset(f"imagenet:{tmp_path / 'val'}", MODEL).provenance()
    assert elsewhere["ids_sha256"] == told["ids_sha256"]


def test_a_model_that_states_nothing_gets_timms_default_and_a_note(tmp_path):
    photo(tmp_path / "a.png")
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset[0][0].shape == (3, 224, 224)
    assert "states no input size" in dataset.notes[0]


def test_names_that_are_not_utf8_can_be_written(tmp_path):
    photo(tmp_path / "ok.png")
    try:
        (tmp_path / "ok.png").rename(tmp_path / b"\xff.png".decode("utf-8", "surrogateescape"))
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    dataset = open_dataset(f"folder:{tmp_path}", MODEL)
    assert dataset.id(0) == "\\xff.png" and isinstance(dataset[0], tuple)
    dataset.id(0).encode()


def test_ordinary_photos_equal_timms_own_pipeline(shared):
    from timm.data import ImageDataset as TimmDataset

    model = SimpleNamespace(pretrained_cfg={**CFG, "input_size": (3, 224, 224)})
    dataset = open_dataset(f"imagenet:{shared / 'data' / 'imagenet_sample'}", model)
    assert len(dataset) == 1000
    timms = TimmDataset(str(shared / "data" / "imagenet_sample" / "val"), transform=dataset.transform)
    for i in range(0, 1000, 50):
        image, label = dataset[i]
        theirs, index = timms[i]
        assert timms.filename(i) == dataset.id(i)
        # all 1000 classes are present in this sample, so timm's numbering agrees here
        assert torch.equal(image, theirs) and label == index


def test_decode_reads_bytes():
    out = io.BytesIO()
    Image.fromarray(COLOUR).save(out, "PNG")
    assert np.array_equal(np.asarray(decode(out.getvalue(), "RGB")), COLOUR)
