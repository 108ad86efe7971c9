"""`spikeattn attend`: what it writes and prints, and what it says when it is used wrongly."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import spikeattn as sa
from spikeattn.cli import app, main
from spikeattn.cli.fresh_folder import fresh_folder
from spikeattn.errors import SpikeattnError
from spikeattn.report.files import stems

DIGITS = ("attend", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--out", "out", "--threads", 1)
QUICK = (*DIGITS, "--limit", 2, "--replicates", 12, "--device", "cpu")
VIT = ("attend", "--model", "vit_tiny_patch16_224", "--model-arg", "img_size=32", "--model-arg", "depth=2")
IMAGES = (*VIT, "--replicates", 8, "--out", "out", "--threads", 1, "--device", "cpu", "--images")
NMNIST = Path(__file__).parents[3] / "shared/data/nmnist_sample"


@dataclass(frozen=True)
class Finished:
    """A command that several tests look at: its output and its folder."""

    code: int
    text: str
    err: str
    out: Path

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.out / "attention.npz"))

    @property
    def summary(self) -> dict:
        return json.loads((self.out / "summary.json").read_text())


def finish(folder: Path, *arguments: object) -> Finished:
    """Run a command in a folder."""
    out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    torch.set_num_threads(threads)
    return Finished(code, out.getvalue(), err.getvalue(), folder / "out")


@pytest.fixture(scope="module")
def digits(run, tmp_path_factory) -> Finished:
    """Three digits with all there is: a picture, the energy of a run, planted noise."""
    options = ("--limit", 3, "--pictures", 1, "--seed", 3, "--run", run, "--evaluate")
    return finish(tmp_path_factory.mktemp("digits"), *QUICK, *options)


@pytest.fixture(scope="module")
def library() -> tuple[sa.Attention, torch.nn.Module, torch.Tensor]:
    """The same from the library, with the model and its images."""
    model = sa.create_model("sdt_digits", pretrained=True)
    data = sa.open_dataset("digits", model)
    images = torch.stack([data[i][0] for i in range(3)])
    return sa.attend(model, images, "normal", 12, seed=3, layer="all"), model, images


@pytest.fixture
def svg_only(monkeypatch) -> None:
    """Pictures are drawn once: two of their three formats are empty files."""
    monkeypatch.setattr("spikeattn.cli.attention_files.to_pdf", lambda figure: b"")
    monkeypatch.setattr("spikeattn.cli.attention_files.to_png", lambda figure, dpi: b"")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs, one of them truncated, and a file that is no image."""
    folder = tmp_path / "photos"
    (folder / "pets").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("cat.png", "pets/cat.png", "dog.png"):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / name)
    content = (folder / "dog.png").read_bytes()
    (folder / "dog.png").write_bytes(content[: len(content) // 2])
    (folder / "notes.txt").write_text("no image")
    return folder


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def test_pictures_and_tables_are_all_there(digits) -> None:
    assert digits.code == 0, digits.err
    assert digits.text.splitlines()[0] == (
        "sdt_digits: Vhat_S of block 2 of 2; null: normal, B = 12; plus-one p, 3 images"
    )
    assert "UNTRAINED" not in digits.text
    pictures = {f"{folder}digits_11.{suffix}" for folder in ("panels/", "layers/") for suffix in ("svg", "pdf", "png")}
    overview = {f"overview.{suffix}" for suffix in ("svg", "pdf", "png")}
    tables = {"attention.npz", "attention.csv", "layers.csv", "summary.json", "energy.csv", "evaluation.csv"}
    assert files(digits.out) == pictures | overview | tables == set(digits.summary["files"])
    for suffix, start in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        assert (digits.out / f"overview.{suffix}").read_bytes().startswith(start)
    assert digits.summary["command"].startswith("spikeattn attend --model sdt_digits --pretrained")
    assert digits.summary["networks"][0]["model"]["sha256"]


def test_numbers_are_those_of_the_library(digits, library) -> None:
    expected, model, images = library
    arrays = digits.arrays
    for name in ("maps", "z", "p", "q", "lfdr"):
        assert np.allclose(arrays[name], getattr(expected, name), atol=1e-9), name
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
    for layer in (0, 1):
        kept = (expected.p[0, layer] <= 0.1) & (expected.z[0, layer] >= 0)
        assert digits.summary["images"][layer]["significant"] == pytest.approx(kept.mean())


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


def test_two_networks_stand_beside_each_other(spikeattn, svg_only, tmp_path) -> None:
    done = spikeattn(*QUICK, "--limit", 1, "--against", "twin", "--calibrate")
    assert done.code == 0, done.err
    assert "UNTRAINED ann_digits: received of block 2 of 2" in done.out
    assert "agreement  rank correlation" in done.out
    assert "UNTRAINED: random weights, these maps describe nothing" in done.out
    out = tmp_path / "out"
    for name, warned in (("panels/digits_11", False), ("panels_against/digits_11", True), ("beside/digits_11", True)):
        assert ("UNTRAINED" in (out / f"{name}.svg").read_text()) == warned, name
        assert {f"{name}.pdf", f"{name}.png"} <= files(out)
    arrays = np.load(out / "attention.npz")
    assert arrays["against_maps"].shape == (1, 1, 8, 8)
    assert set(pd.read_csv(out / "attention.csv")["model"]) == {"sdt_digits", "UNTRAINED ann_digits"}
    assert json.loads((out / "summary.json").read_text())["agreement"][0]["image"] == "digits/11"


def test_images_are_files_and_folders_and_what_is_corrupt_is_named(spikeattn, svg_only, photos, tmp_path) -> None:
    done = spikeattn(*IMAGES, photos, photos / "notes.txt", "--pictures", 1)
    assert done.code == 0, done.err
    assert "UNTRAINED vit_tiny_patch16_224: cls of block 2 of 2" in done.out
    assert "warning: dog.png: skipped, " in done.err
    assert "warning: notes.txt: skipped, not an image that Pillow can read" in done.err
    assert "skipped    2 images, first dog.png" in done.out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert [row["image"] for row in summary["images"]] == ["cat.png", "pets/cat.png"]
    assert [row["image"] for row in summary["skipped"]] == ["dog.png", "notes.txt"]
    assert summary["untrained"] is True
    assert "UNTRAINED" in (tmp_path / "out/panels/cat.svg").read_text()
    assert str(tmp_path) not in (tmp_path / "out/attention.csv").read_text()


def test_noise_squares_are_measured(digits, library) -> None:
    lines = digits.text.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("squares of noise"))
    assert lines[head + 2].split()[:2] == ["method", "D"]
    assert {line.split()[0] for line in lines[head + 3 : head + 7]} == {"p", "lfdr", "pi0", "soft"}
    _, model, images = library
    expected = sa.evaluate_regularization(model, images, "normal", 12, seed=3)
    for row in digits.summary["evaluation"]:
        assert row["D"] == pytest.approx(expected.D[row["method"]])
    rows = pd.read_csv(digits.out / "evaluation.csv")
    assert np.allclose(rows["percentile_before"], expected.frame["percentile_before"])
    assert set(rows["image"]) <= set(digits.arrays["images"]) and rows["image"].nunique() > 1


def test_energy_on_noise_joins_a_run(digits) -> None:
    assert "of the blocks' energy goes to tokens that are no more than noise" in digits.text
    arrays, energy = digits.arrays, pd.read_csv(digits.out / "energy.csv")
    assert arrays["energy_mj"].shape == arrays["spurious_mj"].shape == (3, 2, 8, 8)
    assert arrays["energy_mj"].sum() == pytest.approx(energy["energy_mj"].sum())
    assert arrays["spurious_mj"].sum() == pytest.approx(energy["spurious_mj"].sum())
    record = digits.summary["energy"]
    assert record["share_of_blocks"]["value"] == pytest.approx(arrays["spurious_mj"].sum() / arrays["energy_mj"].sum())
    assert arrays["spurious_mj"] == pytest.approx((arrays["p"] > 0.1) * arrays["energy_mj"])
    assert "nJ per token" in (digits.out / "panels/digits_11.svg").read_text()


def test_a_run_must_be_of_the_same_model_and_images(spikeattn, run) -> None:
    wrong = spikeattn("attend", "--model", "vit_digits", "--data", "digits", "--out", "other", "--run", run)
    assert "is of sdt_digits and --model is vit_digits; give the run of the same model" in wrong.error
    beyond = spikeattn(*QUICK, "--limit", 45, "--run", run, "--out", "far", "--replicates", 1, "--pictures", 0)
    assert "the run holds no counts of 5 of the images" in beyond.error


def test_events_are_tested_against_events(spikeattn, svg_only, tmp_path) -> None:
    small = [f"--model-arg={pair}" for pair in ("in_chans=2", "embed_dim=32", "num_heads=4")]
    data = ("--data", "digits-events", "--limit", 1, "--replicates", 5, "--out", "out", "--time-steps", 2)
    command = ("attend", "--model", "sdt_digits", *small, "--calibrate", *data, "--threads", 1)
    done = spikeattn(*command)
    assert done.code == 0, done.err
    assert "null: events, B = 5" in done.out
    assert "ON events" in next((tmp_path / "out/panels").glob("*.svg")).read_text()
    noise = spikeattn(*command, "--evaluate", "--out", "noise")
    assert noise.code == app.USAGE
    assert "--evaluate plants normal noise, which is no event count; give --null pixel with it" in noise.error


@pytest.mark.skipif(not NMNIST.exists(), reason="needs ../shared/data/nmnist_sample")
def test_a_recording_stands_beside_the_twin(spikeattn, tmp_path) -> None:
    small = [f"--model-arg={pair}" for pair in ("in_chans=2", "img_size=34", "embed_dim=32", "num_heads=4")]
    data = ("--data", f"nmnist:{NMNIST}", "--limit", 1, "--replicates", 5, "--out", "out", "--time-steps", 2)
    done = spikeattn(
        "attend", "--model", "sdt_2_256", *small, "--calibrate", *data, "--against", "twin", "--pictures", 0
    )
    assert done.code == 0, done.err
    assert np.load(tmp_path / "out/attention.npz")["against_maps"].shape == (1, 1, 9, 9)


def test_a_silent_network_calls_nothing_and_says_so(spikeattn, tmp_path) -> None:
    untrained = [word for word in QUICK if word != "--pretrained"]
    done = spikeattn(*untrained, "--pictures", 0)
    assert done.code == 0
    assert "warning: 2 images, first digits/11: the map is constant: no token is called" in done.err
    arrays = np.load(tmp_path / "out/attention.npz")
    assert not arrays["significant"].any()
    assert all(np.isfinite(arrays[name]).all() for name in ("z", "p", "q", "lfdr"))
    assert all(row["warned"] for row in json.loads((tmp_path / "out/summary.json").read_text())["images"])


def test_one_token_is_never_significant(spikeattn, photos) -> None:
    done = spikeattn(*IMAGES, photos / "cat.png", "--model-arg", "img_size=16", "--pictures", 0)
    assert done.code == 0, done.err
    assert "warning: cat.png: the map has one token: no token is called" in done.err
    assert "0.0 %" in done.out


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--model", "sdt_digit"], 1, "unknown model 'sdt_digit': did you mean 'sdt_digits'"),
        (["--model", "vit_tiny_patch16_244"], 1, "did you mean 'vit_tiny_patch16_224'"),
        (["--against", "vit_smal_patch16_224"], 1, "did you mean 'vit_small_patch16_224'"),
        (["--null", "norml"], 1, "unknown null 'norml': did you mean 'normal'"),
        (["--statistic", "V_hat_S"], 1, "unknown statistic of sdt_digits 'V_hat_S': did you mean 'Vhat_S'"),
        (["--estimator", "plusone"], 1, "unknown estimator 'plusone': did you mean 'plus-one'"),
        (["--method", "ldfr"], 1, "unknown method 'ldfr': did you mean 'lfdr'"),
        (["--ties", "rnd"], 1, "unknown ties 'rnd'"),
        (["--replicates", 0], 2, "--replicates 0: give 1 or more"),
        (["--layer", "last"], 2, "--layer 'last': give the number of a block, or all"),
        (["--layer", 7], 1, "--layer 7: the model has blocks 0 to 1"),
        (["--threshold", 2], 2, "--threshold 2: it is a probability"),
        (["--method", "soft", "--threshold", 0.1], 2, "--method soft has none"),
        (["--seed", -1], 2, "--seed -1: give a number from 0 on"),
        (["--images", "cat.png"], 2, "give either --images PATH... or --data SPEC, not both"),
        (["--against-pretrained"], 2, "need --against NAME"),
        (["--weights", "ema"], 2, "give --checkpoint FILE too"),
        (["--limit", 0], 2, "--limit 1 or more"),
        (["--data", "digts"], 1, "unknown data 'digts': did you mean 'digits'"),
        (["--run", "nowhere"], 1, "nowhere"),
        (["--against", "sdt_2_256_gesture"], 1, "a digit is 1x16x16 but the model takes 2x128x128"),
        (["--against", "resnet18"], 1, "is no model whose attention is known here"),
        (["--null", "events"], 1, "digits/11: null=\"events\" takes frames [T, C, H, W] of event counts"),
        (["--estimator", "per-token", "--method", "q"], 1, "no per-token q from 12 replicates of 64 tokens"),
        (["--calibrate"], 2, "--calibrate would overwrite trained batch norms"),
        (["--checkpoint", "notes.txt"], 1, "not both"),
        (["--out", "notes.txt"], 1, "--out notes.txt: "),
        (["--out", "full"], 1, "--out full: holds other files (a.txt)"),
    ],
)  # fmt: skip
def test_wrong_use_says_what_to_do(spikeattn, tmp_path, options, code, message) -> None:
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").write_text("mine")
    done = spikeattn(*QUICK, *options)
    assert (done.code, message in done.error) == (code, True), done.err
    assert done.out == ""
    assert not (tmp_path / "out").exists()
    assert files(tmp_path) == {"notes.txt", "full/a.txt"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["missing.png"], "--images missing.png: there is no such file or folder"),
        (["empty"], "--images empty: no images in this folder"),
        (["photos/notes.txt"], "no image could be read, 1 were skipped. notes.txt: not an image"),
        (["photos", "--time-steps", 2], "vit_tiny_patch16_224 has no time steps"),
        (["photos", "--model-arg", "img_size=8"], "8"),
        (["photos", "--model-arg", "nonsense=8"], "vit_tiny_patch16_224 cannot be built with"),
        (["photos", "--against", "twin"], "--against twin: vit_tiny_patch16_224 has none"),
        (["photos", "--null", "exact"], 'null="exact" counts the spikes of'),
    ],
)
def test_wrong_images_are_one_clear_error(spikeattn, photos, tmp_path, options, message) -> None:
    (tmp_path / "empty").mkdir()
    done = spikeattn(*IMAGES, *options)
    assert (done.code, message in done.error) == (app.FAILED, True), done.err
    assert not (tmp_path / "out").exists()


def test_a_map_with_nan_names_the_image(spikeattn, photos, tmp_path, monkeypatch) -> None:
    def broken(*arguments, **options):
        raise SpikeattnError("the cls map holds NaN or infinite scores: the model's activations overflow")

    monkeypatch.setattr("spikeattn.attention.replicates.attention_map", broken)
    done = spikeattn(*IMAGES, photos / "cat.png")
    assert done.code == app.FAILED
    assert done.error == ("error: cat.png: the cls map holds NaN or infinite scores: the model's activations overflow")
    assert not (tmp_path / "out").exists()


def test_weights_of_timm_that_cannot_be_had_are_one_error(spikeattn, photos, monkeypatch) -> None:
    import timm

    def offline(*arguments, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    done = spikeattn(*IMAGES, photos, "--pretrained")
    assert done.code == app.FAILED
    assert "timm could not get its weights (ConnectionError: no network); give them as --checkpoint" in done.error


def test_a_checkpoint_trains_a_timm_model(spikeattn, photos, tmp_path) -> None:
    import timm

    torch.manual_seed(1)
    torch.save(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2).state_dict(), tmp_path / "vit.pth")
    done = spikeattn(*IMAGES, photos / "cat.png", "--checkpoint", "vit.pth", "--pictures", 0)
    assert done.code == 0, done.err
    assert "UNTRAINED" not in done.out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["networks"][0]["model"]["checkpoint"] == "vit.pth"
    wrong = spikeattn(*IMAGES, photos / "cat.png", "--checkpoint", "vit.pth", "--model-arg", "num_classes=7")
    assert "holds a finished result" in wrong.error
    wrong = spikeattn(*IMAGES, photos / "cat.png", "--checkpoint", "vit.pth", "--model-arg", "depth=3", "--out", "b")
    assert "does not fit the model" in wrong.error


def test_a_folder_appears_whole_or_not_at_all(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), fresh_folder(tmp_path / "a/b", "last") as staging:
        (staging / "x").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError), fresh_folder(empty, "last"):
        raise ValueError
    assert list(empty.iterdir()) == []
    with fresh_folder(empty, "last") as staging:
        (staging / "last").write_text("done")
        (staging / "sub").mkdir()
        (staging / "sub/x").write_text("x")
        with pytest.raises(SpikeattnError, match="another process is writing there"), fresh_folder(empty, "last"):
            pass
    assert files(empty) == {"last", "sub/x"}
    with pytest.raises(SpikeattnError, match="holds a finished result"), fresh_folder(empty, "last"):
        pass


def test_names_of_files_are_safe_and_each_once() -> None:
    assert stems(["a/b.png", "a_b.jpg", "../x y.png", "A/b.png", "é.png", "..."]) == [
        "a_b", "a_b-2", "x_y", "A_b-3", "é", "image",
    ]  # fmt: skip


def test_help_shows_examples_and_what_p_is_not(spikeattn) -> None:
    done = spikeattn("attend", "--help")
    assert done.code == 0
    assert "p does not control the false discovery rate, q does" in " ".join(done.out.replace("│", " ").split())
    assert "spikeattn attend --model sdt_digits --pretrained --data digits" in done.out
