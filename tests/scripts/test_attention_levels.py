"""scripts/attention_levels.py: what it measures agrees with `assess`, and what is written is not measured again."""

from __future__ import annotations

import importlib
import runpy
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from spikeattn.attention.significance import assess
from tests.conftest import ROOT

SMALL = ["--models", "sdt_digits", "--nulls", "pixel", "--replicates", "12", "20", "--images", "2"]
FEW = ["--real-images", "3", "--signals", "4"]


@pytest.fixture
def levels(monkeypatch):
    """A module of the script's by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return lambda name: importlib.import_module(f"levels.{name}")


@pytest.fixture
def run(levels, monkeypatch, tmp_path):
    """The script with some options; its table and its page."""

    def call(*options: str) -> tuple[pd.DataFrame, str]:
        threads = torch.get_num_threads()
        monkeypatch.setattr(sys, "argv", ["attention_levels.py", *options, "--out", str(tmp_path / "out")])
        try:
            runpy.run_path(str(ROOT / "scripts" / "attention_levels.py"), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
        return pd.read_csv(tmp_path / "out" / "levels.csv"), (tmp_path / "out" / "levels.md").read_text()

    return call


def spikes(seed: int, rate: float, shape: tuple[int, int] = (31, 16)) -> np.ndarray:
    """Rates of 20 neurons and time steps; one place is silent, and one has a single spike in all maps."""
    maps = np.random.default_rng(seed).binomial(20, rate, shape) / 20
    maps[:, 0], maps[:, 1], maps[4, 1] = 0, 0, 0.05
    return maps


@pytest.mark.filterwarnings("ignore::spikeattn.attention.significance.AttentionWarning")  # a constant map
@pytest.mark.parametrize("rate", [0.002, 0.02, 0.4])
@pytest.mark.parametrize("test", ["how much", "where"])
def test_all_maps_together_are_called_as_one_by_one(levels, rate, test):
    maps = spikes(7, rate)
    maps[9] = 0.1  # a constant map
    together = levels("exchangeable").turns(maps, 0.05, test, len(maps))
    for i, *flags in zip(range(len(maps)), *together, strict=True):
        one = assess(maps[i], np.delete(maps, i, 0), "standardised", unit=0.05, relative=test == "where")
        for mine, theirs in zip(flags, (one.p, one.q, one.lfdr), strict=True):
            np.testing.assert_array_equal(mine, theirs <= 0.1)


@pytest.mark.parametrize("test", ["how much", "where", "plus-one"])
def test_q_is_that_of_assess(levels, test):
    questions, maps = levels("questions"), spikes(2, 0.2)
    x = questions.log_scores(maps, 0.05, test)
    _, q = questions.q_values(x[0], x[1:], test)
    estimator = "plus-one" if test == "plus-one" else "standardised"
    np.testing.assert_allclose(q, assess(maps[0], maps[1:], estimator, unit=0.05, relative=test == "where").q)


def test_signals_are_whole_spikes_where_there_can_be_one(levels):
    signals, maps = levels("signals"), spikes(5, 0.3)
    maps[0, 3] = 1.0  # every neuron fires already
    strong, able = signals.shifted(maps[0], maps[1:], 0.05, "how much")
    assert not able[[0, 3]].any() and able[4:].any()
    np.testing.assert_allclose(strong[able] * 20, np.round(strong[able] * 20), atol=1e-9)
    shift = np.log(strong + 0.025) - np.log(maps[0] + 0.025)
    deviation = np.log(maps[1:] + 0.025).std(axis=0)
    assert (shift[able] >= 4 * deviation[able] - 1e-9).all() and strong[able].max() <= 1
    one = signals.recover(maps[0], maps[1:], 0.05, "how much", np.random.default_rng(0))
    assert one.signals == 2 and 0 <= one.power <= 1 and 0 <= one.false <= 1
    silent = signals.recover(maps[0] * 0, maps[1:] * 0, 0.05, "how much", np.random.default_rng(0))
    assert silent.signals == 0 and np.isnan(silent.power) and silent.false == 0


def test_reach_is_the_level_of_an_exact_test(levels):
    maps = np.stack([np.arange(50), *(np.arange(50) < spikes for spikes in (2, 1, 10, 0))], axis=1)
    np.testing.assert_allclose(levels("exchangeable").reach(maps), [0.1, 0.04, 0, 0, 0])


def test_a_standard_error_is_of_images(levels):
    mean = levels("cells").mean("x", [[1, 1, 1], [3, 3, 3]])
    assert mean == {"x": 2, "x_se": pytest.approx(1)}
    assert all(np.isnan(value) for value in levels("cells").mean("x", [[], []]).values())


def test_a_small_run_and_nothing_twice(run, levels, monkeypatch):
    table, text = run(*SMALL, *FEW)
    assert len(table) == 2 * 2 * 3 and set(table["test"]) == {"how much", "where", "plus-one"}
    assert table[table["test"] != "plus-one"].groupby("replicates")["maps"].unique().map(list).to_dict() == {
        12: [26],
        20: [42],
    }
    for column in ("any_q", "level", "highest", "fdr", "power", "clear", "real_called"):
        assert table[column].between(0, 1).all(), column
    assert text.count("| sdt_digits ") == 2 and "P(any q <= .1)" in text and "power" in text

    def never(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(levels("draws"), "draw", never)
    again, same = run(*SMALL, *FEW)
    pd.testing.assert_frame_equal(table, again)
    assert same == text
    with pytest.raises(AssertionError, match="drawn again"):
        run(*SMALL, "--real-images", "3", "--signals", "6")
    monkeypatch.undo()


def test_a_name_that_is_none_and_data_that_are_not_there(run):
    with pytest.raises(SystemExit, match="error: unknown model 'sdt_digit'.*did you mean 'sdt_digits'"):
        run("--models", "sdt_digit")
    with pytest.raises(SystemExit, match="sdt_2_256 needs images.*--cifar10 DIR"):
        run("--models", "sdt_2_256")
