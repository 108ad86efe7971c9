"""Arguments of another type or outside their range are one sentence that names them, not a failure further down."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import spikeattn as sa
from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError
from spikeattn.runs.shards import merge_shards

IMAGES, LABELS = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 3, torch.arange(4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.lif = layer.Conv2d(1, 4, 3, step_mode="m"), neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.head = nn.Linear(144, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif(self.conv(x.unsqueeze(0).repeat(2, 1, 1, 1, 1))).flatten(2)).mean(0)


class Half(nn.Module):
    def __init__(self) -> None:
        self.without = "super"


@pytest.fixture(scope="module")
def profile() -> sa.Profile:
    return sa.profile(Net(), [(IMAGES, LABELS)])


def refused(message: str, call: Callable, *args, **options) -> None:
    with pytest.raises(SpikeattnError, match=message) as error:
        call(*args, **options)
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


# ---------------------------------------------------------------- models
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "the model is NoneType; give a torch module"),
        (lambda x: x, "the model is function; give a torch module, and other calls as forward="),
        (partial(Net()), "the model is partial; give a torch module"),
        (Net().forward, "the model is method; give a torch module"),
        (Net, r"the model is the class Net; give an instance of it, Net\(...\)"),
        ("spikformer", "the model is the text 'spikformer'; give a torch module, such as spikeattn.create_model"),
        (Net().state_dict(), "the model is OrderedDict of weights, a state_dict; load it into its network"),
        ({"state_dict": Net().state_dict()}, "the model is dict of 'state_dict'; build the network"),
        ([Net()], "the model is list; give a torch module"),
        (Half(), "Half is no whole module: let Half.__init__ call super"),
        (nn.Linear(2, 2), "Linear has no spiking neurons"),
        (nn.ModuleList([neuron.LIFNode()]), "ModuleList fails on 2 of the 4 images .*missing the required"),
    ],
)
def test_what_is_no_model(model: object, message: str) -> None:
    refused(message, sa.profile, model, [IMAGES])


# ---------------------------------------------------------------- loaders
class Broken(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Tensor:
        if i == 3:
            raise FileNotFoundError("gone.png")
        return IMAGES[i]


def read_to_its_end() -> object:
    iterator = iter([IMAGES])
    list(iterator)
    return iterator


def dies() -> object:
    yield IMAGES
    raise ValueError("the reader died")


DATA = TensorDataset(IMAGES, LABELS)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (lambda: None, "the loader is NoneType; give an iterable of batches"),
        (
            lambda: IMAGES,
            r"the loader is one Tensor of shape \(4, 1, 8, 8\); give a list of batches: "
            r"sa.profile\(model, \[images\]\)",
        ),
        (lambda: IMAGES.numpy(), r"the loader is one ndarray of shape .*: sa.profile\(model, \[images\]\)$"),
        (lambda: IMAGES[0], r"one Tensor of shape \(1, 8, 8\); .*, or \[images\[None\]\] where it is one image"),
        (lambda: list(IMAGES), r"4 Tensors of shape \(1, 8, 8\), each of which .*model, \[torch.stack\(images\)\]\)$"),
        (lambda: list(IMAGES.numpy()), r"a list of 4 ndarrays of shape .*\[numpy.stack\(images\)\]\)$"),
        (lambda: (IMAGES, LABELS), r"the images and labels of one batch, in a tuple; .*: \[\(images, labels\)\]"),
        (lambda: [IMAGES, [0, 1, 2, 3]], "the images and labels of one batch, in a list"),
        (lambda: {"images": IMAGES}, "the loader is dict of 'images'; give a list of batches"),
        (lambda: "cifar10", "the loader is the text 'cifar10'; spikeattn.make_loader"),
        (lambda: DATA, "the loader is TensorDataset; it is a data set, .*DataLoader"),
        (lambda: DataLoader, "the loader is type; give an iterable of batches"),
        (lambda: DataLoader(DATA, 8, drop_last=True), "the loader gave no image to profile: .*drop_last"),
        (read_to_its_end, "the loader gave no image to profile: .*an iterator that has been read to its end"),
        (dies, "batch 1 of the loader cannot be read: ValueError: the reader died"),
        (lambda: DataLoader(Broken(), 2), "batch 1 of the loader cannot be read: FileNotFoundError: gone.png"),
        (lambda: DataLoader(Broken(), 2, num_workers=1), "batch 1 .* cannot be read: FileNotFoundError: gone.png;"),
        (lambda: [Image.new("L", (8, 8))] * 4, "batch 0 of the loader is Image; expected"),
        (lambda: [list(IMAGES)], "batch 0 of the loader is a list of 4 tensors of one shape.*torch.stack"),
        (lambda: [IMAGES[:2], IMAGES[2:].double()], "Net fails on a batch of shape .* and type torch.float64"),
        (lambda: [(IMAGES, LABELS[:3])], "4 images and 3 labels; give one whole number per image"),
        (lambda: [(IMAGES, LABELS.to(torch.complex64))], r"labels that are no numbers \(complex\)"),
        (lambda: [(IMAGES, LABELS.to("meta"))], r"labels that are no numbers \(on the meta device\)"),
    ],
)
def test_what_is_no_loader(loader: Callable, message: str) -> None:
    refused(message, sa.profile, Net(), loader())


@pytest.mark.parametrize("labels", [LABELS.to(torch.uint64), LABELS.bool(), list(LABELS), LABELS.double(), None])
def test_labels_of_any_type(labels: object) -> None:
    assert sa.profile(Net(), [(IMAGES, labels)]).n_images == 4


# ---------------------------------------------------------------- arguments of profile
def neurons(module: nn.Module) -> bool:
    return module.nothing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"time_steps": v}, "time_steps is .*; give a whole number of at least 1") for v in (True, 1.5, "2", [2], 0)],
        *[({"levels": v}, "levels is .*; give a whole number of at least 1") for v in (True, 1.5, "2", 0)],
        *[({"spike_output": v}, "spike_output is .*; give a whole number") for v in (True, 1.5, "0", [0], -1)],
        *[({"save_every": v}, "save_every is .*; give a number of at least 0") for v in (None, "3", True, -1, np.nan)],
        *[({"shard": v}, "shard is .*; give i/n as text") for v in (None, 3, (0, 1), 0.5)],
        *[({"out": v}, "out is .*; give a path") for v in (3, True, ["a"], b"a", IMAGES)],
        *[({"out": v}, "out is '.*', which no folder can be called") for v in ("", "a\0b")],
        *[({"forward": v}, "forward is .*; give a function of the model and a batch") for v in (None, "x", 3)],
        *[({"plain": v}, "plain is .*; give True or False") for v in ("False", 1, [])],
        *[({name: 1}, f"{name} is 1; give True or False") for name in ("strict", "resume", "progress", "allow_mixed")],
        *[({"ranks": v}, "ranks is .*; give what spikeattn.runs.ranks.join") for v in (3, "x", (0, 1))],
        *[({"provenance": v}, "provenance is .*; give a dict") for v in ("x", [1], {"a": IMAGES}, {"settings": 1})],
        *[({"input": v}, "input is .*; valid are 'events'") for v in ("event", 3, ["events"])],
        ({"neurons": neurons}, "neurons= fails on a Net of the model: AttributeError"),
        ({"neurons": lambda: True}, "neurons= fails on a Net of the model: TypeError"),
    ],
)
def test_arguments_of_profile(options: dict, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(message, sa.profile, Net(), [IMAGES], **({"out": "run"} | options))
    assert not list(tmp_path.iterdir())


def test_whole_numbers_of_numpy_are_whole_numbers(profile: sa.Profile) -> None:
    assert sa.profile(Net(), [IMAGES], time_steps=np.int64(2)).time_steps == 2
    table = profile.energy(replicates=np.int64(200), seed=np.int32(1), confidence=np.float32(0.5))
    assert np.isfinite(table.total.high)
    assert sa.compare(profile, gamma=np.float32(0.5)).prices["gamma"].max() == 0.5


# ---------------------------------------------------------------- arguments of the tables
RESAMPLED = {
    "energy": lambda profile, **options: profile.energy(**options),
    "energy by label": lambda profile, **options: profile.energy(by="label", **options),
    "rates": lambda profile, **options: profile.rates(**options),
    "rates by label": lambda profile, **options: profile.rates(by="label", **options),
    "components": lambda profile, **options: profile.components(**options),
    "compare": lambda profile, **options: sa.compare(profile, **options),
}


@pytest.mark.parametrize("call", RESAMPLED)
@pytest.mark.parametrize("name", ["replicates", "seed", "confidence"])
def test_settings_of_the_bootstrap(profile: sa.Profile, call: str, name: str) -> None:
    """Also where one image has no interval, so that nothing is resampled in the end."""
    wrong = {
        "replicates": (None, 0, -1, 99, 1.5, 2000.0, "2000", True, [2000], np.nan, 2**70, IMAGES),
        "seed": (None, -1, 1.5, "0", True, [0], np.nan, IMAGES),
        "confidence": (None, 0, 1, 2, 95, -1, "0.95", True, [0.9], np.nan, 1j, IMAGES),
    }
    for value in wrong[name]:
        refused(f"{name} is ", RESAMPLED[call], profile, **{name: value})


PRICED = {name: RESAMPLED[name] for name in ("energy", "components", "compare")}
PRICED["sweep"] = lambda profile, **options: sa.sweep(profile, **options)
PRICED["summary"] = lambda profile, **options: profile.summary(**options)


@pytest.mark.parametrize("call", PRICED)
def test_costs_and_conventions(profile: sa.Profile, call: str) -> None:
    for value in (None, 3, True, {}, b"x"):
        refused("costs is .*; give one cost table", PRICED[call], profile, costs=value)
    if call in ("compare", "sweep"):
        refused("costs is empty; give at least one cost table", PRICED[call], profile, costs=[])
        refused("costs is None; give one cost table", PRICED[call], profile, costs=[None])
    if call == "components":
        refused("model is 3; give an energy model or the name of one: compute", profile.components, model=3)
        return
    for value in (None, 3, True, []):
        refused("convention is .*; give a name of list_conventions", PRICED[call], profile, convention=value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"rate_scales": v}, "rate_scales is .*; give a list of numbers") for v in (None, 3, "123", {1: 2}, IMAGES)],
        *[({"rate_scales": [v]}, "a rate scale is .*; it must be a finite number") for v in (None, "1", True, 1j, -1)],
        *[({"ann_macs": v}, "ann_macs is .*; give a whole number") for v in ("x", -1, 1.5, np.nan, True, [])],
    ],
)
def test_arguments_of_sweep(profile: sa.Profile, options: dict, message: str) -> None:
    refused(message, sa.sweep, profile, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda profile: profile.operations(per_image="x"), "per_image is 'x'; give True or False"),
        (lambda profile: profile.operations(first_conv=[]), "unknown value of switch 'first_conv'"),
        (lambda profile: profile.save(3), "path is 3; give a path as text"),
        (lambda profile: sa.Profile.load(None), "path is None; give a path as text"),
        (lambda profile: sa.Profile.load(""), "path is '', which no folder can be called"),
        (lambda profile: sa.compare("x"), "profile is 'x'; give the result of spikeattn.profile"),
        (lambda profile: sa.sweep(Net), "profile is the class Net; give the result of spikeattn.profile"),
        (lambda profile: sa.waterfall(profile, profile), "convention is a Profile; give a name of list_conventions"),
        (lambda profile: sa.measure_gamma(None, [IMAGES]), "the model is NoneType; give a torch module"),
        (lambda profile: sa.measure_gamma(nn.Linear(3, 2), [IMAGES]), "Linear fails on a batch of shape"),
        (lambda profile: sa.energy_from_rates(3, "sdt_digits"), "rates is 3; give a path"),
        (lambda profile: sa.spurious_energy(profile, None), "the attention is None; give what spikeattn.attend"),
        (lambda profile: sa.attend(None, IMAGES), "the model is NoneType; give a torch module"),
        (lambda profile: sa.attend(Net(), IMAGES, null=3), "unknown null 3: valid are"),
        (lambda profile: sa.attend(Net(), IMAGES, memory="x"), "memory='x': give the GiB"),
        (lambda profile: merge_shards(3, "out"), "folders is 3; give the folders of all shards in a list"),
        (lambda profile: merge_shards([3], "out"), "a folder is 3; give a path as text"),
        (lambda profile: sa.create_model(None), "name is None; give the name of a model as text"),
        (lambda profile: sa.open_dataset(None), "the data set is None; give its name as text"),
        (lambda profile: sa.make_loader(DATA), "dataset is a TensorDataset; give what spikeattn"),
    ],
)  # fmt: skip
def test_other_public_functions(profile: sa.Profile, call: Callable, message: str) -> None:
    refused(message, call, profile)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"batch_size": v}, "batch_size is .*; give a whole number of at least 1") for v in (None, "2", 1.5, 0)],
        *[({"limit": v}, "limit is .*; give a whole number of at least 1") for v in ("1", 1.5, True, 0)],
        *[({"sample": 2, "seed": v}, "seed is .*; give a whole number from 0") for v in (None, 1.5, "x", -1)],
        *[({"workers": v}, "workers is .*; give a whole number of at least 0") for v in ("1", 1.5, -1)],
        ({"skip_batches": 3}, "skip_batches is 3; give the numbers of the batches in a list"),
    ],
)
def test_arguments_of_make_loader(options: dict, message: str) -> None:
    refused(message, sa.make_loader, sa.open_dataset("digits"), **options)


class Endless(Net):
    def forward(self, x: Tensor) -> Tensor:
        raise MemoryError(f"first line{chr(10)}{'more lines ' * 100}")


def test_the_reason_is_one_line_with_the_advice_of_the_machine() -> None:
    refused("MemoryError: first line; the memory is not enough: give smaller batches", sa.profile, Endless(), [IMAGES])


def test_a_value_that_holds_itself_is_shown_by_its_type():
    ring: list = [1]
    ring.append(ring)
    assert shown(ring) == "a list"
    assert (shown([1, [2, (3,)]]), shown([1, [2]]), shown(())) == ("a list", "[1, [2]]", "()")
