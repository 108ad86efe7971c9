"""`spikeattn attend`: the numbers and the pictures that it writes, and what it prints."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import spikeattn as sa
from spikeattn.cli import app

from .attending import QUICK, Finished, files, finish


@pytest.fixture(scope="module")
def digits(run, tmp_path_factory) -> Finished:
    """Three digits with all there is: a picture, the energy of a run, planted noise."""
    options = ("--limit", 3, "--pictures", 1, "--seed", 3, "--run", run, "--also-null", "pixel", "--evaluate")
    return finish(tmp_path_factory.mktemp("digits"), *QUICK, *options)


@pytest.fixture(scope="module")
def library() -> tuple[sa.Attention, torch.nn.Module, torch.Tensor]:
    """The same from the library, with the model and its images."""
    model = sa.create_model("sdt_digits", pretrained=True)
    data = sa.open_dataset("digits", model)
    images = torch.stack([data[i][0] for i in range(3)])
    return sa.attend(model, images, "normal", 12, seed=3, layer="all"), model, images


def test_pictures_and_tables_are_all_there(digits) -> None:
    assert digits.code == 0, digits.err
    assert digits.text.splitlines()[0] == (
        "sdt_digits: Vhat_S of block 2 of 2; null: normal, B = 12; standardised p, 3 images"
    )
    assert "UNTRAINED" not in digits.text
    pictures = {f"{folder}digits_11.{suffix}" for folder in ("panels/", "layers/") for suffix in ("svg", "pdf", "png")}
    overview = {f"overview.{suffix}" for suffix in ("svg", "pdf", "png")}
    pictures |= {"gallery/digits_11.png"}
    tables = {"attention.npz", "attention.csv", "layers.csv", "summary.json", "energy.csv", "evaluation.csv"}
    assert files(digits.out) == pictures | overview | tables == set(digits.summary["files"])
    for suffix, start in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        assert (digits.out / f"overview.{suffix}").read_bytes().startswith(start)
    assert digits.summary["command"].startswith("spikeattn attend --model sdt_digits --pretrained")
    assert digits.summary["networks"][0]["model"]["sha256"]


def test_numbers_are_those_of_the_library(digits, library) -> None:
    expected, model, images = library
    arrays = digits.arrays
    assert np.allclose(arrays["maps"], expected.maps)
    for name in ("z", "p", "q", "lfdr"):
        assert np.allclose(arrays[name], getattr(expected, name), atol=1e-9), name
        assert np.allclose(arrays[f"where_{name}"], getattr(expected.answer("where"), name), atol=1e-9), name
    for method in ("p", "q", "lfdr", "pi0", "soft"):
        assert np.allclose(arrays[f"regularized_{method}"], expected.regularized(method))
    assert np.allclose(arrays["null_mean"], expected.null_maps.mean(1))
    steps = sa.attention_map(model, images[:1], layer="all", steps="each").values[0]
    assert np.allclose(arrays["grid"][0, :, :-1], steps)
    assert arrays["grid_columns"].tolist() == ["t = 1", "t = 2", "t = 3", "t = 4", "mean"]
    table = pd.read_csv(digits.out / "attention.csv")
    row = table[(table["image"] == arrays["images"][1]) & (table["row"] == 3) & (table["column"] == 5)]
    assert row["score"].tolist() == pytest.approx(expected.maps[1, :, 3, 5].tolist())
    assert row["p"].tolist() == pytest.approx(expected.p[1, :, 3, 5].tolist())
    assert row["where_q"].tolist() == pytest.approx(expected.where.q[1, :, 3, 5].tolist())
    for key, answer in (("significant", expected), ("significant_where", expected.where)):
        for layer in (0, 1):
            called = (answer.q[0, layer] <= 0.1) & (answer.z[0, layer] >= 0)
            assert digits.summary["images"][layer][key] == pytest.approx(called.mean())


def test_both_answers_stand_in_the_text_and_the_rule_stands_there_once(digits) -> None:
    lines = digits.text.splitlines()
    assert lines[2].split() == ["image", "block", "tokens", "how", "much", "where", "largest", "z"]
    table, energy, _ = digits.text.partition("energy ")
    assert table.count("q ≤ 0.1") == 1 and energy and "q <= 0.1" not in digits.text
    network = digits.summary["networks"][0]
    assert list(network["questions"]) == ["how much", "where"]
    for sentence in (*network["questions"].values(), network["promise"]):
        assert sentence in digits.text


def test_json_is_all_there_is_and_a_result_is_never_overwritten(spikeattn, tmp_path) -> None:
    done = spikeattn(*QUICK, "--pictures", 0, "--json", "--layer", "all", "--method", "soft")
    record = json.loads(done.out)
    assert record["result"] == "out"
    assert [row["layer"] for row in record["images"]] == [0, 1, 0, 1]
    before = files(tmp_path / "out")
    assert before == {"attention.npz", "attention.csv", "layers.csv", "summary.json"}
    again = spikeattn(*QUICK, "--pictures", 0)
    assert (again.code, again.error) == (
        app.FAILED,
        "error: --out out: holds a finished result; give another folder, or delete it first",
    )
    assert files(tmp_path / "out") == before


def test_neither_limit_nor_other_layers_change_an_image(digits, spikeattn, tmp_path) -> None:
    done = spikeattn(*QUICK, "--limit", 1, "--pictures", 0, "--seed", 3)
    assert done.code == 0, done.err
    one = np.load(tmp_path / "out/attention.npz")
    assert one["z"].shape == (1, 1, 8, 8)  # the last layer alone
    for name in ("maps", "z", "p"):
        assert np.array_equal(one[name][0, 0], digits.arrays[name][0, -1]), name


def test_noise_squares_are_measured(digits, library) -> None:
    lines = digits.text.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("squares of noise"))
    assert lines[head + 2].split()[:2] == ["method", "D"]
    assert {line.split()[0] for line in lines[head + 3 : head + 7]} == {"q", "p", "lfdr", "pi0"}
    _, model, images = library
    expected = sa.evaluate_regularization(model, images, "normal", 12, seed=3)
    for row in digits.summary["evaluation"]:
        assert row["D"] == pytest.approx(expected.D[row["method"]])
    rows = pd.read_csv(digits.out / "evaluation.csv")
    assert np.allclose(rows["percentile_before"], expected.frame["percentile_before"])
    assert set(rows["image"]) <= set(digits.arrays["images"]) and rows["image"].nunique() > 1


def test_energy_on_noise_joins_a_run(digits) -> None:
    said = next(i for i, line in enumerate(digits.text.splitlines()) if line.startswith("energy "))
    lines, grid = digits.text.splitlines()[said:], digits.summary["energy"]["specifications"]
    low, high = (100 * digits.summary["energy"]["range"][end] for end in ("low", "high"))
    assert f"between {low:.1f} % and {high:.1f} % of the blocks' energy" in lines[0]
    assert lines[0].endswith("(28 specifications; nulls: normal, pixel);")
    assert lines[1].strip().startswith("q ≤ 0.1, how much, null normal: ")
    assert "of it goes to tokens that are no more than noise" in lines[1]
    table = lines[5:20]
    assert table[0].split() == ["null", "significant", "how", "much", "where"]
    assert [line.split()[0] for line in table[1:]] == ["normal"] * 7 + ["pixel"] * 7
    assert [row["rule"] for row in grid if row["chosen"]] == ["q <= 0.1"]
    assert {row["replicates"] for row in grid} == {12}
    arrays, energy = digits.arrays, pd.read_csv(digits.out / "energy.csv")
    assert arrays["energy_mj"].shape == arrays["spurious_mj"].shape == (3, 2, 8, 8)
    assert arrays["energy_mj"].sum() == pytest.approx(energy["energy_mj"].sum())
    assert arrays["spurious_mj"].sum() == pytest.approx(energy["spurious_mj"].sum())
    record = digits.summary["energy"]
    assert record["share_of_blocks"]["value"] == pytest.approx(arrays["spurious_mj"].sum() / arrays["energy_mj"].sum())
    assert arrays["spurious_mj"] == pytest.approx(~arrays["significant"] * arrays["energy_mj"])
    assert "nJ per token" in (digits.out / "panels/digits_11.svg").read_text()


def test_other_nulls_need_a_run_and_are_others(spikeattn, run) -> None:
    done = spikeattn(*QUICK, "--also-null", "pixel")
    assert done.code == 2 and "--also-null adds a null" in done.err and "needs --run RUN" in done.err
    twice = spikeattn(*QUICK, "--run", run, "--also-null", "pixel", "--also-null", "pixel")
    assert twice.code == app.FAILED and "the null pixel is asked for twice" in twice.error
    unheard = spikeattn(*QUICK, "--run", run, "--also-null", "pixl")
    assert unheard.code == app.FAILED and "pixel" in unheard.error


def test_help_shows_examples_and_what_p_is_not(spikeattn) -> None:
    done = spikeattn("attend", "--help")
    assert done.code == 0
    assert "q controls the false discovery rate, p does not" in " ".join(done.out.replace("│", " ").split())
    assert "spikeattn attend --model sdt_digits --pretrained --data digits" in done.out


def test_an_estimator_without_q_leaves_its_column_empty(spikeattn) -> None:
    done = spikeattn(*QUICK, "--pictures", 0, "--estimator", "per-token", "--method", "p")
    assert done.code == 0, done.err
    row = next(line for line in done.out.splitlines() if line.startswith("mean"))
    assert row.split()[-2] == "–"


def test_another_rule_has_the_share_with_q_beside_it(spikeattn) -> None:
    done = spikeattn(*QUICK, "--pictures", 0, "--method", "p")
    assert done.code == 0, done.err
    header = next(line for line in done.out.splitlines() if line.startswith("image"))
    assert header.split()[3:9] == ["how", "much", "where", "q", "<=", "0.1"] and "p ≤ 0.1" in done.out
