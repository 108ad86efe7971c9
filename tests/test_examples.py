"""The programs in examples/ run as a user would run them: in an empty folder, as processes of their own."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch

import spikeattn as sa
from spikeattn.models.calibrate import calibrate_batch_norm

ROOT = Path(__file__).resolve().parents[1]
ENERGY = r"[\d.]+ [pnµm]J \[[\d.]+, [\d.]+\] per image"  # as a total prints


def run(folder: Path, name: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return done.stdout


def program_of(notebook: Path) -> str:
    """The code of a notebook; what a cell ends with is displayed as a notebook does it, its size printed."""
    lines = ["import matplotlib", "matplotlib.use('Agg')"]
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert not cell["outputs"] and cell["execution_count"] is None, "notebooks are kept without their outputs"
        tree = ast.parse(cell["source"])
        last = tree.body[-1]
        if isinstance(last, ast.Expr) and not cell["source"].endswith(";"):
            tree.body[-1:] = ast.parse(
                f"_ = {ast.unparse(last)}\nprint('cell', type(_).__name__, len(_._repr_html_()))"
            ).body
        lines.append(ast.unparse(tree))
    return "\n".join(lines)


def test_notebook(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text(program_of(ROOT / "examples" / "notebook.ipynb"), encoding="utf-8")
    said = run(tmp_path, str(tmp_path / "cells.py"))
    shown = dict(re.findall(r"^cell (\w+) (\d+)$", said, re.MULTILINE))
    assert set(shown) == {"Profile", "Quantity", "Attention", "SpuriousEnergy", "PublishedRows", "Report"}
    assert all(int(size) > 10_000 for size in shown.values()) and (tmp_path / "report" / "report.html").is_file()


def test_your_own_snn(tmp_path: Path) -> None:
    said = run(tmp_path, "your_own_snn.py", "--epochs", 2, "--images", 320)
    rates = pd.read_csv(tmp_path / "rates_per_epoch.csv")
    assert rates["epoch"].tolist() == [1, 2] and rates.drop(columns="epoch").to_numpy().max() <= 1
    assert sa.Profile.load(tmp_path / "runs" / "mine").n_images == 120
    assert "accuracy 0." in said and re.search(rf"energy {ENERGY}", said)


def test_published_sdt(tmp_path: Path) -> None:
    """A checkpoint of the published form: state_dict with names of DistributedDataParallel, a Namespace under args."""
    torch.manual_seed(0)
    model = sa.create_model("sdt_digits")
    calibrate_batch_norm(model, torch.rand(4, 1, 16, 16))
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"epoch": 309, "state_dict": state, "args": Namespace(model="sdt", T=4)}, tmp_path / "w.pth.tar")
    said = run(tmp_path, "published_sdt.py", "sdt_digits", "w.pth.tar", "digits", "--images", 20)
    assert "weights: state_dict" in said and re.search(rf"sdt-paper +{ENERGY}", said)
    table = pd.read_csv(tmp_path / "table_s1.csv")
    columns = {name.lower() for name in table.columns}
    assert {"t1", "t4", "average"} <= columns and len(table) > 20


def test_event_data(tmp_path: Path) -> None:
    said = run(tmp_path, "event_data.py", "--images", 20)
    over_time = pd.read_csv(tmp_path / "over_time.csv")
    assert over_time["t"].tolist() == list(range(1, len(over_time) + 1)) and (tmp_path / "sweep.csv").is_file()
    assert re.search(rf"energy {ENERGY}", said)


def test_vit_attention(tmp_path: Path) -> None:
    said = run(tmp_path, "vit_attention.py", "--images", 2, "--replicates", 40)
    frame = pd.read_csv(tmp_path / "attention.csv")
    assert len(frame) == 2 * 64 and {"p", "q", "lfdr"} <= set(frame.columns)
    assert said.count("tokens kept at lfdr") == 2


def test_your_repository(tmp_path: Path) -> None:
    said = run(tmp_path, "your_repository.py", "--epochs", 1, "--images", 128)
    assert "body.1.w.2        QKV      1    v dataflow" in said and "your_repository:build is cheaper" in said
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2 * 4 and "Blocks 1 to 2" in page
    profile = sa.Profile.load(tmp_path / "runs" / "mine")
    assert profile.structure.attention[1][0].macs == 2 * 64**2 * 32 and not profile.untrained
    assert "[synapses]" in (tmp_path / "names.toml").read_text(encoding="utf-8")


def test_spiking_language_model(tmp_path: Path) -> None:
    said = run(tmp_path, "spiking_language_model.py", "--steps", 40, "--sequences", 16)
    before, after = (float(found) for found in re.findall(r"([\d.]+) bits per character", said))
    assert after < before - 1  # it has learned how often each character is
    assert "accuracy: the output holds no class scores [B, classes]: it is [B, 32, " in said
    assert "the labels ([B, 32]) are no class per image" in said
    sops = float(re.search(r"([\d,]+) SOPs per token", said)[1].replace(",", ""))  # type: ignore[index]
    value, low, high = map(float, re.search(r"energy ([\d.]+) nJ \[([\d.]+), ([\d.]+)\] per token", said).groups())  # type: ignore[union-attr]
    profile = sa.Profile.load(tmp_path / "runs" / "language")
    assert profile.n_images == 16 and profile.time_steps == 4 and not profile.ledger.uncounted
    assert low < value < high and abs(sops - profile.summary()["sops_per_image"] / 32) <= 1
    assert profile.provenance["input"]["kind"] == "token ids" and "input" not in set(profile.rates()["tensor"])
    assert "a ratio of" in said


def test_spike_penalty(tmp_path: Path) -> None:
    said = run(tmp_path, "spike_penalty.py", "--epochs", 4, "--images", 256, "--strengths", 5, 50)
    table = pd.read_csv(tmp_path / "spike_penalty.csv")
    assert table["strength"].tolist() == [0, 5, 50] and len(re.findall(rf"energy {ENERGY}", said)) == 3
    for name in ("accuracy", "sops"):
        assert (table[f"{name}_low"] <= table[name]).all() and (table[name] <= table[f"{name}_high"]).all()
    page = (tmp_path / "spike_penalty.md").read_text(encoding="utf-8")
    assert page.count("\n| ") == 1 + 3 and "95 % over images" in page
    assert (tmp_path / "spike_penalty.svg").stat().st_size > 5000 and (tmp_path / "spike_penalty.png").is_file()


def test_the_committed_table_of_the_penalty_shows_the_trade_off() -> None:
    """What reports/training holds is what the example writes with its defaults."""
    table = pd.read_csv(ROOT / "reports" / "training" / "spike_penalty.csv")
    page = (ROOT / "reports" / "training" / "spike_penalty.md").read_text(encoding="utf-8")
    assert table["sops"].is_monotonic_decreasing and table["energy_uj"].is_monotonic_decreasing
    assert all(f"{sops:,.0f} [" in page for sops in table["sops"])


def test_nir_nmnist(tmp_path: Path) -> None:
    pytest.importorskip("nir", reason='the example reads a NIR file: pip install "spikeattn[nir]"')
    said = run(tmp_path, "nir_nmnist.py", "--images", 20)
    assert "time step dt = 1, read off the file" in said and "accuracy" not in said
    assert re.search(r"T 32, [\d,]{9,} SOPs and 0 MACs per image", said) and re.search(rf"energy {ENERGY}", said)
    assert sa.Profile.load(tmp_path / "runs" / "nir").n_images == 20
    assert sa.load_model(str(tmp_path / "nmnist_cnn.nir")).provenance["config"]["dt"] == 1


def test_nir_nmnist_on_recordings(tmp_path: Path, shared: Path) -> None:
    pytest.importorskip("nir", reason='the example reads a NIR file: pip install "spikeattn[nir]"')
    said = run(tmp_path, "nir_nmnist.py", "--images", 10, "--data", shared / "data" / "nmnist_sample")
    assert "T 310, " in said


def test_log_while_training(tmp_path: Path) -> None:
    said = run(tmp_path, "log_while_training.py", "--epochs", 2, "--images", 128)
    log = pd.read_csv(tmp_path / "rates.csv")
    assert log["step"].tolist() == [0, 1] and log["n_images"].tolist() == [128, 128]
    assert log["mean_rate/head_lif"].between(0, 1).all() and "dead_channel_share/head_lif" in log
    assert re.findall(r"epoch (\d): mean firing rate 0\.\d+, [\d,]+ SOPs and [\d.]+ µJ per image", said) == ["0", "1"]
    assert pd.read_csv(tmp_path / "dead_neurons.csv")["channels"].sum() == 1464
    assert (tmp_path / "runs" / "digits").is_dir() == (find_spec("tensorboard") is not None)


@pytest.mark.skipif(find_spec("lightning") is None, reason="Lightning is not installed")
def test_lightning_monitor(tmp_path: Path) -> None:
    said = run(tmp_path, "lightning_monitor.py", "--epochs", 2, "--images", 128)
    log = pd.read_csv(tmp_path / "logs" / "digits" / "version_0" / "metrics.csv")
    for stage in ("train", "val"):
        rows = log.dropna(subset=f"{stage}/mean_rate")
        assert rows["epoch"].tolist() == [0, 1] and rows[f"{stage}/n_images"].tolist() == [128, 128]
        assert (rows[f"{stage}/energy_mj"] > 0).all() and f"{stage}/mean_rate/head_lif" in rows
    assert "val/sops_per_image" in said and (tmp_path / "dead_neurons.csv").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_tested(path: Path) -> None:
    assert f'"{path.name}"' in Path(__file__).read_text()
