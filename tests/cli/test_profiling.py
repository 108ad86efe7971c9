"""`spikeattn profile`: what it prints, and what it says when it is used wrongly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import spikeattn as sa
from spikeattn.cli import app
from spikeattn.cli.options import WrongCommandLine, model_arguments

from .conftest import IMAGES

DIGITS = ("profile", "--model", "sdt_digits", "--data", "digits", "--out", "out", "--threads", 1, "--device", "cpu")


def test_it_prints_table_s1_and_the_five_numbers(spikeattn) -> None:
    done = spikeattn(*DIGITS, "--pretrained", "--limit", 20, "-v", "--full")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "sdt_digits, T=4, 20 images"
    assert lines[2].split() == [
        "Part",
        "Module",
        "Tensor",
        "Code",
        "name",
        "T1",
        "T2",
        "T3",
        "T4",
        "Average",
        "Interval",
    ]
    paper_name, code_name = "K_S", "block.1.attn.v_lif"  # the paper's names are not the code's
    assert any(f"Block2  SDSA    {paper_name} " in line and code_name in line for line in lines)
    for start in ("accuracy   ", "mean rate  ", "SOPs       ", "energy     ", "ANN : SNN  ", "run        out"):
        assert sum(line.startswith(start) for line in lines) == 1
    assert "UNTRAINED" not in done.out
    assert "image/s" in done.err  # progress
    assert "info: digits: 20 images of 360; cpu, 1 threads" in done.err
    assert sorted(p.name for p in (sa.Profile.load("out").path).iterdir()) == ["counts.parquet", "model.json"]
    assert sa.Profile.load("out").provenance["command"].startswith("spikeattn profile --model sdt_digits")


def test_random_weights_are_named_and_json_is_all_there_is(spikeattn) -> None:
    done = spikeattn(*DIGITS, "--sample", 10, "--seed", 3, "--time-steps", 2, "--batch-size", 4, "--json")
    record = json.loads(done.out)
    assert (done.code, record["run"], record["summary"]["untrained"]) == (0, "out", True)
    assert record["summary"]["images"] == 10
    assert [row["t"] for row in record["over_time"]] == [1, 2]
    assert {"tensor", "code", "T1", "T2", "average"} <= set(record["rates"][0])
    assert record["provenance"]["settings"]["data"]["sample"] == 10
    assert record["provenance"]["settings"]["threads"] == 1
    assert spikeattn("rates", "out").out.startswith("UNTRAINED sdt_digits, T=2, 10 images")


def test_a_run_is_never_overwritten_and_resumes_only_as_itself(spikeattn) -> None:
    once = spikeattn(*DIGITS, "--limit", 8)
    assert once.code == 0
    again = spikeattn(*DIGITS, "--limit", 8)
    assert (again.code, again.error) == (
        app.FAILED,
        "error: out: holds a finished run; give another folder, or delete it first",
    )
    other = spikeattn(*DIGITS, "--limit", 9, "--resume")
    assert other.code == app.FAILED
    assert "resume: data.chosen is 9 now and was 8" in other.error
    assert spikeattn(*DIGITS, "--limit", 8, "--resume").out == once.out


def test_an_interrupted_run_says_how_to_go_on(spikeattn, monkeypatch) -> None:
    def stops(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("spikeattn.runs.run.profile", stops)
    done = spikeattn(*DIGITS)
    assert done.code == app.INTERRUPTED
    command = "spikeattn profile --model sdt_digits --data digits --out out --threads 1 --device cpu --resume"
    assert done.err.endswith(f"To finish the run in out:\n  {command}\ninterrupted\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "sdt_digit"], "unknown model 'sdt_digit': did you mean 'sdt_digits'"),
        (["--data", "digts"], "unknown data 'digts': did you mean 'digits'"),
        (["--data", "."], "'.' is a path without a name before it: folder:. or imagenet:.?"),
        (["--data", "imagenet:nowhere", "--model", "sdt_2_256"], "nowhere does not exist"),
        (["--data", "nmnist:.", "--model", "sdt_2_256_gesture"], ". has no folder events_np"),
        (["--data", "digits", "--model", "sdt_2_256_gesture"], "a digit is 1x16x16 but the model takes 2x128x128"),
        (
            ["--data", "folder:images", "--model", "sdt_2_256_gesture"],
            "images have 1 or 3 channels but the model takes 2",
        ),
        (["--split", "val"], "unknown split of digits 'val': valid are test, train"),
        (["--checkpoint", "notes.txt"], "checkpoint notes.txt: this is not a checkpoint"),
        (["--checkpoint", "missing.pth"], "checkpoint missing.pth: there is no such file"),
        (["--model", "sdt_2_256", "--pretrained"], "no trained weights of 'sdt_2_256' come with the package"),
        (["--pretrained", "--model-arg", "num_classes=7"], "trained on 10 classes and the model has 7"),
        (["--sample", 361], "sample=361: there are 360 images; give at most 360, or leave it out for all"),
        (["--model-arg", "widht=3"], "unknown model argument 'widht': valid are depth"),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--out", "notes.txt"], "notes.txt: is no folder"),
    ],
)
def test_wrong_use_says_what_to_do(spikeattn, tmp_path, options, message) -> None:
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "images" / "a.png")
    done = spikeattn(*DIGITS, *options)
    assert done.code == app.FAILED
    assert message in done.error
    assert done.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", 0], "--threads 0: give a number from 1 to 4096"),
        (["--threads", 10**11], "give a number from 1 to 4096"),
        (["--batch-size", 0], "--batch-size 0: give 1 or more"),
        (["--limit", 0], "--limit 0: give 1 or more"),
        (["--limit", "ten"], "Invalid value for '--limit'"),
        (["--limit", 3, "--sample", 3], "--limit 3 and --sample 3: give one of them"),
        (["--sample", -3], "--sample -3: give 1 or more"),
        (["--sample", 3, "--seed", 2**32], "give a number from 0 to 4294967295"),
        (["--workers", -1], "--workers -1: give 0 or more"),
        (["--time-steps", 0], "--time-steps 0: give 1 or more"),
        (["--save-every", "nan"], "--save-every nan: give 0 or more"),
        (["--device", "gpu"], "--device 'gpu': valid are cpu, cuda"),
        (["--weights", "ema"], "--weights ema chooses from a file: give --checkpoint FILE too"),
        (["--weights", "emma"], "--weights 'emma': did you mean 'ema'? valid are auto, model, ema"),
        (["--neurons", "natve"], "--neurons 'natve': did you mean 'native'? valid are auto, triton, native, torch"),
        (["--model-arg", "depth"], "is no KEY=VALUE pair"),
    ],
)
def test_options_that_cannot_be(spikeattn, tmp_path, options, message) -> None:
    done = spikeattn(*DIGITS, *options)
    assert (done.code, message in done.error) == (app.USAGE, True), done.err
    assert done.out == "" and not list(tmp_path.iterdir())


def test_unreadable_images_are_named(spikeattn, tmp_path) -> None:
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    for i in range(2):
        noise = np.random.RandomState(i).randint(0, 256, (20, 20), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    done = spikeattn(*DIGITS, "--data", "folder:images")
    assert done.code == 0
    assert "warning: folder:images: the model has 10 outputs and the data 1 class: accuracy has no meaning" in done.err
    assert "skipped: 1 images could not be read: cat/broken.png (not an image of the formats PNG" in done.out
    assert "2 images" in done.out.splitlines()[0]


def test_model_arguments_are_read_by_their_type() -> None:
    pairs = ["pooling_stat=1111", "img_size=(128, 96)", "dvs=true", "mlp_ratio=0.5", "depth=2", "spike_mode=plif"]
    assert model_arguments(pairs, 3) == {
        "pooling_stat": "1111",
        "img_size": (128, 96),
        "dvs": True,
        "mlp_ratio": 0.5,
        "depth": 2,
        "spike_mode": "plif",
        "time_steps": 3,
    }
    with pytest.raises(WrongCommandLine, match="--time-steps 3 and --model-arg time_steps=2"):
        model_arguments(["time_steps=2"], 3)


def test_the_shared_run(run) -> None:
    assert sa.Profile.load(run).n_images == IMAGES


def test_a_shard_of_unreadable_images_is_done_and_merges(spikeattn, tmp_path) -> None:
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.random.RandomState(i).randint(0, 256, (20, 20), dtype=np.uint8)).save(folder / f"{i}.png")
    for i in (2, 3):
        (folder / f"{i}.png").write_bytes(b"")
    command = [*DIGITS, "--data", "folder:images", "--batch-size", 2]
    assert spikeattn(*command, "--shard", "0/2", "--out", "part0").code == 0
    done = spikeattn(*command, "--shard", "1/2", "--out", "part1", "--json")
    assert done.code == 0 and "warning: part1: none of the 2 images of shard 1/2 could be read" in done.err
    assert [image["id"] for image in json.loads(done.out)["skipped"]] == ["cat/2.png", "cat/3.png"]
    assert "it merges with the other shards" in spikeattn("rates", "part1").error
    merged = spikeattn("merge", "part0", "part1", "--out", "merged")
    assert merged.code == 0 and "skipped: 2 images could not be read: cat/2.png (empty file)" in merged.out


def test_calibration_does_not_depend_on_the_batches(spikeattn) -> None:
    def model(out: str, *options: object) -> dict:
        assert spikeattn(*DIGITS, "--calibrate", "--limit", 12, *options, "--out", out).code == 0
        return sa.Profile.load(out).provenance["settings"]

    small, large = model("small", "--batch-size", 3), model("large", "--batch-size", 12)
    assert small["weights_sha256"] == large["weights_sha256"]
    (note,) = [
        note for note in small["model"]["notes"] if note.startswith("batch norms calibrated on images digits/11")
    ]
    assert note in large["model"]["notes"] and note.count("digits/") == 8
    assert spikeattn("verify", "small").code == 0
