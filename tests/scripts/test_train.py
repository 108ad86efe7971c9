"""scripts/train.py: a run that is interrupted and resumed learns the same; logs, card and refusals."""

from __future__ import annotations

import json
import runpy
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import spikeattn as sa

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SMALL = ["--data", "digits-events", "--limit", 48, "--batch-size", 16, "--mixup", 0.5, "--mixup-prob", 0.5]
TINY = ["embed_dim=16", "depth=1", "num_heads=2", "time_steps=2"]


@pytest.fixture(autouse=True)
def scripts_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def train(monkeypatch, tmp_path):
    def call(name: str, *arguments: object, model: str = "sdt_digits_events") -> Path:
        out = tmp_path / f"{name}.safetensors"
        tiny = [word for pair in TINY for word in ("--model-arg", pair)]
        words = ["--model", model, *SMALL, *tiny, "--device", "cpu", "--out", out, *arguments]
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words)])
        runpy.run_path(str(SCRIPTS / "train.py"), run_name="__main__")
        return out

    return call


def test_interrupted_and_resumed_is_the_same_as_never_stopped(train, tmp_path):
    whole = train("whole", "--epochs", 3, "--warmup-epochs", 1, "--ema", 0.9)
    train("half", "--epochs", 3, "--warmup-epochs", 1, "--ema", 0.9, "--stop-after", 1e-6)
    assert not (tmp_path / "half.safetensors").exists()
    rest = train("half", "--epochs", 3, "--warmup-epochs", 1, "--ema", 0.9, "--resume", tmp_path / "half.state.pt")
    first, second = load_file(whole), load_file(rest)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    logs = [pd.read_csv(tmp_path / f"{name}.csv").drop(columns="seconds") for name in ("whole", "half")]
    pd.testing.assert_frame_equal(*logs)
    assert logs[0]["epoch"].tolist() == [1, 2, 3] and logs[0]["train_loss"].is_unique
    assert logs[0]["patch_embed.proj_lif"].between(0, 1).all() and "head_lif" in logs[0]


def test_other_settings_do_not_resume(train, tmp_path):
    train("one", "--epochs", 2, "--stop-after", 1e-6)
    with pytest.raises(SystemExit, match=r"error: .*lr 0.003 there, 0.1 here"):
        train("one", "--epochs", 2, "--lr", 0.1, "--resume", tmp_path / "one.state.pt")
    with pytest.raises(SystemExit, match="not a checkpoint of this script"):
        train("one", "--epochs", 2, "--resume", tmp_path / "nowhere.pt")


def test_card_tells_what_the_file_does(train):
    out = train("half", "--epochs", 1, "--half")
    assert {tensor.dtype for tensor in load_file(out).values() if tensor.is_floating_point()} == {torch.float16}
    arguments = dict(embed_dim=16, depth=1, num_heads=2, time_steps=2)
    model = sa.create_model("sdt_digits_events", checkpoint=out, **arguments)
    card = model.provenance["card"]
    assert card["data"].startswith("digits-events: SIMULATED") and card["epochs"] == "1" and card["seed"] == "0"
    profile = sa.profile(model, sa.make_loader(sa.open_dataset("digits-events", model), 100, sample=48))
    rows = profile.counts.rows
    assert int(card["test_correct"]) == (rows["pred_2"] == rows["label"]).sum() and card["test_images"] == "48"
    rates = profile.rates().query("t.astype('str') == 'mean'").set_index("tensor")["nonzero_rate"]
    stated = json.loads(card["mean_firing_rates"])
    assert stated["head_lif"] == pytest.approx(rates["head_lif"], abs=1e-5) and len(stated) > 10


def test_time_budget_sets_the_epochs(train, tmp_path):
    train("timed", "--minutes", 1e-6)
    log = pd.read_csv(tmp_path / "timed.csv")
    assert len(log) == 2  # the second epoch is the first that is measured without warming up
    with pytest.raises(SystemExit):
        train("timed", "--minutes", 1, "--epochs", 2)


def test_a_sample_depends_on_seed_epoch_and_index_alone():
    from training.data import Order, Training

    options = {"limit": 32, "seed": 3, "shift": 2, "hflip": 0.5, "auto_augment": None, "reprob": 0.0}
    training = Training(sa.open_dataset("digits-events", split="train"), Namespace(**options))
    torch.manual_seed(11)
    first = training[1, 5][0]
    torch.manual_seed(12)
    assert torch.equal(first, training[1, 5][0])
    assert any(not torch.equal(training[1, i][0], training[2, i][0]) for i in range(8))
    order = Order(32, 10, seed=0)
    batches = list(order)
    assert [len(batch) for batch in batches] == [10, 10, 10] == [len(batch) for batch in order]
    assert batches == list(order) and len({i for batch in batches for _, i in batch}) == 30
    order.epoch = 1
    assert [i for _, i in next(iter(order))] != [i for _, i in batches[0]]


def test_pictures_go_through_timms_augmentation(tmp_path):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from training.data import Training

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    pq.write_table(pa.table({"image": [buffer.getvalue()], "label": [4]}), tmp_path / "train.parquet")
    dataset = sa.open_dataset(f"cifar10:{tmp_path}", sa.create_model("sdt_2_256"), split="train")
    plain = {"limit": None, "seed": 0, "shift": 0, "hflip": 0.0, "auto_augment": None, "reprob": 0.0}
    same, label = Training(dataset, Namespace(**plain))[0, 0]
    assert torch.equal(same, dataset[0][0]) and label == 4
    mirrored, _ = Training(dataset, Namespace(**plain | {"hflip": 1.0}))[0, 0]
    assert torch.equal(mirrored, same.flip(-1))
    changed = Training(dataset, Namespace(**plain | {"auto_augment": "rand-m9-n1-mstd0.4-inc1", "reprob": 1.0}))
    assert len({changed[epoch, 0][0].sum().item() for epoch in range(4)}) == 4
