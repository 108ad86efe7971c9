"""Several runs side by side: differences image by image, what cannot be paired, and the page with its files."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import spikeattn as sa
from spikeattn.cli import main
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import get_costs
from spikeattn.reporting.page.several_page import write_several
from spikeattn.reporting.tables.image_tables import image_table
from spikeattn.reporting.tables.several_runs import OTHER_IMAGES, QUANTITIES, run_names, side_by_side
from spikeattn.reporting.tables.sheets import sheet_of
from spikeattn.stats.intervals import mean_intervals
from spikeattn.storage.counts import FILE, Counts

from .conftest import IMAGES, T
from .test_page import Page


def run_of(threshold: float, images: int = IMAGES, time_steps: int = T) -> sa.Profile:
    """A trained network whose neurons fire at other thresholds, on the first digits."""
    model = sa.create_model("sdt_digits", pretrained=True, time_steps=time_steps)
    for module in model.modules():
        if hasattr(module, "v_threshold"):
            module.v_threshold *= threshold
    return sa.profile(model, sa.make_loader(sa.open_dataset("digits", model), batch_size=24, limit=images))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Epochs, fewer images, fewer steps: a folder each."""
    place = tmp_path_factory.mktemp("runs")
    made = {
        "epoch_1": run_of(1.3),
        "epoch_2": run_of(1),
        "fewer": run_of(1, images=9),
        "short": run_of(1, time_steps=2),
    }
    return {name: str(profile.save(place / name)) for name, profile in made.items()}


@pytest.fixture(scope="module")
def runs(folders) -> dict[str, sa.Profile]:
    return {name: sa.Profile.load(folder) for name, folder in folders.items()}


def beside(*profiles: sa.Profile):
    return side_by_side(profiles, get_costs("horowitz-45nm-fp32"), get_convention("exact"))


def reordered(profile: sa.Profile) -> sa.Profile:
    """The same images, the last one first."""
    table = pq.read_table(profile.path / FILE)
    return sa.Profile(profile.ledger, Counts(table.take(np.arange(profile.n_images)[::-1]), profile.ledger))


def test_differences_are_formed_image_by_image(runs):
    first, other = runs["epoch_1"], runs["epoch_2"]
    row = beside(first, other).differences.iloc[0]
    mine, theirs = (image_table(run, run.energy()) for run in (first, other))
    for name in ("energy_mj", "sops"):
        wanted = mean_intervals((theirs[name] - mine[name]).to_numpy(float)[:, None])[0]
        assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(
            (wanted.value, wanted.low, wanted.high)
        )
    right = (theirs["label"] == theirs["prediction"]).mean() - (mine["label"] == mine["prediction"]).mean()
    assert row["accuracy"] == pytest.approx(right) and row["paired"] and row["images"] == IMAGES
    assert row["mean_rate"] == pytest.approx(other.summary()["mean_rate"] - first.summary()["mean_rate"])
    ratio = sa.compare(first, other).total  # another way to the same number
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == pytest.approx((ratio.value, ratio.low, ratio.high))


def test_differences_turn_round_with_the_runs(runs):
    one, other = runs["epoch_1"], runs["epoch_2"]
    there, back = (beside(*pair).differences.iloc[0] for pair in ((one, other), (other, one)))
    for name in QUANTITIES:
        found = (back[name], back[f"{name}_low"], back[f"{name}_high"])
        assert found == pytest.approx((-there[name], -there[f"{name}_high"], -there[f"{name}_low"])), name
    assert (back["ratio_low"], back["ratio_high"]) == pytest.approx((1 / there["ratio_high"], 1 / there["ratio_low"]))
    assert all(
        text[0] in "+\u2212" for text in (sheet_of(pd.DataFrame([row])).rows[0][7].text for row in (there, back))
    )


def test_images_are_found_by_name_whatever_their_order(runs):
    first, other = runs["epoch_1"], runs["epoch_2"]
    plain, turned = (beside(first, each).differences.iloc[0] for each in (other, reordered(other)))
    for name in ("energy_mj", "energy_mj_low", "energy_mj_high", "ratio_low", "accuracy", "mean_rate_high"):
        assert turned[name] == pytest.approx(plain[name])


def test_runs_by_themselves_are_those_of_their_own_reports(runs):
    found = beside(runs["epoch_1"], runs["epoch_2"])
    for (_, row), name in zip(found.runs.iterrows(), ("epoch_1", "epoch_2"), strict=True):
        summary = runs[name].summary()
        assert row["run"] == name and row["weights"] == "trained"
        assert [row["energy_mj"], row["mean_rate"], row["accuracy"]] == pytest.approx(
            [summary["energy_mj"], summary["mean_rate"], summary["accuracy"]]
        )
        assert [row["energy_mj_low"], row["energy_mj_high"]] == pytest.approx(summary["energy_interval_mj"])
    assert found.notes == ()


def test_other_images_are_said_and_have_no_interval(runs):
    found = beside(runs["epoch_1"], runs["fewer"])
    row = found.differences.iloc[0]
    assert not row["paired"] and row["energy_mj_interval"] == OTHER_IMAGES and np.isnan(row["energy_mj_low"])
    assert f"({IMAGES} and 9, 9 of them the same)" in found.notes[0]
    assert OTHER_IMAGES in [cell.text for cell in sheet_of(found.differences).rows[0]]


def test_other_time_steps_are_said(runs):
    (said,) = beside(runs["epoch_1"], runs["short"]).notes
    assert said.code == "time-steps" and "short T = 2" in said


def test_what_cannot_be_set_side_by_side_is_one_clear_error(runs, folders):
    first = runs["epoch_1"]
    with pytest.raises(sa.SpikeattnError, match="given 2 times; give every run once"):
        beside(first, sa.Profile.load(folders["epoch_1"]))
    with pytest.raises(sa.SpikeattnError, match="give two or more"):
        beside(first)
    settings = first.provenance["settings"] | {"data": {"name": "cifar10", "split": "test"}}
    ledger = dataclasses.replace(first.ledger, provenance=first.provenance | {"settings": settings})
    elsewhere = sa.Profile(ledger, first.counts)
    with pytest.raises(sa.SpikeattnError, match=r"of cifar10 \(test\): between them data and network differ at once"):
        beside(first, elsewhere)


def test_names_tell_runs_apart(runs):
    first = runs["epoch_1"]
    assert run_names([first, runs["epoch_2"]]) == ["epoch_1", "epoch_2"]
    assert run_names([sa.Profile(first.ledger, first.counts)] * 2) == ["run 1", "run 2"]


def test_the_page_holds_every_run_and_downloads_equal_the_files(runs, profile, tmp_path):
    report = write_several([*runs.values(), profile], tmp_path, command="spikeattn report a b")
    html = report.page.read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == [] and len(html.encode()) < 500_000
    for text in (*runs, "UNTRAINED", OTHER_IMAGES, "spikeattn report a b", "time-steps"):
        assert text in page.words, text
    downloads = json.loads(re.search(r'id="downloads">(.*?)</script>', html, re.DOTALL).group(1))
    for name in ("runs.csv", "differences.csv", "parts.csv"):
        assert downloads[name] == report.files[name].read_text()
    parts = pd.read_csv(report.files["parts.csv"])
    total = parts[parts["part"] == "total"].set_index("run")["energy_mj"]
    assert total["short"] == pytest.approx(runs["short"].summary()["energy_mj"])
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    targets = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert len(ids) == len(set(ids)) and targets <= set(ids)


def test_from_python_a_list_is_that_page(runs, tmp_path):
    chosen = [runs["epoch_1"], runs["epoch_2"]]
    written = sa.report(chosen, out=tmp_path / "list")
    assert written.summary == write_several(chosen, tmp_path / "several").summary
    with pytest.raises(sa.SpikeattnError, match="attention and 2 profiles: it is about one"):
        sa.report(chosen, tmp_path, out=tmp_path / "none")
    with pytest.raises(sa.SpikeattnError, match="give two or more"):
        sa.report(chosen[:1], out=tmp_path / "none")
    with pytest.raises(sa.SpikeattnError, match="profile is 'runs/a'; give a profile"):
        sa.report("runs/a", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_command_takes_several_runs(folders, tmp_path, capsys):
    chosen = [folders["epoch_1"], folders["epoch_2"]]
    assert main(["report", *chosen, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "epoch_2 spends " in printed and (tmp_path / "out" / "report.html").is_file()
    assert main(["report", *chosen, "--measure-twin"]) == 2
    assert "--measure-twin and 2 runs" in capsys.readouterr().err
    assert main(["report", chosen[0], chosen[0]]) == 1
    assert "given 2 times" in capsys.readouterr().err
