"""What a run says where its images are few or lack classes: by hand, and on a folder sorted by class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import spikeattn as sa
from spikeattn.cli.app import main
from spikeattn.runs.result import Profile
from spikeattn.runs.sample_warnings import few_images, missing_classes
from tests.counting.networks import tiny_sdt
from tests.models.sdt_oracle import exact_input

FIRST = {"number": 10_000, "limit": 200, "sample": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of six grey images each; a folder is read class after class."""
    rng = np.random.default_rng(0)
    for name in ("ape", "bee", "cat"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


def said(profile: Profile) -> dict[str, str]:
    return {note.code: note.text for note in profile.warnings}


def test_the_sentence():
    labels = np.repeat([0, 1], 100)
    (note,) = missing_classes(labels, 10, FIRST)
    assert note.code == "classes"
    assert note.text.startswith("the first 200 images hold 2 of 10 classes") and "give --sample 200" in note.text
    (one,) = missing_classes(labels[:1], 10, FIRST)
    assert one.text.startswith("the first image holds 1 of 10 classes")


@pytest.mark.parametrize(
    ("labels", "classes", "data"),
    [
        (np.arange(10), 10, FIRST),  # all of them
        ([0, 1, -1], None, FIRST),  # a data set without names
        ([-1, -1], 10, FIRST),  # images without labels
        ([0, 1], 10, {"number": 2, "limit": None, "sample": None}),  # the whole data set
        ([0, 1], 10, {"number": 2, "limit": 50, "sample": None}),
        ([0, 1], 10, {"number": 100, "limit": None, "sample": 2}),  # a random sample, however small
    ],
)
def test_nothing_is_said(labels, classes, data):
    assert missing_classes(np.asarray(labels), classes, data) == []


def test_few_images():
    assert [note.code for n in (1, 2, 4) for note in few_images(n)] == ["few-images"] * 3
    assert few_images(5) == [] and "2 images" in few_images(2)[0] and "no interval" in few_images(1)[0]


def test_first_images_of_a_sorted_folder(folder):
    model = sa.create_model("sdt_digits")
    data = sa.open_dataset(f"folder:{folder}", model)
    first = sa.profile(model, sa.make_loader(data, 4, limit=8))
    assert said(first)["classes"].startswith("the first 8 images hold 2 of 3 classes")
    assert "classes" not in said(sa.profile(model, sa.make_loader(data, 4, sample=4, seed=1)))
    assert "classes" not in said(sa.profile(model, sa.make_loader(data, 4)))


def test_terminal_result_and_page_repeat_it(folder, tmp_path, capsys):
    run, data = tmp_path / "run", f"folder:{folder}"
    options = ["profile", "--model", "sdt_digits", "--data", data, "--limit", "8", "--device", "cpu", "--plain"]
    main([*options, "--out", str(run)])
    sentence = "the first 8 images hold 2 of 3 classes"
    assert sentence in capsys.readouterr().out
    for command in (["energy"], ["rates"], ["compare"], ["energy", "--energy-model", "compute"]):
        main([command[0], str(run), *command[1:]])
        assert sentence in capsys.readouterr().out, command
    main(["compare", str(run), "--json"])
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any(sentence in note for note in notes)
    main(["report", str(run), "--out", str(tmp_path / "report")])
    assert sentence in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert Profile.load(run).provenance["classes"] == 3


def test_a_loader_of_ones_own_is_judged_where_its_data_names_classes():
    class Named(Dataset):
        classes = ("a", "b", "c", "d")
        images = exact_input(6, 3, 16, 16)

        def __len__(self):
            return 6

        def __getitem__(self, i):
            return self.images[i], torch.tensor(0)

    found = said(sa.profile(tiny_sdt(), DataLoader(Named(), batch_size=3)))
    assert found["classes"].startswith("the 6 images hold 1 of 4 classes") and "--sample" not in found["classes"]
