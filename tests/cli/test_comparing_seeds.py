"""`spikeattn compare A1 A2 ... --against B1 B2 ...`: which words are runs, what is printed and written."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

import spikeattn as sa
from spikeattn.cli.option_types import WrongCommandLine
from spikeattn.cli.several_words import lists_of_numbers, runs_against

TAKES = {"--costs": True, "--against": True, "-v": False, "--json": False}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> Path:
    """Runs a1, a2, a3 of T = 2 and b1, b2 of T = 1."""
    folder = tmp_path_factory.mktemp("seeds")
    for name, time_steps in (("a1", 2), ("a2", 2), ("a3", 2), ("b1", 1), ("b2", 1)):
        model = sa.load_model("sdt_digits", pretrained=True, time_steps=time_steps)
        noise = torch.Generator().manual_seed(sum(map(ord, name)))
        with torch.no_grad():
            for weights in model.parameters():
                weights.mul_(1 + 0.02 * torch.randn(weights.shape, generator=noise))
        sa.profile(model, sa.make_loader(sa.open_dataset("digits", model), 12, limit=12), folder / name)
    return folder


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("a1 a2 --against b1 b2", "a1 a2 --against b1 --against b2"),
        ("a1 --against b1 b2 --costs x", "a1 --against b1 --against b2 --costs x"),
        ("--costs x a1 -v --against b1 b2 --json", "--costs x a1 -v --against b1 --against b2 --json"),
        ("a1 --against b1 --against b2", "a1 --against b1 --against b2"),
        ("--against b1 a1", "--against b1 a1"),
        ("--against=b1 a1 a2", "--against=b1 a1 a2"),
        ("--costs x --against b1 --json a1 a2", "--costs x --against b1 --json a1 a2"),
        ("a1 --against", "a1 --against"),
    ],
)
def test_whose_words_are_whose(words, read):
    assert runs_against(words.split(), TAKES) == read.split()


@pytest.mark.parametrize(
    "words", ["--against b1 b2 a1", "--against b1 b2 --costs x a1", "--costs x --against b1 b2 b3"]
)
def test_words_of_which_nobody_can_tell_are_an_error(words):
    with pytest.raises(WrongCommandLine, match="Put the runs first: spikeattn compare RUN"):
        runs_against(words.split(), TAKES)


def test_numbers_behind_an_option():
    words = ["--time-steps", "1", "2,4", "--threshold-scale", "0.8", "1", "run", "--costs", "1", "2"]
    assert lists_of_numbers(words, {}) == ["--time-steps", "1,2,4", "--threshold-scale", "0.8,1", "run", *words[-3:]]
    assert lists_of_numbers(["--time-steps", "run"], {}) == ["--time-steps", "run"]
    again = ["run", "--time-steps", "2", "--figure", "f.svg", "--time-steps=4", "6"]
    assert lists_of_numbers(again, {}) == ["run", "--time-steps", "2,4,6", "--figure", "f.svg"]
    assert lists_of_numbers(["--time-steps=2", "run"], {}) == ["--time-steps", "2", "run"]


def test_both_intervals_side_by_side(spikeattn, seeds):
    sides = [seeds / "a1", seeds / "a2", seeds / "a3", "--against", seeds / "b1", seeds / "b2"]
    done = spikeattn("compare", *sides)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "sdt_digits, T=2 beside sdt_digits, T=1: training seeds, sdt_digits, T=2, 12 images"
    titles = next(line for line in lines if line.startswith("Quantity"))
    assert titles.split() == "Quantity Network Costs Seeds Mean SD Range Over seeds Over images".split()
    ratio = next(line for line in lines if line.startswith("ratio"))
    assert "3 and 2" in ratio and ratio.count("[") == 2
    assert sum(line.startswith(str(seeds)) for line in lines) == 5, "every run, with its own interval"
    assert "two-seeds: " in done.out and "wide" in done.out and "unpaired: " in done.out
    record = json.loads(spikeattn("compare", *sides, "--json").out)
    assert record["provenance"]["against_runs"] == [str(seeds / "b1"), str(seeds / "b2")]
    assert {row["quantity"] for row in record["table"]} == {"energy", "ratio", "SOPs", "rate", "accuracy"}


def test_files(spikeattn, seeds, tmp_path):
    sides = [seeds / "a1", seeds / "a2", "--costs", "horowitz-45nm-fp32"]
    for suffix in ("csv", "parquet", "json", "tex", "md"):
        assert spikeattn("compare", *sides, "--out", tmp_path / f"seeds.{suffix}").code == 0
    rows = pd.read_csv(tmp_path / "seeds.csv")
    assert rows["table"].value_counts().to_dict() == {"runs": 14, "seeds": 7}, "of the quantised ANN as well"
    latex, markdown = (tmp_path / "seeds.tex").read_text(), (tmp_path / "seeds.md").read_text()
    assert r"\toprule" in latex and "Over seeds" in latex and "accuracy (\\%)" in latex
    assert " Over seeds |" in markdown and str(seeds) not in markdown, "the means alone"


def test_errors(spikeattn, seeds, tmp_path):
    a1, a2, b1 = (seeds / name for name in ("a1", "a2", "b1"))
    for words, told in (
        ((a1, b1), "are runs of different networks: T = 2 and T = 1"),
        ((a1, a1), "are runs of the same weights: one training seed twice"),
        ((a1, a2, "--against", b1, "vit_digits"), "vit_digits is no folder; give the folders of runs, or one ANN"),
        ((a1, a2, "--measure-twin"), "--measure-twin and 2 runs: it is the twin of one network"),
        ((a1, a2, "--against", b1, "--gamma", "0.5"), "gamma is about a quantised ANN"),
        ((a1, tmp_path / "none"), "no such folder"),
    ):
        done = spikeattn("compare", *words)
        assert done.code in (1, 2) and told in done.error and not done.out
