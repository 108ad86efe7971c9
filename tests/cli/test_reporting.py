"""`spikeattn report`: the embedded default twice into one folder, and the report of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

import spikeattn as sa
from spikeattn.cli import app
from tests.structure import odd_networks


def test_the_embedded_default_twice_into_one_folder(spikeattn, tmp_path) -> None:
    first = spikeattn("report")
    assert first.code == 0
    folder = tmp_path / "spikeattn-report"
    names = ["accuracy", "mean rate", "SOPs", "energy", "ANN : SNN"]
    names += ["arithmetic", "memory", "report", "tables", "figures", "run", "attention"]
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
    assert page.count("data:image/png;base64,") == 6 * 6
    assert len(list((folder / "attention" / "gallery").iterdir())) == 6
    energy = json.loads((folder / "attention" / "summary.json").read_text())["energy"]
    assert 0 < energy["share_of_blocks"]["value"] < 1 and "of the blocks' energy goes to tokens" in page
    assert page.count('<ul class="gallery-key"') == 1 and "on average at most one in ten is noise" in page
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
    assert page.count("data:image/png;base64,") == 4 and "1 of 2 images are shown" in page
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
    monkeypatch.setattr("spikeattn.reporting.write_report", None)
    Path("file").write_text("")
    done = spikeattn("report", run, "--out", "file")
    assert (done.code, done.error) == (app.FAILED, "error: --out file: this is a file; give a folder for the report")


def test_a_stopped_demo_leaves_nothing(spikeattn, tmp_path, monkeypatch) -> None:
    def stops(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("spikeattn.runs.run.profile", stops)
    done = spikeattn("report", "--out", "new")
    assert done.code == app.INTERRUPTED
    assert done.err.endswith(
        "stopped; new is as it was before, run the command again for the whole report\ninterrupted\n"
    )
    assert not any(tmp_path.iterdir())


def test_any_network_in_one_command(spikeattn, tmp_path) -> None:
    """The run, then the page; given again it takes up the same run; other files are refused before anything runs."""
    (tmp_path / "net.py").write_text(
        Path(odd_networks.__file__).read_text() + "\n\ndef build(depth=1):\n    return Net(depth=depth)\n"
    )
    draw = np.random.RandomState(0)
    for number in range(4):
        (tmp_path / "images" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(draw.randint(0, 255, (16, 16, 3), dtype=np.uint8))
        picture.save(tmp_path / "images" / "ab"[number % 2] / f"{number}.png")
    words = (
        "report",
        "--model",
        "net.py:build",
        "--model-arg",
        "depth=2",
        "--input-shape",
        "3,16,16",
        "--data",
        "folder:images",
    )
    words = (*words, "--batch-size", 2, "--threads", 1, "--out", "there")
    done = spikeattn(*words)
    assert done.code == 0, done.err
    assert "spikeattn profile --model net.py:build --data folder:images --model-arg depth=2" in done.err
    assert sa.Profile.load("there/run").n_images == 4
    page = (tmp_path / "there" / "report.html").read_text(encoding="utf-8")
    for words_of_page in ("Blocks 1 to 2", "4 × 4 tokens, 16 channels, 4 heads", "q, k, v", "was not looked at"):
        assert words_of_page in page
    assert json.loads(spikeattn("verify", "there/run", "--json").out)["passed"]
    written = (tmp_path / "there" / "run" / "counts.parquet").stat().st_mtime_ns
    assert spikeattn(*words).code == 0
    assert (tmp_path / "there" / "run" / "counts.parquet").stat().st_mtime_ns == written
    other = spikeattn(*words, "--model-arg", "depth=1")
    assert other.code == app.FAILED and "holds a finished run" in other.error
    assert (tmp_path / "there" / "run" / "counts.parquet").stat().st_mtime_ns == written


def test_maps_of_a_network_that_is_called_with_a_dict(spikeattn, tmp_path) -> None:
    code = Path(odd_networks.__file__).read_text()
    code += "\n\nclass OfDict(Net):\n    def forward(self, x):\n        return super().forward(x['image'])\n"
    code += "\n\ndef call(model, images):\n    return model({'image': images.repeat(1, 3, 1, 1)})\n"
    (tmp_path / "net.py").write_text(code)
    words = ("report", "--model", "net.py:OfDict", "--forward", "net.py:call", "--data", "digits", "--limit", 3)
    done = spikeattn(*words, "--batch-size", 3, "--attend", 1, "--threads", 1, "--out", "there")
    assert done.code == 0, done.err
    page = (tmp_path / "there" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 6 and "was not looked at" not in page
    summary = json.loads((tmp_path / "there" / "attention" / "summary.json").read_text())
    assert summary["networks"][0]["details"].startswith("attention of block 2 of 2") and "energy" in summary


def test_a_network_without_attention_has_a_page_that_says_so(spikeattn, tmp_path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom spikingjelly.activation_based import layer, neuron, functional\n\n\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.f = nn.Sequential(layer.Conv2d(1, 4, 3), neuron.IFNode(), layer.Conv2d(4, 4, 3), neuron.IFNode(),"
        " layer.Flatten(), layer.Linear(4 * 144, 10))\n        functional.set_step_mode(self, 'm')\n\n"
        "    def forward(self, x):\n        return self.f(x.expand(2, *x.shape)).mean(0)\n"
    )
    done = spikeattn(
        "report",
        "--model",
        "net.py:Net",
        "--data",
        "digits",
        "--limit",
        4,
        "--attend",
        2,
        "--threads",
        1,
        "--out",
        "there",
    )
    assert done.code == 0 and "--attend: no attention was found in this network; the page says more" in done.err
    page = (tmp_path / "there" / "report.html").read_text(encoding="utf-8")
    assert "This network has no attention: nowhere in its forward pass" in page
    assert "2 conv layers, 1 head layer" in page and "other 100" not in page


def test_options_of_a_profile_go_with_a_model(spikeattn, run) -> None:
    for words, message in (
        ((run, "--model", "sdt_digits", "--data", "digits"), "give a finished run, or a network to profile"),
        (("--model", "sdt_digits"), "--model sdt_digits: give --data too"),
        ((run, "--limit", 3), "--limit goes with --model; a finished run is as it is"),
        (("--attend", 3), "--attend goes with --model"),
        (("--model", "sdt_digits", "--data", "digits", "--attention", "x"), "--attend N attends to N images"),
    ):
        done = spikeattn("report", *words, "--out", "there")
        assert done.code == app.USAGE and message in done.error and not Path("there").exists()
