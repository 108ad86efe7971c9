"""`spikeattn attend` through timm's networks at photographs, some of which cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikeattn.cli import app
from spikeattn.errors import SpikeattnError

from .attending import IMAGES


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs, one of them truncated, and a file that is no image."""
    folder = tmp_path / "photos"
    (folder / "pets").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("cat.png", "pets/cat.png", "dog.png"):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / name)
    content = (folder / "dog.png").read_bytes()
    (folder / "dog.png").write_bytes(content[: len(content) // 2])
    (folder / "notes.txt").write_text("no image")
    return folder


def test_images_are_files_and_folders_and_what_is_corrupt_is_named(spikeattn, svg_only, photos, tmp_path) -> None:
    done = spikeattn(*IMAGES, photos, photos / "notes.txt", "--pictures", 1)
    assert done.code == 0, done.err
    assert "UNTRAINED vit_tiny_patch16_224: cls of block 2 of 2" in done.out
    assert "warning: dog.png: skipped, " in done.err
    assert "warning: notes.txt: skipped, not an image of the formats PNG" in done.err
    assert "skipped    2 images, first dog.png" in done.out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert [row["image"] for row in summary["images"]] == ["cat.png", "pets/cat.png"]
    assert [row["image"] for row in summary["skipped"]] == ["dog.png", "notes.txt"]
    assert summary["untrained"] is True
    assert "UNTRAINED" in (tmp_path / "out/panels/cat.svg").read_text()
    assert str(tmp_path) not in (tmp_path / "out/attention.csv").read_text()


def test_one_token_is_never_significant(spikeattn, photos) -> None:
    done = spikeattn(*IMAGES, photos / "cat.png", "--model-arg", "img_size=16", "--pictures", 0)
    assert done.code == 0, done.err
    assert "warning: cat.png: the map has one token: no token is called" in done.err
    assert "0.0 %" in done.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["missing.png"], "--images missing.png: there is no such file or folder"),
        (["empty"], "--images empty holds no images"),
        (["photos/notes.txt"], "no image could be read, 1 were skipped. notes.txt: not an image"),
        (["photos", "--time-steps", 2], "vit_tiny_patch16_224 has no time steps"),
        (["photos", "--model-arg", "img_size=8"], "8"),
        (["photos", "--model-arg", "nonsense=8"], "vit_tiny_patch16_224 cannot be built with"),
        (["photos", "--against", "twin"], "--against twin: vit_tiny_patch16_224 has none"),
        (["photos", "--null", "exact"], 'null="exact" counts the spikes of'),
    ],
)
def test_wrong_images_are_one_clear_error(spikeattn, photos, tmp_path, options, message) -> None:
    (tmp_path / "empty").mkdir()
    done = spikeattn(*IMAGES, *options)
    assert (done.code, message in done.error) == (app.FAILED, True), done.err
    assert not (tmp_path / "out").exists()


def test_a_map_with_nan_names_the_image(spikeattn, photos, tmp_path, monkeypatch) -> None:
    def broken(*arguments, **options):
        raise SpikeattnError("the cls map holds NaN or infinite scores: the model's activations overflow")

    monkeypatch.setattr("spikeattn.attention.replicates.scores", broken)
    done = spikeattn(*IMAGES, photos / "cat.png")
    assert done.code == app.FAILED
    assert done.error == ("error: cat.png: the cls map holds NaN or infinite scores: the model's activations overflow")
    assert not (tmp_path / "out").exists()


def test_weights_of_timm_that_cannot_be_had_are_one_error(spikeattn, photos, monkeypatch) -> None:
    import timm

    def offline(*arguments, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    done = spikeattn(*IMAGES, photos, "--pretrained")
    assert done.code == app.FAILED
    assert "timm could not get its weights (ConnectionError: no network); give them as --checkpoint" in done.error


def test_a_checkpoint_trains_a_timm_model(spikeattn, photos, tmp_path) -> None:
    import timm

    torch.manual_seed(1)
    torch.save(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2).state_dict(), tmp_path / "vit.pth")
    done = spikeattn(*IMAGES, photos / "cat.png", "--checkpoint", "vit.pth", "--pictures", 0)
    assert done.code == 0, done.err
    assert "UNTRAINED" not in done.out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["networks"][0]["model"]["checkpoint"] == "vit.pth"
    wrong = spikeattn(*IMAGES, photos / "cat.png", "--checkpoint", "vit.pth", "--model-arg", "num_classes=7")
    assert "holds a finished result" in wrong.error
    wrong = spikeattn(*IMAGES, photos / "cat.png", "--checkpoint", "vit.pth", "--model-arg", "depth=3", "--out", "b")
    assert "does not fit the model" in wrong.error
