"""`--model FILE.py:NAME`: from a user's file to the run, its tables, its page and its check."""

from __future__ import annotations

import hashlib
import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import spikeattn as sa
from spikeattn.cli import app
from tests.models.repositories import PUBLISHED, write

MODEL = "repo/model.py:Net"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository and a folder of six small images, in the working folder."""
    write(tmp_path / "repo", PUBLISHED)
    draw = np.random.RandomState(0)
    for number in range(6):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.randint(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path


PROFILE = ("profile", "--data", "folder:images", "--batch-size", 3, "--threads", 1, "--out", "run", "--model")


def test_from_a_file_to_the_page(spikeattn, place) -> None:
    done = spikeattn(*PROFILE, MODEL, "--model-arg", "width=4", "--calibrate")
    assert done.code == 0, done.err
    assert done.out.startswith("UNTRAINED model:Net, T=4, 6 images")
    assert "warning: repo/model.py:Net: cv2: not installed" in done.err
    assert "UNTRAINED model:Net" in spikeattn("energy", "run").out
    report = spikeattn("report", "run", "--out", "rep")
    assert report.code == 0, report.err
    assert "UNTRAINED" in (place / "rep" / "report.html").read_text(encoding="utf-8")
    check = json.loads(spikeattn("verify", "run", "--json").out)
    assert (check["passed"], check["not_done"]) == (True, [])
    assert {each["name"]: each["result"] for each in check["checks"]}["code"] == "ok"
    model = sa.Profile.load("run").provenance["settings"]["model"]
    assert (model["code"]["file"], model["code"]["factory"]) == ("repo/model.py", "Net")
    assert model["code"]["arguments"] == {"width": 4}
    assert set(model["code"]["files"]) == {"model.py", "layers.py"}


def test_what_a_file_prints_is_no_result(spikeattn, place) -> None:
    model = place / "repo" / "model.py"
    model.write_text('print("loaded")\n' + model.read_text(encoding="utf-8"), encoding="utf-8")
    assert json.loads(spikeattn(*PROFILE, MODEL, "--json").out)["run"] == "run"


@pytest.mark.parametrize("name", ["model.py", "layers.py"])
def test_a_changed_file_is_named_and_not_run(spikeattn, place, name) -> None:
    assert spikeattn(*PROFILE, MODEL).code == 0
    file = place / "repo" / name
    file.write_text(file.read_text(encoding="utf-8") + f"\nopen('{place}/was-run', 'w')\n", encoding="utf-8")
    done = spikeattn("verify", "run")
    assert done.code == 1
    assert f"failed    code     {name} has sha256" in done.out
    assert not (place / "was-run").exists()
    again = spikeattn(*PROFILE, MODEL, "--resume")
    assert f"model.code.files.{name}" in again.error or "model.code.sha256" in again.error


def test_a_file_that_has_moved(spikeattn, place) -> None:
    assert spikeattn(*PROFILE, MODEL).code == 0
    shutil.move(place / "repo", place / "elsewhere")
    lost = spikeattn("verify", "run")
    assert (lost.code, "not done  model" in lost.out) == (0, True)
    assert "and --model where its code is" in lost.err
    found = spikeattn("verify", "run", "--model", "elsewhere/model.py:Net")
    assert found.code == 0, found.err
    assert "not done" not in found.out
    (place / "elsewhere" / "layers.py").unlink()
    gone = spikeattn("verify", "run", "--model", "elsewhere/model.py:Net")
    assert (gone.code, "layers.py is not there any more" in gone.out) == (1, True)


def test_a_run_from_python_is_verified_where_its_code_is_named(spikeattn, place) -> None:
    torch.manual_seed(0)
    model = sa.load_model(MODEL, width=4)
    torch.save(model.state_dict(), "weights.pth")
    data = sa.open_dataset("folder:images", model)
    sa.profile(model, sa.make_loader(data, batch_size=3), out="run")
    shy = spikeattn("verify", "run")
    assert "--model FILE.py:NAME says where that is" in shy.out
    done = spikeattn("verify", "run", "--model", MODEL, "--checkpoint", "weights.pth")
    assert (done.code, "not done" in done.out) == (0, False), done.out


def test_the_twin_of_a_run_is_measured(spikeattn, place) -> None:
    assert spikeattn(*PROFILE, MODEL, "--model-arg", "width=4", "--calibrate").code == 0
    by_hand = spikeattn("compare", "run")
    assert "twin: no ANN was given; by hand: the same layers once" in by_hand.out
    done = spikeattn("compare", "run", "--measure-twin")
    assert done.code == 0, done.err
    assert "twin: measured: model:Net was run once with ReLUs in place of its" in done.out
    assert "every layer has as many MACs as by hand" in done.out
    assert "at the measured gamma" not in by_hand.out
    assert "at gamma 0 (not measured)" in spikeattn("compare", "run", "--full").out
    assert "at the measured gamma" in done.out, "the zeros of the ReLU copy are counted on the run's first images"
    report = spikeattn("report", "run", "--measure-twin", "--out", "rep")
    assert report.code == 0, report.err
    assert "measured: model:Net was run once" in (place / "rep" / "report.html").read_text(encoding="utf-8")


def test_the_twin_of_a_run_whose_code_has_moved(spikeattn, place) -> None:
    assert spikeattn(*PROFILE, MODEL).code == 0
    shutil.move(place / "repo", place / "elsewhere")
    lost = spikeattn("compare", "run", "--measure-twin")
    assert lost.code == 1 and lost.error.startswith("error: --measure-twin: the model of the run cannot be opened: ")
    assert "takes --model, --checkpoint and --data where they lie elsewhere" in lost.error
    found = spikeattn("compare", "run", "--measure-twin", "--model", "elsewhere/model.py:Net")
    assert found.code == 0 and "twin: measured: model:Net" in found.out, found.err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--measure-twin", "--against", "ann_digits"], "--measure-twin and --against ann_digits: give the twin of"),
        (["--measure-twin", "--gamma", "0.3"], "--measure-twin and --gamma 0.3: the twin's zeros are measured"),
        (["--model", "a.py:Net", "--data", "digits"], "--model and --data: without --measure-twin"),
    ],
)
def test_options_that_do_not_go_with_the_twin(spikeattn, place, options, why) -> None:
    done = spikeattn("compare", "run", *options)
    assert done.code == app.USAGE and why in done.error


def test_the_size_of_the_input(spikeattn, place) -> None:
    assert spikeattn(*PROFILE, MODEL).code == 0  # the arguments of the factory say 16 x 16
    settings = sa.Profile.load("run").provenance["settings"]
    assert settings["input"] == [3, 16, 16]
    told = ("--input-shape", "3,24,20", "--mean", "0.5", "--std", "0.25,0.5,1", "--crop-pct", "1")
    assert spikeattn(*PROFILE, MODEL, "--out", "told", *told).code == 0
    settings = sa.Profile.load("told").provenance["settings"]
    assert settings["input"] == [3, 24, 20]
    data = settings["data"]
    assert (data["mean"], data["std"], data["crop_pct"]) == ([0.5, 0.5, 0.5], [0.25, 0.5, 1.0], 1.0)
    assert spikeattn("verify", "told").code == 0


def test_an_unknown_size_is_a_warning_everywhere(spikeattn, place) -> None:
    text = "from model import Net\ndef build(): return Net(width=2)\n"
    (place / "repo" / "small.py").write_text(text, encoding="utf-8")
    done = spikeattn(*PROFILE, "repo/small.py:build", "--limit", 2)
    assert "the model states no input size: timm's default transform to 224x224" in done.err
    assert "warning    input-size: the model states no input size" in done.out
    assert any(text.startswith("input-size: ") for text in sa.Profile.load("run").warnings)
    assert spikeattn("report", "run", "--out", "rep").code == 0
    assert "states no input size" in (place / "rep" / "report.html").read_text(encoding="utf-8")


OWN = """
    import torch
    from torch import nn

    class Step(nn.Module):
        def forward(self, x):
            return (x > 0).to(x)

    class Net(nn.Module):
        img_size, in_chans = 16, 3

        def __init__(self, scale=1.0):
            super().__init__()
            self.conv, self.step, self.head = nn.Conv2d(3, 4, 3), Step(), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.step(self.conv(x)).mean((2, 3)))

    def halves(model, images):
        return model(images / 2)
"""


def test_neurons_and_calls_of_ones_own(spikeattn, place) -> None:
    write(place, {"own.py": OWN})
    assert "has no spiking neurons" in spikeattn(*PROFILE, "own.py:Net").error
    told = ("--neuron-class", "Step", "--forward", "own.py:halves", "--time-steps", 1, "--layout", "TB")
    assert spikeattn(*PROFILE, "own.py:Net", *told).code == 0
    model = sa.Profile.load("run").provenance["settings"]["model"]
    assert (model["neuron_class"], model["functions"]["forward"]["name"]) == (["Step"], "halves")
    check = spikeattn("verify", "run")
    assert (check.code, "not done" in check.out) == (0, False), check.out
    whole = spikeattn(*PROFILE, "own.py:Net", "--neuron-class", "Step", "--time-steps", 1, "--out", "whole")
    assert whole.code == 0
    spikes = [int(sa.Profile.load(run).counts.column("nnz", "step").sum()) for run in ("run", "whole")]
    assert spikes[0] != spikes[1]


def test_an_older_run_with_neurons_and_calls_of_ones_own_is_verified_by_its_settings(spikeattn, place) -> None:
    """It keeps no inputs; class and function of its own are in its settings, and its file is run where it is named."""
    write(place, {"own.py": OWN})
    told = ("--neuron-class", "Step", "--forward", "own.py:halves", "--time-steps", 1)
    assert spikeattn(*PROFILE, "own.py:Net", *told).code == 0
    path = place / "run" / "model.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["provenance"]["inputs"]
    path.write_text(json.dumps(record), encoding="utf-8")
    check = spikeattn("verify", "run", "--model", "own.py:Net")
    assert (check.code, "every count is the same" in check.out) == (0, True), check.out + check.err
    assert "--model FILE.py:NAME says where" in spikeattn("verify", "run").out

    model = record["provenance"]["settings"]["model"]
    for name, wrong in {"code": "x", "functions": {"forward": {"file": 3}}, "neuron_class": [3]}.items():
        right, model[name] = model[name], wrong
        path.write_text(json.dumps(record), encoding="utf-8")
        done = spikeattn("verify", "run", "--model", "own.py:Net")
        model[name] = right
        assert (done.code, f"settings.model.{name}" in done.error) == (app.FAILED, True), done.err


GRIDS = """
    import torch
    from torch import nn

    class Step(nn.Module):
        def forward(self, x):
            return (x > 0).to(x.dtype)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            for name in "qkv":
                self.add_module(name, nn.Conv2d(4, 4, 1))
                self.add_module(name + "s", Step())
            self.out, self.last = nn.Conv2d(4, 4, 1), Step()

        def forward(self, x):
            q, k, v = (s(c(x)).flatten(2) for c, s in ((self.q, self.qs), (self.k, self.ks), (self.v, self.vs)))
            return x + self.out(self.last((q.mT @ k @ v.mT).mT.reshape(x.shape) - 0.5))

    class Net(nn.Module):
        img_size, in_chans = 16, 3

        def __init__(self):
            super().__init__()
            self.stem, self.down, self.head = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 2, 2), nn.Linear(4, 2)
            self.first, self.second, self.start, self.begin = Block(), Block(), Step(), Step()

        def forward(self, batch):
            x = self.first(self.start(self.stem(batch["image"] - 0.5)))
            return self.head(self.second(self.begin(self.down(x))).mean((2, 3)))

    def called(model, images):
        return model({"image": images})
"""


def test_a_report_with_attention_of_own_neurons_a_dict_and_two_grids(spikeattn, place) -> None:
    write(place, {"grids.py": GRIDS})
    told = ("--neuron-class", "Step", "--forward", "grids.py:called", "--time-steps", 1, "--attend", 1)
    data = ("--data", "folder:images", "--batch-size", 2, "--limit", 2, "--threads", 1)
    done = spikeattn("report", "--model", "grids.py:Net", *told, *data, "--out", "rep")
    assert done.code == 0, done.err
    assert "the last block alone is attended to" in done.err and "different token grids, 8x8 and 4x4" in done.err
    summary = json.loads((place / "rep" / "attention" / "summary.json").read_text(encoding="utf-8"))
    assert summary["networks"][0]["layers"] == [1]
    asked = ("attend", "--model", "grids.py:Net", *told[:4], *data[:2], "--limit", 1, "--replicates", 2)
    assert "different token grids" in spikeattn(*asked, "--layer", "all", "--out", "all").error


DETECTOR = """
    class Detector(Net):
        def forward(self, batch):
            x = self.head(self.step(self.conv(batch["image"])).permute(0, 2, 3, 1)).flatten(1, 2)
            return [{"boxes": each[:4], "scores": each[:, 0]} for each in x]

    def called(model, images):
        return model({"sizes": [(16, 16)] * len(images), "image": images})
"""


def test_why_there_is_no_accuracy(spikeattn, place) -> None:
    """Of a detector that is called with a dict: said once in the summary, once on the page, kept in the provenance."""
    write(place, {"maps.py": OWN + DETECTOR})
    told = ("--neuron-class", "Step", "--time-steps", 1, "--forward", "maps.py:called")
    done = spikeattn(*PROFILE, "maps.py:Detector", *told)
    form = "it is list, one for each image, of dict of 'boxes' [4, 2], 'scores' [196]"
    why = f"the output holds no class scores [B, classes]: {form}"
    assert f"accuracy   not known: {why}" in done.out and done.out.count("no class scores") == 1, done.err
    record = sa.Profile.load("run").provenance
    assert record["no_accuracy"] == why
    function = record["settings"]["model"]["functions"]["forward"]
    assert function["name"] == "called"
    assert function["sha256"] == hashlib.sha256((place / "maps.py").read_bytes()).hexdigest()
    assert json.loads(spikeattn("verify", "run", "--json").out)["passed"]
    assert why in spikeattn("report", "run", "--out", "rep").out
    page = html.unescape((place / "rep" / "report.html").read_text(encoding="utf-8"))
    assert f'<p class="note">{why}</p>' in page and page.lower().count("accuracy unknown") == 1


ANN = """
    from timm.models.vision_transformer import VisionTransformer

    def build(depth=1):
        return VisionTransformer(img_size=16, patch_size=8, embed_dim=32, depth=depth, num_heads=2, num_classes=2)
"""


def test_an_ann_of_ones_own_beside_a_run(spikeattn, place) -> None:
    write(place, {"ann.py": ANN})
    assert spikeattn(*PROFILE, MODEL).code == 0
    done = spikeattn("compare", "run", "--against", "ann.py:build")
    assert done.code == 0, done.err
    assert "model:Net beside ann:build" in done.out


def test_attend_takes_a_vit_of_ones_own(spikeattn, place, svg_only) -> None:
    write(place, {"ann.py": ANN})
    looked = ("attend", "--images", "images", "--limit", 1, "--replicates", 5, "--pictures", 0)
    done = spikeattn(
        *looked, "--model", "ann.py:build", "--model-arg", "depth=2", "--input-shape", "3,16,16", "--out", "o"
    )
    assert done.code == 0, done.err
    summary = json.loads((place / "o" / "summary.json").read_text(encoding="utf-8"))
    assert summary["untrained"] is True
    assert "is no model whose attention is known here" in spikeattn(*looked, "--model", MODEL, "--out", "p").error


def test_rates_of_a_network_of_ones_own(spikeattn, place) -> None:
    text = """
        from spikeattn.models.names import PaperName
        from model import Net as Plain

        class Net(Plain):
            def paper_names(self):
                one, two = PaperName("SPS", None, "Conv1"), PaperName("SPS", None, "Conv2")
                return {"first.lif": one, "second.lif": two, "first.conv": one, "second.conv": two}
    """
    write(place / "repo", {"named.py": text})
    write(place, {"rates.csv": "part,tensor,T1,T2,T3,T4\nSPS,Conv1,0.1,0.1,0.1,0.1\nSPS,Conv2,0.2,0.2,0.2,0.2\n"})
    asked = ("energy", "--rates", "rates.csv", "--convention", "input-rate", "--model")
    done = spikeattn(*asked, "repo/named.py:Net", "--model-arg", "img_size_h=32", "--model-arg", "img_size_w=32")
    assert done.code == 0, done.err
    assert "energy per image, repo/named.py:Net with the rates of rates.csv" in done.out
    swept = spikeattn("sweep", *asked[1:], "repo/named.py:Net")
    assert swept.code == 0, swept.err
    assert "carry no paper names" in spikeattn(*asked, MODEL).error


def test_wrong_command_lines(spikeattn, place) -> None:
    for words, expected in {
        ("repo/modle.py:Net",): "there is no file repo/modle.py; repo holds layers.py, model.py",
        (MODEL, "--model-arg", "widht=3"): "unknown argument of repo/model.py:Net 'widht': did you mean 'width'?",
        (MODEL, "--pretrained"): "takes no pretrained",
        (MODEL, "--model-arg", "width"): "is no KEY=VALUE pair",
        (MODEL, "--input-shape", "3,16"): "give [T,]C,H,W in whole numbers",
        (MODEL, "--input-shape", "4,3,16,16"): "images have no time axis",
        (MODEL, "--mean", "1,2"): "give one number, or one for each of 3 channels",
        (MODEL, "--std", "0"): "give one positive number",
        (MODEL, "--crop-pct", "2"): "--crop-pct 2",
        (MODEL, "--neuron-class", "Stage2"): "'Stage2': did you mean 'Stage'",
        (MODEL, "--forward", "repo/layers.py:go"): "unknown class or function of repo/layers.py 'go'",
        (MODEL, "--model-arg", "in_channels=1", "--input-shape", "3,16,16"): "fails on",
        ("vit_tiny_patch16_224", "--time-steps", "2"): "has no time steps",
    }.items():
        done = spikeattn(*PROFILE, *words)
        assert done.code != 0
        assert expected in done.error, (words, done.error)
        assert not (place / "run").exists()


def test_a_text_argument_stays_a_text(spikeattn, place) -> None:
    assert spikeattn(*PROFILE, MODEL, "--model-arg", "mode=0011", "--model-arg", "T=2").code == 0
    run = sa.Profile.load("run")
    assert run.provenance["settings"]["model"]["code"]["arguments"] == {"mode": "0011", "T": 2}
    assert run.time_steps == 2
