"""Damaged, enormous and foreign files among images: each is read as what it is, or skipped by name; nothing hangs."""

from __future__ import annotations

import io
import json
import logging
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import spikeattn as sa
from spikeattn.cli import main
from spikeattn.data import Skipped, make_loader, open_dataset
from spikeattn.data.decoding import decode
from spikeattn.errors import SpikeattnError

PIXELS = np.random.RandomState(0).randint(0, 256, (40, 48, 3), dtype=np.uint8)
MAGIC = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF....WEBP", b"P6\n", b""]


def encoded(form: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, form, **options)
    return buffer.getvalue()


def header_png(width: int, height: int) -> bytes:
    """A PNG whose header claims any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return MAGIC[0] + chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0])) + pixels + chunk(b"IEND", b"")


def saved(array: np.ndarray, form: str, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, form)
    return buffer.getvalue()


def cut(content: bytes, pieces: int) -> list[bytes]:
    return [content[: len(content) * k // pieces] for k in range(pieces)]


def flipped(content: bytes, places: int) -> list[bytes]:
    found = []
    for k in range(places):
        damaged = bytearray(content)
        damaged[len(content) * (2 * k + 1) // (2 * places)] ^= 1 << (k % 8)
        found.append(bytes(damaged))
    return found


JPEG, PNG = encoded("JPEG", quality=90), encoded("PNG")
CORPUS = {
    **{f"jpeg_cut{k:02}.jpg": content for k, content in enumerate(cut(JPEG, 40))},
    **{f"png_cut{k:02}.png": content for k, content in enumerate(cut(PNG, 40))},
    **{f"png_flip{k:02}.png": content for k, content in enumerate(flipped(PNG, 40))},
    **{f"zeros{k}.jpg": JPEG[:200] + bytes(k) for k in (10, 1000, 100_000)},
    **{f"wide{w}x{h}.png": header_png(w, h) for w, h in ((30_000, 30_000), (30_000, 6_000), (2**31 - 1, 1), (0, 5))},
    "float.tif": saved(np.random.rand(20, 20).astype(np.float32), "TIFF"),
    "int32.tif": saved(np.arange(400, dtype=np.int32).reshape(20, 20), "TIFF"),
    "text.png": b"not an image",
    "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
    "archive.png": b"PK\x03\x04" + bytes(100),
    "empty.gif": b"",
    "pointer.jpeg": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
}
GOOD = {
    "whole.jpg": JPEG,
    "whole.png": PNG,
    "cmyk.jpg": saved(PIXELS, "JPEG", "CMYK"),
    "cmyk.tif": saved(PIXELS, "TIFF", "CMYK"),
    "rgba.png": saved(np.dstack([PIXELS, PIXELS[..., :1]]), "PNG"),
    "la.png": saved(PIXELS, "PNG", "LA"),
    "palette.png": saved(PIXELS, "PNG", "P"),
    "one_bit.png": saved(PIXELS, "PNG", "1"),
    "deep.png": saved((PIXELS[..., 0].astype(np.uint16) * 257), "PNG"),
    "thin.png": saved(np.zeros((1, 30_000), dtype=np.uint8), "PNG"),
    "dot.png": saved(np.full((1, 1), 200, dtype=np.uint8), "PNG"),
    "whole.bmp": encoded("BMP"),
    "whole.webp": encoded("WEBP"),
    "whole.gif": saved(PIXELS, "GIF", "P"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in two classes, with what else a disk can hold."""
    root = tmp_path_factory.mktemp("images")
    for name, files in (("bad", CORPUS), ("good", GOOD)):
        (root / name).mkdir()
        for file, content in files.items():
            (root / name / file).write_bytes(content)
    os.mkfifo(root / "bad" / "pipe.png")  # reading it would wait for ever
    (root / "bad" / "nowhere.png").symlink_to(root / "missing.png")
    (root / "bad" / "itself.png").symlink_to(root / "bad" / "itself.png")
    (root / "bad" / "a_folder.png").mkdir()
    with (root / "bad" / "sparse.png").open("wb") as file:
        file.truncate(5 << 30)
    return root


def test_every_damaged_file_is_skipped_by_name_or_is_the_whole_image(folder: Path) -> None:
    model = sa.create_model("sdt_digits")
    dataset = open_dataset(f"folder:{folder}", model)
    assert len(dataset) >= 150
    whole = {kind: decode(content, "L").tobytes() for kind, content in (("jpeg", JPEG), ("png", PNG))}
    read = []
    for i in range(len(dataset)):
        name, sample = dataset.id(i), dataset[i]
        if isinstance(sample, Skipped):
            assert sample.id == name and sample.reason and str(folder) not in sample.reason
            assert name.startswith("bad/"), f"{name}: {sample.reason}"
            continue
        assert sample[0].shape == (1, 16, 16) and bool(torch.isfinite(sample[0]).all())
        read.append(name)
        if name.startswith("bad/"):  # a file that lacks bytes without pixels
            kind = name.removeprefix("bad/").partition("_")[0]
            assert decode((folder / name).read_bytes(), "L").tobytes() == whole[kind], name
    assert {f"good/{name}" for name in GOOD} <= set(read)
    assert sum(name.startswith("bad/") for name in read) <= 3


def test_a_run_over_them_names_them_all(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options = ["--data", f"folder:{folder}", "--out", str(out), "--threads", "1", "--device", "cpu", "--plain"]
    assert main(["profile", "--model", "sdt_digits", "--pretrained", *options]) == 0
    told = capsys.readouterr()
    assert "Traceback" not in told.err and "Warning" not in told.err
    record = json.loads((out / "model.json").read_text())
    profile = sa.Profile.load(out)
    skipped = {entry["id"] for entry in record["provenance"]["skipped"]}
    ids = set(profile.counts.rows["id"])
    assert len(skipped) >= 120 and not skipped & ids
    assert {f"bad/{name}" for name in CORPUS} <= skipped | ids
    assert {"bad/pipe.png", "bad/nowhere.png", "bad/itself.png", "bad/sparse.png"} <= skipped


@pytest.mark.parametrize("place", range(40))
def test_a_flipped_byte_of_a_jpeg_is_no_error_of_ours(tmp_path: Path, place: int) -> None:
    """JPEG has no checksum: the file is skipped, or decodes to some image of finite pixels."""
    (tmp_path / "a.jpg").write_bytes(flipped(JPEG, 40)[place])
    sample = open_dataset(f"folder:{tmp_path}", sa.create_model("sdt_digits"))[0]
    assert isinstance(sample, Skipped) or (sample[0].shape == (1, 16, 16) and bool(torch.isfinite(sample[0]).all()))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(magic=st.sampled_from(MAGIC), rest=st.binary(max_size=400))
def test_any_bytes_are_an_image_or_a_reason(tmp_path: Path, magic: bytes, rest: bytes) -> None:
    (tmp_path / "a.png").write_bytes(magic + rest)
    sample = open_dataset(f"folder:{tmp_path}", sa.create_model("sdt_digits"))[0]
    if isinstance(sample, Skipped):
        assert sample.reason and "\n" not in sample.reason
    else:
        assert sample[0].shape == (1, 16, 16)


def test_a_link_into_its_own_folder_is_named_before_anything_is_counted(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(PNG)
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "above").symlink_to(tmp_path)
    with pytest.raises(SpikeattnError, match="is a link to .*, a folder that it lies in"):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "cat" / "again").unlink()
    (tmp_path / "cat" / "above").unlink()
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "b.png").write_bytes(PNG)
    (tmp_path / "cat" / "linked").symlink_to(other)
    assert len(open_dataset(f"folder:{tmp_path}", sa.create_model("sdt_digits"))) == 3  # no loop: a link like others


def test_an_empty_class_keeps_its_number_and_other_folders_are_named(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(logging.getLogger("spikeattn"), "propagate", True)  # a command has its log on its own
    for name in ("ant", "bee", "cat", "notes"):
        (tmp_path / name).mkdir()
    for name in ("ant", "cat"):
        (tmp_path / name / "a.png").write_bytes(PNG)
    (tmp_path / "notes" / "read.me").write_text("x")
    dataset = open_dataset(f"folder:{tmp_path}", sa.create_model("sdt_digits", num_classes=3))
    assert dataset.classes == ["ant", "bee", "cat"]
    assert [dataset[i][1] for i in range(2)] == [0, 2]
    notes = " ".join(dataset.provenance()["notes"])
    assert "no image in 'bee', which counts as a class" in notes and "no image in 'notes', which is no class" in notes


def test_names_are_no_markup_in_a_report(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    for name in ("<script>alert(1)<", evil):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / f"{evil}.png").write_bytes(PNG)
    (tmp_path / "data" / evil / "<script>.png").write_bytes(b"broken")
    run, out = tmp_path / "run", tmp_path / "report"
    options = ["--data", f"folder:{tmp_path / 'data'}", "--threads", "1", "--device", "cpu", "--plain"]
    assert main(["profile", "--model", "sdt_digits", *options, "--calibrate", "--out", str(run)]) == 0
    assert main(["report", str(run), "--out", str(out)]) == 0
    pages = [path.read_text() for path in out.rglob("*.html")]
    assert pages
    for page in pages:
        assert "<script>alert" not in page and "<img src=x" not in page
        assert "&lt;script&gt;" in page  # the names are there, as text


def test_batches_of_damaged_files_only_are_counted(tmp_path: Path) -> None:
    for k, content in enumerate(cut(JPEG, 12)):
        (tmp_path / f"{k:02}.jpg").write_bytes(content)
    (tmp_path / "zz.png").write_bytes(PNG)
    loader = make_loader(open_dataset(f"folder:{tmp_path}", sa.create_model("sdt_digits")), batch_size=4)
    profile = sa.profile(sa.create_model("sdt_digits", pretrained=True), loader, plain=True)
    assert profile.n_images + len(profile.provenance["skipped"]) == 13 and profile.n_images >= 1


def test_postscript_in_a_png_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "was_run"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\necho run > {ran}\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "data").mkdir()
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "data" / "a.png").write_bytes(page)
    sample = open_dataset(f"folder:{tmp_path / 'data'}", sa.create_model("sdt_digits"))[0]
    assert isinstance(sample, Skipped) and "not an image of the formats PNG, JPEG" in sample.reason
    assert not ran.exists()


@pytest.mark.parametrize("form", ["PCX", "TGA", "SGI", "ICO"])
def test_formats_that_are_not_documented_are_not_read(form: str) -> None:
    with pytest.raises(ValueError, match="not an image of the formats PNG, JPEG"):
        decode(encoded(form), "RGB")


def test_every_documented_format_and_pictures_of_two_frames_are_read() -> None:
    for form in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM"):
        assert decode(encoded(form), "RGB").size == (48, 40)
    assert decode(encoded("MPO", save_all=True, append_images=[Image.fromarray(PIXELS)]), "RGB").size == (48, 40)


@pytest.mark.parametrize(("width", "height"), [(17_000, 10_000), (30_000, 30_000)])
def test_more_pixels_than_pillow_warns_of_are_refused_by_the_header(width: int, height: int) -> None:
    with pytest.raises(ValueError, match="too many pixels: Image size .* could be decompression bomb"):
        decode(header_png(width, height), "RGB")
