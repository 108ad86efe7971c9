"""A network of the user's own by its address: found, kept apart, run on present packages, or one clear error."""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

import spikeattn as sa
from spikeattn.data.dataset import ModelInput
from spikeattn.errors import SpikeattnError
from spikeattn.models.neuron_names import neuron_predicate
from spikeattn.models.own_code import function_at
from spikeattn.tracing.neurons import is_spiking_neuron
from tests.models.repositories import PUBLISHED, write

NET = """
    from torch import nn
    from utils import width

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, width())

        def forward(self, x):
            return self.fc(x)

    def build(depth=1, mode="0011", size=4):
        net = Net()
        net.depth, net.mode = depth, mode
        return net
"""


def failure(*arguments, **more) -> str:
    """The message of the error that a call ends in."""
    with pytest.raises(SpikeattnError) as caught:
        sa.load_model(*arguments, **more)
    return str(caught.value)


# ---- Each repository its own modules


def test_two_repositories_keep_their_own_modules(tmp_path) -> None:
    one = write(tmp_path / "one", {"model.py": NET, "utils.py": "def width(): return 3"})
    two = write(tmp_path / "two", {"model.py": NET, "utils.py": "def width(): return 5"})
    modules, path, finders = set(sys.modules), list(sys.path), list(sys.meta_path)
    first, second = (sa.load_model(f"{folder}/model.py:build") for folder in (one, two))
    assert (first.fc.out_features, second.fc.out_features) == (3, 5)
    assert type(first) is not type(second)
    assert not {"utils", "model"} & set(sys.modules)
    assert all(name.startswith("own_code_") for name in set(sys.modules) - modules)
    assert (sys.path, sys.meta_path) == (path, finders)


def test_modules_of_the_caller_stay_what_they_are(tmp_path) -> None:
    mine = type(sys)("utils")
    sys.modules["utils"] = mine
    try:
        write(tmp_path, {"model.py": NET, "utils.py": "def width(): return 3"})
        assert sa.load_model(f"{tmp_path}/model.py:build").fc.out_features == 3
        assert sys.modules["utils"] is mine
    finally:
        del sys.modules["utils"]


LATE = """
    from torch import nn

    class Net(nn.Module):
        def forward(self, x):
            import utils
            from parts.inner import twice
            from spikingjelly.clock_driven import functional
            return twice(x) + utils.ADDED

    def act(x):
        return x

    def build():
        net = Net()
        net.act = act
        return net
"""


def test_imports_inside_forward_find_their_own_repository(tmp_path) -> None:
    models = []
    for number in (1, 2):
        files = {"model.py": LATE, "utils.py": f"ADDED = {number}", "parts/__init__.py": ""}
        files["parts/inner.py"] = f"from . import other\ndef twice(x): return {number} * x + other.ZERO"
        files["parts/other.py"] = "ZERO = 0"
        models.append(sa.load_model(f"{write(tmp_path / str(number), files)}/model.py:build"))
    assert [float(model(torch.ones(1))) for model in models * 2] == [2, 4, 2, 4]
    assert not {"utils", "parts", "parts.inner", "spikingjelly.clock_driven"} & set(sys.modules)


def test_a_model_is_copied_pickled_saved_and_compiled(tmp_path) -> None:
    write(tmp_path, PUBLISHED)
    model = sa.load_model(f"{tmp_path}/model.py:Net")
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def output(net: nn.Module) -> torch.Tensor:
        functional.reset_net(net)
        return net(images)

    expected = output(model)
    functional.reset_net(model)
    assert torch.equal(output(copy.deepcopy(model)), expected)
    assert torch.equal(output(pickle.loads(pickle.dumps(model))), expected)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(output(torch.load(file, weights_only=False)), expected)
    torch.testing.assert_close(output(torch.compile(model, backend="eager")), expected)


def test_a_class_of_a_package_is_pickled(tmp_path) -> None:
    files = {"nets/__init__.py": "from torch import nn\nfrom .part import Part\nclass Net(nn.Module): pass\n"}
    files |= {"nets/part.py": "class Part: pass\n", "nets/build.py": "from . import Net\ndef build(): return Net()\n"}
    model = sa.load_model(f"{write(tmp_path, files)}/nets/build.py:build")
    assert type(pickle.loads(pickle.dumps(model))) is type(model)
    assert model.provenance["class"] == "nets.Net"


def test_folders_that_a_file_puts_on_the_path_are_its_own_too(tmp_path) -> None:
    start = "import os, sys\nsys.path.append(os.path.join(os.path.dirname(__file__), '..', 'lib'))\n"
    nets = []
    for number in (3, 5):
        build = "from shared import width\nfrom torch import nn\ndef build(): return nn.Linear(2, width)\n"
        files = {"nets/model.py": start + build, "lib/shared.py": f"width = {number}"}
        nets.append(sa.load_model(f"{write(tmp_path / str(number), files)}/nets/model.py:build"))
    assert [net.out_features for net in nets] == [3, 5]
    assert "shared" not in sys.modules
    assert not any("lib" in Path(entry).parts[-1:] and str(tmp_path) in entry for entry in sys.path)


def test_nothing_is_written_beside_the_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    write(tmp_path, {"model.py": NET, "utils.py": "def width(): return 3"})
    sa.load_model(f"{tmp_path}/model.py:build")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.py", "utils.py"]


# ---- Packages


@pytest.mark.parametrize("init", [True, False])
def test_a_file_inside_a_package_imports_relatively(tmp_path, init) -> None:
    files = {"models/net.py": "from .parts.layer import Layer\ndef build(): return Layer()\n"}
    files |= {"models/parts/layer.py": "from torch import nn\nfrom ..sizes import N\nclass Layer(nn.Linear):\n"
              "    def __init__(self): super().__init__(N, N)\n", "models/sizes.py": "N = 7"}  # fmt: skip
    if init:
        files |= {"models/__init__.py": "", "models/parts/__init__.py": ""}
    assert sa.load_model(f"{write(tmp_path, files)}/models/net.py:build").in_features == 7


def test_a_file_that_shadows_its_own_package(tmp_path) -> None:
    files = {"former/__init__.py": "from .former import build\n", "former/layers.py": "N = 6\n"}
    files["former/former.py"] = (
        "from former.layers import N\nfrom torch import nn\ndef build(): return nn.Linear(N, N)\n"
    )
    for kept in (files, {key: text for key, text in files.items() if "__init__" not in key}):
        folder = write(tmp_path / str(len(kept)), kept)
        assert sa.load_model(f"{folder}/former/former.py:build").in_features == 6


@pytest.mark.parametrize("name", ["timm", "torch", "types"])
def test_a_file_that_bears_the_name_of_an_installed_package(tmp_path, name) -> None:
    text = f"import {name}\nfrom torch import nn\nassert {name}.__file__ != __file__\ndef build(): return nn.ReLU()\n"
    before = sys.modules[name]
    model = sa.load_model(f"{write(tmp_path, {f'{name}.py': text})}/{name}.py:build")
    assert isinstance(model, nn.ReLU)
    assert sys.modules[name] is before


def test_a_file_below_the_root_imports_from_the_root(tmp_path) -> None:
    files = {"model/__init__.py": "", "module/__init__.py": "from .parts import N\n", "module/parts.py": "N = 9\n"}
    files["model/net.py"] = "from module import *\nfrom torch import nn\ndef build(): return nn.Linear(N, 1)\n"
    assert sa.load_model(f"{write(tmp_path, files)}/model/net.py:build").in_features == 9


def test_a_module_by_its_dotted_name(tmp_path, monkeypatch) -> None:
    files = {"mine/__init__.py": "", "mine/nets.py": "from torch import nn\nfrom mine.sizes import N\n"
             "class Small(nn.Linear):\n    def __init__(self): super().__init__(N, 1)\n"
             "    @classmethod\n    def make(cls): return cls()\n", "mine/sizes.py": "N = 8\n"}  # fmt: skip
    monkeypatch.chdir(write(tmp_path, files))
    assert sa.load_model("mine.nets:Small").in_features == 8
    assert sa.load_model("mine.nets:Small.make").in_features == 8
    assert "mine" not in sys.modules
    assert isinstance(sa.load_model("torch.nn:ReLU"), nn.ReLU)
    assert failure("mine.other:build") == "mine.other:build: there is no module 'other' in mine"
    assert "there is no module 'nowhere' in this folder" in failure("nowhere.nets:Small")


# ---- Code written for older packages


def test_published_code_loads_as_it_is(tmp_path) -> None:
    write(tmp_path, PUBLISHED)
    entry, filters = timm.models.model_entrypoint("sdt_8_512"), list(warnings.filters)
    init = neuron.LIFNode.__init__
    model = sa.load_model(f"{tmp_path}/model.py:sdt_8_512", width=4, T=2)
    assert type(model.first.lif).__mro__[1] is neuron.LIFNode
    assert (model.first.lif.step_mode, model.first.lif.tau, model.first.lif.detach_reset) == ("m", 2.0, True)
    assert model.scale.device.type == model.offset.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    said = " ".join(model.provenance["code"]["replaced"])
    named = ["spikingjelly.clock_driven.neuron", "spikingjelly.clock_driven.layer", "backend='cupy'", "cv2: not inst"]
    for what in [*named, *([] if torch.cuda.is_available() else [".cuda(): left out", "device cuda"])]:
        assert what in said, what
    assert "cupy_of_old" not in said  # the file itself expects that to fail
    # Only while it loads:
    assert timm.models.model_entrypoint("sdt_8_512") is entry
    assert neuron.LIFNode.__init__ is init
    assert not hasattr(functional, "set_backend")
    assert list(warnings.filters) == filters
    with pytest.raises(TypeError, match="backend"):
        neuron.LIFNode(backend="cupy")
    with pytest.raises(ModuleNotFoundError):
        __import__("spikingjelly.clock_driven")
    with pytest.raises(AttributeError):
        _ = np.float


def test_published_code_is_profiled(tmp_path) -> None:
    write(tmp_path, PUBLISHED)
    model = sa.load_model(f"{tmp_path}/model.py:Net")
    run = sa.profile(model, [torch.rand(3, 3, 16, 16)])
    assert (run.time_steps, run.untrained) == (4, True)
    assert run.provenance["settings"]["model"]["code"]["factory"] == "Net"
    assert ModelInput.of(model).size == (16, 16)
    assert ModelInput.of(model).channels == 3


OLD = {
    "cext": ("from spikingjelly.cext.neuron import MultiStepIFNode as N", "N(v_threshold=2.0, detach_reset=True)"),
    "plif": ("from spikingjelly.clock_driven.neuron import MultiStepParametricLIFNode as N", "N(init_tau=2.0)"),
    "package": ("import spikingjelly.clock_driven as c", "c.neuron.MultiStepLIFNode(2.0, True, 1.0)"),
    "present": (
        "from spikingjelly.activation_based import functional, neuron",
        "(lambda n: (functional.set_backend(n, 'cupy'), n)[1])(neuron.LIFNode(step_mode='m', backend='cupy'))",
    ),
    "numpy": ("import numpy as np\nfrom torch import nn", "nn.Linear(int(np.arange(3, dtype=np.float)[2]), 1)"),
    "torch": ("from torch._six import inf, container_abcs\nfrom torch import nn", "nn.Threshold(inf, 0)"),
    "timm": ("from timm.models.layers.drop import DropPath\nfrom timm.models.helpers import load_pretrained",
             "DropPath(0.1)"),
    "moved": ("from torch import nn", "nn.Linear(2, 2).to('cuda:0').cuda()"),
}  # fmt: skip


@pytest.mark.parametrize("case", OLD)
def test_names_of_older_versions(tmp_path, case) -> None:
    start, expression = OLD[case]
    text = f"{start}\nclass_ = 1\ndef build():\n    return {expression}\n"
    model = sa.load_model(f"{write(tmp_path, {'old.py': text})}/old.py:build")
    assert isinstance(model, nn.Module)
    if isinstance(model, neuron.BaseNode):
        assert model.step_mode == "m"
        assert type(pickle.loads(pickle.dumps(model))) is type(model)


def test_multi_step_neurons_compute_what_they_did(tmp_path) -> None:
    text = "from spikingjelly.clock_driven.neuron import MultiStepLIFNode\n"
    text += "def build(): return MultiStepLIFNode(2.0, True, 1.0, 0.0, backend='cupy')\n"
    node = sa.load_model(f"{write(tmp_path, {'n.py': text})}/n.py:build")
    x = torch.randint(0, 5, (6, 4), generator=torch.Generator().manual_seed(0)) / 2
    v, spikes = torch.zeros(4), []
    for step in x:  # h = v + (x - v) / tau, hard reset
        h = v + (step - v) / 2
        spikes.append((h >= 1).float())
        v = h * (1 - spikes[-1])
    assert torch.equal(node(x), torch.stack(spikes))


def test_a_factory_finds_what_its_file_has_registered(tmp_path) -> None:
    text = "from timm.models import create_model\nfrom timm.models.registry import register_model\n"
    text += "from torch import nn\n@register_model\ndef mine(pretrained=False, **more): return nn.ReLU()\n"
    text += "def build(): return create_model('mine')\n"
    assert isinstance(sa.load_model(f"{write(tmp_path, {'m.py': text})}/m.py:build"), nn.ReLU)
    assert not timm.is_model("mine")


def test_a_copy_of_spikingjelly_that_a_repository_brings_is_the_one_it_gets(tmp_path) -> None:
    before = sys.modules["spikingjelly"]
    files = {"spikingjelly/__init__.py": "", "spikingjelly/clock_driven/__init__.py": ""}
    files["spikingjelly/clock_driven/neuron.py"] = (
        "from torch import nn\nclass LIFNode(nn.Module):\n    def forward(self, x): return (x > 7).float()\n"
    )
    files["net.py"] = "from spikingjelly.clock_driven.neuron import LIFNode\ndef build(): return LIFNode()\n"
    node = sa.load_model(f"{write(tmp_path, files)}/net.py:build")
    assert node(torch.tensor([6.0, 8.0])).tolist() == [0, 1]
    assert is_spiking_neuron(node)
    assert sys.modules["spikingjelly"] is before


def test_dynamics_that_would_be_left_aside_are_an_error(tmp_path) -> None:
    text = "from spikingjelly.clock_driven.neuron import MultiStepLIFNode\nfrom torch import nn\n"
    text += "class Mine(MultiStepLIFNode):\n    def neuronal_charge(self, x): self.v = self.v + x\n"
    text += "def build(): return nn.Sequential(nn.Linear(2, 2), Mine())\n"
    said = failure(f"{write(tmp_path, {'n.py': text})}/n.py:build")
    assert "Mine (module 1) changes its dynamics by neuronal_charge" in said
    other = "from spikingjelly.clock_driven.neuron import MultiStepLIFNode as N\ndef build(): return N(backend='lava')"
    assert "backend='lava'" in failure(f"{write(tmp_path, {'m.py': other})}/m.py:build")


def test_an_absent_package_that_is_used_is_an_error(tmp_path) -> None:
    used = {
        "called": "import cv2\nfrom torch import nn\ndef build():\n    cv2.resize(1)\n    return nn.ReLU()\n",
        "derived": "from mmcv_of_old.cnn import Base\nclass Net(Base): pass\ndef build(): return Net()\n",
        "at once": "import mmcv_of_old.cnn as cnn\ncnn.setup()\ndef build(): pass\n",
    }
    for number, text in enumerate(used.values()):
        said = failure(f"{write(tmp_path, {f'm{number}.py': text})}/m{number}.py:build")
        assert ("cv2.resize is used, and cv2 is not" in said) or ("mmcv_of_old is not installed" in said), said
        assert "line " in said
    late = "import cv2\nfrom torch import nn\nclass Net(nn.Module):\n    def forward(self, x): return cv2.blur(x)\n"
    model = sa.load_model(f"{write(tmp_path, {'late.py': late})}/late.py:Net")
    with pytest.raises(SpikeattnError, match="cv2.blur is used, and cv2 is not installed"):
        model(torch.ones(1))
    star = "from nowhere_of_old import *\ndef build(): pass\n"
    assert "No module named 'nowhere_of_old'" in failure(f"{write(tmp_path, {'star.py': star})}/star.py:build")


# ---- Errors


BAD = {
    "raises": ("def build(): raise KeyError('depth of the net')", "KeyError: 'depth of the net' (m.py, line 1)"),
    "own": ("class Odd(Exception): pass\ndef build():\n    raise Odd('why')", "build of {file}:build fails: Odd: why"),
    "import": ("x = 1\nraise ValueError('at once')", "cannot be loaded: ValueError: at once (m.py, line 2)"),
    "exit": ("import sys\nsys.exit(3)", "it ends the program (exit 3) (m.py, line 2)"),
    "syntax": ("x = 1\ndef build(:", "m.py is no Python, line 2"),
    "null": ("x = 1\0", "m.py is no Python"),
    "misspelt": ("def built(): pass", "'build': did you mean 'built'?"),
    "no module": ("def build(): return 3", "returns 3, and no torch module"),
    "pair": ("from torch import nn\ndef build(): return nn.ReLU(), 1", "returns a tuple with a module in it"),
    "value": ("build = 3", "is 3; give a class"),
    "needs": ("def build(depth, width, kind=1): pass", "needs depth, width; give --model-arg depth=VALUE"),
    "super": ("from torch.nn import Module as M\nclass build(M):\n    def __init__(self): pass", "must call super()"),
    "inside": ("import bad", "cannot be loaded: SyntaxError: invalid syntax (bad.py, line 1)"),
    "name": ("from spikingjelly.clock_driven.neuron import Nonsense", "cannot import name 'Nonsense'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_sentence(tmp_path, case) -> None:
    text, expected = BAD[case]
    modules = set(sys.modules)
    file = write(tmp_path, {"m.py": text, "bad.py": "def ("}) / "m.py"
    said = failure(f"{file}:build")
    assert expected.format(file=file) in said, said
    assert "\n" not in said
    assert "own_code" not in said
    assert not any(name.startswith("own_code") for name in set(sys.modules) - modules)


def test_addresses_that_lead_nowhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(write(tmp_path, {"model.py": "def build(): pass\nclass Net: pass", "notes.txt": "x"}))
    assert "there is no file modle.py; . holds model.py" in failure("modle.py:build")
    assert "is a folder; give the file in it (it holds model.py)" in failure(f"{tmp_path}:build")
    assert "notes.txt is no Python file" in failure("notes.txt:build")
    assert "give FILE.py:NAME, the class or function that builds it; in it are build, Net" in failure("model.py")
    assert "give FILE.py:NAME or package.module:NAME" in failure("model.py:")
    assert "did you mean 'sdt_8_512'" in failure("sdt_8_511")
    assert "FILE.py:NAME or package.module:NAME" in failure("sdt_8_511")
    assert "give the name of a model as text" in failure(3)


def test_arguments_of_a_factory(tmp_path) -> None:
    address = f"{write(tmp_path, {'model.py': NET, 'utils.py': 'def width(): return 3'})}/model.py"
    model = sa.load_model(f"{address}:build", depth=4)
    assert (model.depth, model.provenance["config"]) == (4, {"depth": 4, "mode": "0011", "size": 4})
    assert "'dept': did you mean 'depth'" in failure(f"{address}:build", dept=4)
    assert "takes no arguments; leave out depth" in failure(f"{address}:Net", depth=4)
    assert "takes no pretrained" in failure(f"{address}:build", pretrained=True)


# ---- What a run knows of it


def test_the_record_of_a_model(tmp_path) -> None:
    write(tmp_path, {"model.py": NET, "utils.py": "def width(): return 3"})
    address = f"{tmp_path}/model.py:build"
    code = sa.load_model(address, depth=2).provenance["code"]
    digests = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("model.py", "utils.py")}
    assert (code["file"], code["factory"], code["arguments"]) == (f"{tmp_path}/model.py", "build", {"depth": 2})
    assert (code["files"], code["sha256"], code["commit"]) == (digests, digests["model.py"], None)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    try:
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
            subprocess.run([*git, *words], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no git here")
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert sa.load_model(address).provenance["code"]["commit"] == head


def test_files_that_are_imported_when_it_runs_belong_to_the_record(tmp_path) -> None:
    files = {"model.py": LATE, "utils.py": "ADDED = 1", "parts/__init__.py": "", "parts/inner.py": "twice = abs"}
    model = sa.load_model(f"{write(tmp_path, files)}/model.py:build")
    assert set(model.provenance["code"]["files"]) == {"model.py", "utils.py", "parts/inner.py"}


@pytest.mark.parametrize(
    "wrapped", ["state_dict", "state_dict_ema", "model", "net", "module.", "_orig_mod.", "lightning"]
)
def test_checkpoints_as_they_are_published(tmp_path, wrapped) -> None:
    address = f"{write(tmp_path, {'model.py': NET, 'utils.py': 'def width(): return 3'})}/model.py:build"
    weights = {"fc.weight": torch.ones(3, 4), "fc.bias": torch.zeros(3)}
    content = {wrapped: weights}
    if wrapped.endswith("."):
        content = {"state_dict": {f"{wrapped}{key}": value for key, value in weights.items()}}
    if wrapped == "lightning":
        inside = {f"model.{key}": value for key, value in weights.items()}
        content = {"state_dict": inside, "epoch": 3, "pytorch-lightning_version": "2.0"}
    torch.save(content, tmp_path / "weights.pth")
    model = sa.load_model(address, checkpoint=tmp_path / "weights.pth")
    assert torch.equal(model.fc.weight, weights["fc.weight"])
    assert model.provenance["trained"] is True
    torch.save({"state_dict": {"fc.weight": weights["fc.weight"], "other": torch.ones(1)}}, tmp_path / "part.pth")
    said = failure(address, checkpoint=tmp_path / "part.pth")
    assert "1 missing, first fc.bias" in said
    assert "1 unexpected, first other" in said
    assert "Spike-driven" not in said


def test_weights_that_the_factory_loads_are_not_called_untrained(tmp_path) -> None:
    text = "from torch import nn\ndef build():\n    net = nn.Linear(1, 1)\n    net.load_state_dict(net.state_dict())\n"
    model = sa.load_model(f"{write(tmp_path, {'m.py': text + '    return net'})}/m.py:build")
    assert model.provenance["trained"] is None
    assert "load_state_dict" not in vars(model)


def test_what_a_factory_wraps_is_unwrapped(tmp_path) -> None:
    text = "import torch\nfrom torch import nn\ndef build(): return nn.DataParallel(nn.Linear(2, 2))\n"
    text += "def compiled(): return torch.compile(nn.Linear(2, 2), backend='eager')\n"
    for name in ("build", "compiled"):
        model = sa.load_model(f"{write(tmp_path, {'m.py': text})}/m.py:{name}")
        assert (type(model), model.provenance["trained"]) == (nn.Linear, False)


def test_a_model_of_ours_from_a_factory_of_ones_own(tmp_path) -> None:
    text = "import spikeattn as sa\ndef build(): return sa.create_model('sdt_digits', pretrained=True)\n"
    model = sa.load_model(f"{write(tmp_path, {'m.py': text})}/m.py:build")
    known = sa.create_model("sdt_digits", pretrained=True).provenance
    assert {key: model.provenance[key] for key in known} == known
    run = sa.profile(model, sa.make_loader(sa.open_dataset("digits", model), batch_size=4, limit=4))
    assert "ann_digits" in sa.compare(run).against


def test_other_names_are_taken_too() -> None:
    assert sa.load_model("sdt_digits", pretrained=True, time_steps=2).time_steps == 2
    assert sa.load_model("ann_digits").provenance["trained"] is False
    small = sa.load_model("vit_tiny_patch16_224", img_size=32, depth=1)
    assert (small.provenance["name"], small.img_size) == ("vit_tiny_patch16_224", (32, 32))


# ---- Neurons and calls of one's own

SPIKES = """
    import torch
    from torch import nn

    class Step(nn.Module):
        def forward(self, x):
            return (x > 0).to(x)

    class Unused(nn.Module):
        pass

    def build():
        return nn.Sequential(nn.Linear(4, 4), Step(), nn.Linear(4, 2))

    def twice(model, images):
        return model(images)
"""


def test_a_neuron_class_by_its_name(tmp_path) -> None:
    model = sa.load_model(f"{write(tmp_path, {'spikes.py': SPIKES})}/spikes.py:build")
    for name in ("Step", "spikes.Step"):
        found = neuron_predicate(model, [name])
        assert [found(module) for module in model] == [False, True, False]
        assert found(neuron.LIFNode())
    for name, expected in {
        "Stp": "unknown class of a neuron (--neuron-class) 'Stp': did you mean 'Step'",
        "Unused": "no module of the model is a Unused",
        "torch.nn.ReLU": "no module of the model is a ReLU",
        "nowhere.Step": "unknown class of a neuron",
    }.items():
        with pytest.raises(SpikeattnError) as caught:
            neuron_predicate(model, [name])
        assert expected in str(caught.value)


def test_a_function_comes_from_the_models_own_modules(tmp_path) -> None:
    address = f"{write(tmp_path, {'spikes.py': SPIKES, 'call.py': 'x = 1'})}/spikes.py"
    model = sa.load_model(f"{address}:build")
    found = function_at(f"{address}:twice", model, "--forward")
    assert found.__globals__["Step"] is type(model[1])
    assert model.provenance["functions"]["forward"]["name"] == "twice"
    with pytest.raises(SpikeattnError, match="call.py 'go'"):
        function_at(f"{tmp_path}/call.py:go", model, "--forward")
