"""The experiment on what the bootstrap of attention is good for: its measures, its control, and all of it in small."""

from __future__ import annotations

import importlib
import io
import re
import subprocess

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F

import spikeattn as sa
from spikeattn.storage import csv_text
from tests.conftest import ROOT

CLASSES, SIDE = 20, 64


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return lambda name: importlib.import_module(f"experiment.{name}")


@pytest.fixture
def flags():
    """Two images of 2x3 tokens, the left column inside."""
    return np.array([[[True, False, False]] * 2] * 2)


def test_a_constant_map_finds_a_region_by_its_area_and_a_perfect_one_always(part, flags):
    measures = part("measures")
    constant, perfect = np.ones((2, 2, 3)), flags.astype(float)
    assert measures.auc(constant, flags, ~flags).tolist() == [0.5, 0.5]
    assert measures.auc(perfect, flags, ~flags).tolist() == [1, 1]
    assert measures.auc(-perfect, flags, ~flags).tolist() == [0, 0]
    assert measures.energy_inside(constant, flags.astype(float)) == pytest.approx([1 / 3, 1 / 3])
    assert np.isnan(measures.energy_inside(-constant, flags.astype(float))).all()
    assert np.isnan(measures.auc(constant, np.zeros_like(flags), ~flags)).all()


def test_the_highest_tokens_and_their_ties(part):
    measures = part("measures")
    scores = np.array([[[0.0, 3.0], [1.0, 2.0]]] * 2)
    assert measures.top(scores, 2).tolist() == [[[False, True], [False, True]]] * 2
    taken = measures.top(np.zeros((500, 2, 2)), 1).mean(0)
    assert taken.sum() == pytest.approx(1) and (abs(taken - 0.25) < 0.08).all()  # 4 standard errors: no place is first
    chosen = measures.top(scores, 1)
    inside = np.array([[[False, True], [True, False]]] * 2)
    assert measures.iou(chosen, inside).tolist() == [0.5, 0.5]
    assert measures.share_of(chosen, inside).tolist() == [0.5, 0.5]


def test_otsu_splits_two_groups_and_no_constant(part):
    measures = part("measures")
    scores = np.array([[[0.0, 0.1, 0.2], [5.0, 5.1, 0.1]], [[2.0] * 3] * 2], np.float32)
    assert measures.otsu(scores).tolist() == [[[False] * 3, [True, True, False]], [[False] * 3] * 2]
    close = np.array([[[1.0, np.nextafter(np.float32(1), np.float32(2))]]], np.float32)
    assert measures.otsu(close).tolist() == [[[False, True]]]


def test_rules_take_as_many_tokens_as_the_bootstrap_does_on_training_images(part):
    scores, choices = part("scores"), part("choices")
    rng = np.random.default_rng(0)

    def drawn(images: int) -> object:
        raw = rng.normal(size=(images, 8, 8))
        called = {"how much": rng.random(raw.shape) < 0.25, "where": np.zeros(raw.shape, bool)}
        return scores.Tested({"raw": raw, "gradient": rng.normal(size=raw.shape)}, called, raw.max((1, 2))[:, None])

    train, test = drawn(200), drawn(200)
    found = choices.choices(train, test)
    share = train.called["how much"].mean()
    for way in ("threshold", "gradient", "top-k", "random"):
        assert found[way].mean() == pytest.approx(share, abs=0.02), way
    assert set(found["top-k"].sum((1, 2))) == {16}
    assert 0.03 < found["null threshold"].any((1, 2)).mean() < 0.2  # one in ten, of 200 images
    assert found["bootstrap, how much"] is test.called["how much"] and not found["bootstrap, where"].any()


@pytest.mark.parametrize("of_seed, of_image", [(1, 1), (0.1, 2)])
def test_intervals_over_seeds_and_images_hold_the_mean_in_nineteen_of_twenty(part, of_seed, of_image):
    intervals = part("intervals")
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        values = of_seed * rng.normal(size=(5, 1)) + of_image * rng.normal(size=(1, 30)) + rng.normal(size=(5, 30))
        values[:, 3] = np.nan
        mean, low, high = intervals.over_seeds_and_images(values)
        assert mean == pytest.approx(np.nanmean(values))
        held += low <= 0 <= high
    assert 0.92 <= held / 400 <= 0.995  # t of the seeds' degrees of freedom is wide where images scatter more
    one, low, high = intervals.over_images(np.array([-1.0, 0.0, 1.0, np.nan] * 20))
    assert one == pytest.approx(0) and low == pytest.approx(-0.2, abs=0.03) and high == pytest.approx(0.2, abs=0.03)


def test_intervals_of_a_table_are_those_of_its_columns(part):
    intervals = part("intervals")
    rng = np.random.default_rng(1)
    columns = [rng.random(30) - 0.3 * i for i in range(3)]
    together = intervals.of_each(columns)
    for one, column in zip(together, columns, strict=True):
        assert one == pytest.approx(intervals.over_images(column)) and one[1] < one[0] < one[2]
        assert one[0] == pytest.approx(column.mean())
    gap = np.where(np.arange(30) < 5, np.nan, columns[0])
    assert intervals.of_each([columns[1], gap])[1] == pytest.approx(intervals.over_images(columns[0][5:]))


def test_limits_of_shares_stay_where_shares_are(part):
    rows = [
        {"weights": "trained", "kind": "V_S", "null": "normal", "layer": 0, "shown": "noise", "measure": "any",
         "way": "raw", "seed": seed, "image": image, "value": float(seed > 0)}
        for seed in range(3) for image in range(4)
    ]  # fmt: skip
    found = part("summaries").summaries({"alarms": pd.DataFrame(rows)})["alarms"].iloc[0]
    assert found["mean"] == pytest.approx(2 / 3) and (found["low"], found["high"]) == (0, 1)


PUBLISHED = ROOT / "reports" / "attention"


@pytest.fixture
def published():
    return {file.stem: csv_text.read(file) for file in PUBLISHED.glob("*.csv")}


def test_the_page_begins_with_what_its_tables_say(part, published):
    page = (PUBLISHED / "README.md").read_text(encoding="utf-8").splitlines()
    lines = part("conclusion").conclusion(published)
    assert len(lines) > 6 and page[2 : 2 + len(lines)] == lines


def test_the_conclusion_turns_where_the_tables_turn(part, published):
    conclusion = part("conclusion").conclusion
    for limits, answer in (((0.1, 0.2), "yes"), ((-0.2, -0.1), "no"), ((-0.1, 0.1), "it makes no difference in most")):
        turned = published | {
            name: published[name].assign(more_low=limits[0], more_high=limits[1]) for name in ("scenes", "photos")
        }
        words = "\n".join(conclusion(turned))
        assert f"**To order tokens: {answer}.**" in words and f"**To choose tokens: {answer}.**" in words
        assert ("right to order tokens, to choose tokens, to say" in words) == (answer == "yes")
    loud = published | {"alarms": published["alarms"].assign(mean=0.2)}
    assert "**To say whether anything is there: no.**" in "\n".join(conclusion(loud))
    assert conclusion({name: table for name, table in published.items() if name != "photos"}) == []


def test_docs_say_what_the_page_says(part, published):
    found = "\n".join(part("conclusion").conclusion(published))
    docs = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
    docs = docs[docs.index("**What the test is good for**") : docs.index("D alone rewards")]
    numbers = re.findall(r"(?<![\d.])\.\d{3}", docs)
    assert len(numbers) >= 15 and [n for n in numbers if f"0{n}" not in found] == []
    counts = re.findall(r"(?:better|worse) in \d+", " ".join(docs.split()))
    assert len(counts) == 4 and [words for words in counts if words not in found] == []


def test_randomised_q_and_k_are_the_same_entries_elsewhere_with_norms_of_their_own(part):
    torch.manual_seed(0)
    model = sa.create_model("sdt_digits_scenes", depth=1, embed_dim=16, num_heads=2).eval()
    images = torch.rand(20, 1, 32, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = part("controls").randomised(model, images).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    changed = {name for name, value in drawn.items() if not torch.equal(value, before[name])}
    assert {name.split(".attn.")[1].split(".")[0] for name in changed} == {"q_conv", "q_bn", "k_conv", "k_bn"}
    weights = [name for name in changed if name.endswith("_conv.weight")]
    assert len(weights) == 2
    for name in weights:
        assert torch.equal(drawn[name].flatten().sort().values, before[name].flatten().sort().values)
    with pytest.raises(sa.SpikeattnError, match="Linear has no q_conv or k_conv"):
        part("controls").randomised(torch.nn.Linear(2, 2), images)


def test_seed_0_of_the_scenes_is_the_shipped_network(part, tmp_path):
    found = part("on_scenes").trained(0, 40, tmp_path)
    shipped = sa.create_model("sdt_digits_scenes", pretrained=True).state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in found.state_dict().items())
    blank = sa.create_model("sdt_digits_scenes").state_dict()
    assert not torch.equal(blank["head.weight"], shipped["head.weight"])


def test_a_silent_map_is_deleted_in_random_order(part):
    found = part("measures").places(np.zeros((300, 2, 2)), seed=3)
    assert (np.sort(found.reshape(300, 4)) == np.arange(4)).all()
    assert (abs(found.mean(0) - 1.5) < 0.26).all()  # 4 standard errors


def test_gradient_of_the_twin_is_that_of_its_matrix(part, monkeypatch):
    torch.manual_seed(0)
    model = timm.create_model("ann_2_256", img_size=32, num_classes=10, embed_dim=32, num_heads=2).eval()
    images = torch.randn(2, 3, 32, 32)
    found = part("gradients").received(model, images)
    matrices = []

    def explicit(q, k, v):
        matrices.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1))
        matrices[-1].retain_grad()
        return matrices[-1] @ v

    monkeypatch.setattr(F, "scaled_dot_product_attention", explicit)
    model(images.requires_grad_()).max(1).values.sum().backward()
    assert found.shape == (2, 2, 8, 8) and (found >= 0).all() and found.max() > 0
    for layer, matrix in enumerate(matrices):
        expected = (matrix * matrix.grad).clamp(min=0).mean((1, 2)).detach()
        torch.testing.assert_close(found[:, layer].flatten(1), expected, rtol=1e-4, atol=1e-12)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def data(tmp_path):
    """Photos of noise with boxes, four of every class in each split, and pictures of CIFAR-10."""
    rng = np.random.default_rng(0)
    boxes, cifar10 = tmp_path / "boxes", tmp_path / "cifar10"
    boxes.mkdir()
    cifar10.mkdir()
    for split in ("train", "val"):
        rows = [
            {
                "id": f"{split}_{label}_{i}.png",
                "wnid": f"n{label:08d}",
                "image": _png(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)),
                "x0": 8 + label,
                "y0": 8,
                "x1": 47,
                "y1": 47,
                "label": label,
            }
            for label in range(CLASSES)
            for i in range(4)
        ]
        pq.write_table(pa.Table.from_pylist(rows), boxes / f"{split}.parquet")
    for split in ("train", "test"):
        images = [_png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(8)]
        pq.write_table(pa.table({"image": images, "label": list(range(8))}), cifar10 / f"{split}.parquet")
    return boxes, cifar10


def test_boxes_come_back_as_pixels(part, data, tmp_path):
    boxes = part("boxes")
    folder = boxes.unpack(data[0], tmp_path / "unpacked")
    model = sa.create_model("sdt_2_256", img_size=SIDE, num_classes=CLASSES)
    images, labels, masks = boxes.photos(folder, model)
    assert images.shape == (4 * CLASSES, 3, SIDE, SIDE) and sorted(set(labels.tolist())) == list(range(CLASSES))
    for label, mask in zip(labels.tolist(), masks, strict=True):
        assert mask.sum() == (40 - label) * 40 and mask[8, 8 + label] and not mask[8, 7 + label] and not mask[48].any()
    some = boxes.photos(folder, model, number=CLASSES)  # of every class one
    assert some[1].tolist() == list(range(CLASSES)) and torch.equal(some[0], images[::4])
    assert (some[2] == masks[::4]).all() and len(boxes.photos(folder, model, number=10**6)[0]) == 4 * CLASSES
    pq.write_table(pa.table({"id": ["a"]}), data[0] / "train.parquet")
    with pytest.raises(sa.SpikeattnError, match="lacks the columns image, label, wnid, x0, x1, y0, y1"):
        boxes.unpack(data[0], tmp_path / "other")


def test_the_whole_experiment_in_small_goes_on_where_it_was(part, data, tmp_path, monkeypatch, capfd):
    script = importlib.import_module("attention_experiment")
    given = ["--boxes", str(data[0]), "--cifar10", str(data[1]), "--small"]
    given += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    script.main(given)
    out = tmp_path / "out"
    tables = {file.stem: pd.read_csv(file) for file in out.glob("*.csv")}
    assert set(tables) == {"scenes", "alarms", "photos", "accuracy", "curves", "sanity"}
    assert set(tables["accuracy"]["data"]) == {"scenes", "photos", "CIFAR-10"}
    assert set(tables["photos"]["kind"]) == {"Vhat_S", "V_S", "gate", "drive", "received", "rollout"}
    for name in ("scenes", "photos", "curves"):
        assert len(set(tables[name]["weights"])) == 2 and tables[name]["mean"].notna().any(), name
    words = (out / "README.md").read_text(encoding="utf-8")
    assert "Not answered" not in words and "**A trial (--small)" in words and "nan" not in words.split("## ")[1]

    def no_training(*_: object, **__: object) -> None:
        raise AssertionError("trained anew")

    monkeypatch.setattr(subprocess, "run", no_training)
    script.main(given)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(pd.read_csv(out / f"{name}.csv"), table)


def test_parts_that_are_none_or_lack_their_photos_are_refused(part, capsys):
    script = importlib.import_module("attention_experiment")
    for given, message in (
        (["--parts", "ax"], "x is none of a, b, c, d"),
        (["--parts", "ab"], "need --boxes DIR"),
        ([], "need --boxes DIR"),
        (["--parts", ""], "give some of"),
    ):
        with pytest.raises(SystemExit) as ended:
            script.main(given)
        assert ended.value.code == 2 and message in capsys.readouterr().err
