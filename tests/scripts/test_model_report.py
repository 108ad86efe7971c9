"""scripts/model_report.py: a report of a run and an attention folder, without running anything again."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import spikeattn as sa
from spikeattn.cli import main

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "model_report.py"


def test_report_of_the_digits_model(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    digits = ["--model", "sdt_digits", "--pretrained", "--data", "digits", "--threads", "1", "--device", "cpu"]
    assert main(["profile", *digits, "--limit", "24", "--out", "run"]) == 0
    assert main(["attend", *digits, "--limit", "2", "--pictures", "1", "--replicates", "20", "--out", "seen"]) == 0
    torch.set_num_threads(threads)
    log = tmp_path / "log.csv"
    log.write_text("epoch,train_loss\n1,2.3\n")
    words = ["run", "--attention", "seen", "--note", "a note of mine", "--log", log, "--out", "report"]
    monkeypatch.setattr(sys, "argv", ["model_report.py", *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    out = tmp_path / "report"
    text = (out / "report.md").read_text()
    profile = sa.Profile.load("run")
    assert "## Notes" in text and "a note of mine" in text
    assert text.startswith("# sdt_digits on digits\n\n24 images of the test split, T = 4.")
    assert "spikeattn profile --model sdt_digits" in text and "spikeattn attend --model sdt_digits" in text
    assert "q ≤ 0.1), 2 images: how much: " in text and "; where: " in text and "pi0" not in text
    assert (
        "  - where: Significant tokens get a larger share" in text and "at most one in ten is noise (q ≤ 0.1)" in text
    )
    assert str(tmp_path) not in text and "--log log.csv" in text
    assert json.loads((out / "summary.json").read_text())["energy_mj"] == pytest.approx(profile.energy().total.value)
    assert set(pd.read_csv(out / "energy.csv")["convention"]) == {"exact", "sdt-paper"}
    assert len(pd.read_csv(out / "attention.csv")) == 2 and (out / "attention_overview.svg").is_file()
    assert (out / "training.csv").read_text() == log.read_text()
    assert len(pd.read_csv(out / "over_time.csv")) == 4 and len(pd.read_csv(out / "rates.csv")) == 25
    assert sum(file.stat().st_size for file in out.iterdir()) < 1_000_000


@pytest.mark.parametrize(
    ("significant", "strict", "said"),
    [
        ([0.11, 0.06, 0.14], [0.0, 0.0, 0.0], "keeps 0.0%. **So this is chance"),
        ([0.11, 0.06, 0.14], [0.0, 0.0, 0.1], "keeps 3.3%."),
        ([0.4, 0.3, 0.2], [0.0, 0.0, 0.0], "keeps 0.0%."),
        ([0.1, 0.1, 0.1], [None, None, None], "pass p ≤ 0.1."),
    ],
)
def test_attention_at_the_level_of_chance_is_called_so(significant, strict, said):
    chance = runpy.run_path(str(SCRIPT))["_chance"]
    images = pd.DataFrame({"significant": significant, "significant_q": pd.Series(strict, dtype=float)})
    text = chance(images, "p ≤ 0.1")
    assert said in text and text.endswith("." if said.endswith(".") else "**")
    assert chance(images, "lfdr ≤ 0.1") == chance(images, "q ≤ 0.1") == ""
    assert chance(images.assign(significant=0.0), "q ≤ 0.1") == "**No attention here is told apart from noise.**"
