"""`spikeattn report`: the embedded default twice into one folder, and the report of a run."""

from __future__ import annotations

import json
from pathlib import Path

import spikeattn as sa
from spikeattn.cli import app


def test_the_embedded_default_twice_into_one_folder(spikeattn, tmp_path) -> None:
    first = spikeattn("report")
    assert first.code == 0
    folder = tmp_path / "spikeattn-report"
    names = ["accuracy", "mean rate", "SOPs", "energy", "ANN : SNN", "report", "tables", "figures", "run", "attention"]
    assert [line.split("  ")[0] for line in first.out.splitlines()] == names
    assert "Wilson interval, 360 images" in first.out
    wanted = {"rates.csv", "operations.csv", "energy.csv", "table.tex", "summary.json", "report.html", "figures", "run"}
    wanted |= {"attention", "attention_images.csv", "comparison.csv", "waterfall.csv", "sweep.csv"}
    assert wanted <= {p.name for p in folder.iterdir()}
    profile = sa.Profile.load(folder / "run")
    assert (profile.n_images, profile.untrained) == (360, False)
    assert profile.summary()["accuracy"] >= 0.96

    page = (folder / "report.html").read_text()
    assert len(page.encode()) < 3_000_000
    assert page.count("data:image/png;base64,") == 6 == len(list((folder / "attention" / "panels").iterdir()))
    energy = json.loads((folder / "attention" / "summary.json").read_text())["energy"]
    assert 0 < energy["share_of_blocks"]["value"] < 1 and "of the blocks' energy goes to tokens" in page
    assert "<code>spikeattn report</code>" in page

    (folder / "mine.txt").write_text("stays")
    rates = (folder / "rates.csv").read_bytes()
    second = spikeattn("report", "--json")
    record = json.loads(second.out)
    assert record["run"] == "spikeattn-report/run"
    assert record["files"]["report.html"] == "spikeattn-report/report.html"
    assert (folder / "rates.csv").read_bytes() == rates
    assert (folder / "mine.txt").read_text() == "stays"
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_the_report_of_a_run(spikeattn, run, tmp_path) -> None:
    done = spikeattn("report", run, "--out", "there", "--convention", "sdt-paper", "--costs", "horowitz-45nm-fp16")
    assert done.code == 0
    assert "sdt-paper, horowitz-45nm-fp16" in done.out
    assert (tmp_path / "there" / "report.html").is_file()
    assert not (tmp_path / "there" / "run").exists()


def test_the_report_of_a_run_and_its_attention(spikeattn, run, tmp_path) -> None:
    options = ("--model", "sdt_digits", "--pretrained", "--data", "digits", "--limit", 2, "--replicates", 10)
    attended = spikeattn("attend", *options, "--pictures", 1, "--threads", 1, "--device", "cpu", "--out", "seen")
    assert attended.code == 0
    done = spikeattn("report", run, "--attention", "seen", "--out", "there")
    assert done.code == 0
    page = (tmp_path / "there" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1 and "1 of 2 images are shown" in page
    assert f"spikeattn report {run} --attention seen --out there" in page
    assert "give <code>spikeattn attend</code> this run with <code>--run</code>" in page


def test_a_folder_that_is_no_run_is_not_replaced(spikeattn, tmp_path, monkeypatch) -> None:
    (tmp_path / "spikeattn-report" / "run").mkdir(parents=True)
    (tmp_path / "spikeattn-report" / "run" / "thesis.tex").write_text("precious")
    done = spikeattn("report")
    assert done.code == app.FAILED
    assert "spikeattn-report/run: not replaced, for it holds other files too (thesis.tex)" in done.error
    assert (tmp_path / "spikeattn-report" / "run" / "thesis.tex").read_text() == "precious"


def test_wrong_use_says_what_to_do(spikeattn, run, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for arguments in ((), (run,)):
        done = spikeattn("report", *arguments, "--out", "file")
        assert done.code == app.FAILED
        assert "--out file: this is a file; give a folder for the report" in done.error
    assert "--attention goes with a RUN" in spikeattn("report", "--attention", "seen").error
    assert "summary.json cannot be read" in spikeattn("report", run, "--attention", "seen").error
    assert "nowhere: no such folder" in spikeattn("report", "nowhere").error
    assert "unknown convention 'paper'" in spikeattn("report", run, "--convention", "paper").error


def test_a_file_in_place_of_the_folder_is_said_at_once(spikeattn, run, monkeypatch) -> None:
    monkeypatch.setattr("spikeattn.report.write_report", None)
    Path("file").write_text("")
    done = spikeattn("report", run, "--out", "file")
    assert (done.code, done.error) == (app.FAILED, "error: --out file: this is a file; give a folder for the report")


def test_a_stopped_demo_leaves_nothing(spikeattn, tmp_path, monkeypatch) -> None:
    def stops(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("spikeattn.runs.profile", stops)
    done = spikeattn("report", "--out", "new")
    assert done.code == app.INTERRUPTED
    assert done.err.endswith(
        "stopped; new is as it was before, run the command again for the whole report\ninterrupted\n"
    )
    assert not any(tmp_path.iterdir())
