"""Whatever form the batches of a loader have, the counts are those of (images, labels)."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.utils.data import DataLoader

import spikeattn as sa
from spikeattn.errors import SpikeattnError

T = 5
LABELS = [0, 2, 1, 1, 0, 2, 2]


class Steps(nn.Module):
    """[T, B, 6]: in one call of each layer, or step by step."""

    def __init__(self, loop: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.lif, self.loop = neuron.LIFNode(step_mode="s" if loop else "m"), loop
        with torch.no_grad():
            self.fc.weight.mul_(8)

    def step(self, x: Tensor) -> Tensor:
        return self.head(self.lif(self.fc(x)))

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.stack([self.step(x[t]) for t in range(len(x))]) if self.loop else self.step(x)
        return steps.mean(0)


class Pictures(nn.Module):
    """[B, 1, 4, 4], called by name as networks of transformers are, and its result is a dict."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.lif, self.head = nn.Conv2d(1, 4, 3), neuron.IFNode(step_mode="s"), nn.Linear(16, 3)
        with torch.no_grad():
            self.conv.weight.mul_(4)

    def forward(self, pixel_values: Tensor, labels: Any = None) -> dict[str, Tensor]:
        return {"logits": self.head(self.lif(self.conv(pixel_values)).flatten(1))}


def pictures() -> Tensor:
    return torch.rand(len(LABELS), 1, 4, 4, generator=torch.Generator().manual_seed(1))


def recordings() -> Tensor:
    return torch.rand(len(LABELS), T, 6, generator=torch.Generator().manual_seed(1))


def pairs(images: Tensor) -> list[tuple[Tensor, Tensor]]:
    labels = torch.tensor(LABELS)
    return [(images[i : i + 3], labels[i : i + 3]) for i in range(0, len(LABELS), 3)]


def same(one: sa.Profile, other: sa.Profile) -> bool:
    """Whether two runs have the same rows and counts, and the network fired in them."""
    assert other.counts.column("nnz", "lif").any()
    names = [tensor.name for tensor in other.ledger.tensors]
    counts = all(np.array_equal(one.counts.column("abs", n), other.counts.column("abs", n)) for n in names)
    rows = all(list(one.counts.rows[k]) == list(other.counts.rows[k]) for k in ("index", "label"))
    return counts and rows and one.ledger.hash() == other.ledger.hash() and one.time_steps == other.time_steps


FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "pixel_values": lambda x, y: {"pixel_values": x, "labels": y},
    "Mapping": lambda x, y: UserDict({"label": y.tolist(), "image": x, "id": y}),
    "array": lambda x, y: {"img": x.numpy(), "target": y.numpy()},
    "pair of arrays": lambda x, y: (x.numpy(), y.numpy()),
    "more than two": lambda x, y: (x, y.tolist(), ["a"] * len(x)),
    "per device": lambda x, y: [{"data": x, "label": y[:, None]}],
}


@pytest.mark.parametrize("form", FORMS)
def test_named_batches_and_arrays(form: str) -> None:
    model = Pictures()
    expected = sa.profile(model, pairs(pictures()))
    assert list(expected.counts.rows["label"]) == LABELS
    assert same(sa.profile(model, [FORMS[form](x, y) for x, y in pairs(pictures())]), expected)


def test_a_torch_loader_over_rows_with_names(tmp_path: Any) -> None:
    model = Pictures()
    rows: Any = [{"image": x, "label": y} for x, y in zip(pictures(), LABELS, strict=True)]
    loader = DataLoader(rows, batch_size=3)
    expected = sa.profile(model, pairs(pictures()))
    assert same(sa.profile(model, loader, tmp_path / "run"), expected)
    with pytest.raises(SpikeattnError, match="'label' is one number: a row of a data set"):
        sa.profile(model, rows)
    with pytest.raises(SpikeattnError, match=r"the loader is dict of 'image', 'label'; .* such as \[batch\]"):
        sa.profile(model, {"image": pictures(), "label": LABELS})


@pytest.mark.parametrize("loop", [False, True])
def test_time_first_is_told_by_the_labels(loop: bool) -> None:
    model = Steps(loop)
    expected = sa.profile(model, pairs(recordings()), forward=lambda net, x: net(x.transpose(0, 1)))
    assert expected.time_steps == T and expected.n_images == len(LABELS)
    first = [(x.transpose(0, 1), y) for x, y in pairs(recordings())]
    assert same(sa.profile(model, first), expected)
    assert same(sa.profile(model, [{"frames": x, "labels": y} for x, y in first]), expected)
    assert same(sa.profile(model, first, layout="TB"), expected)
    assert not sa.profile(model, [x for x, _ in first], layout="TB").counts.rows["label"].isin(LABELS).any()


def test_frames_that_a_forward_hands_on_one_by_one() -> None:
    def loop(net: nn.Module, x: Tensor) -> Tensor:
        return torch.stack([net(x[t]) for t in range(len(x))])

    first = [(x.transpose(0, 1), y) for x, y in pairs(recordings())]
    found, expected = sa.profile(Single(), first, forward=loop), sa.profile(Steps(), first)
    assert found.time_steps == T
    for name in ("lif", "input"):
        assert np.array_equal(found.counts.column("nnz", name), expected.counts.column("nnz", name))


class Single(Steps):
    """[B, 6], one step at each call."""

    def __init__(self) -> None:
        super().__init__(loop=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


def test_a_forward_of_ones_own_is_given_what_the_loader_gives() -> None:
    seen: list[tuple[int, ...]] = []

    def forward(net: nn.Module, x: Tensor) -> Any:
        seen.append(tuple(x.shape))
        return net(x)

    sa.profile(Steps(), [(x.transpose(0, 1), y) for x, y in pairs(recordings())], forward=forward)
    assert {shape[0] for shape in seen} == {T}


@pytest.mark.parametrize("loop", [False, True])
def test_where_nothing_tells_the_order_layout_is_asked_for(loop: bool) -> None:
    model, images = Steps(loop), recordings().transpose(0, 1)
    square = images[:, :T], torch.tensor(LABELS[:T])  # as many images as steps
    for batch in (images, square):
        with pytest.raises(SpikeattnError, match=r'where it is given \[T, B, .*nothing tells.*say layout="TB"'):
            sa.profile(model, [batch])
    assert sa.profile(model, [square], layout="TB").n_images == T


def test_a_network_that_takes_the_other_order_is_told_the_forward() -> None:
    for model, loader in (
        (Steps(), pairs(recordings())),
        (Turned(), [(x.transpose(0, 1), y) for x, y in pairs(recordings())]),
    ):
        with pytest.raises(SpikeattnError, match=r"for 3 images: give forward=.*model\(images.transpose\(0, 1\)\)$"):
            sa.profile(model, loader)
    with pytest.raises(
        SpikeattnError, match=r"\(the loader gives \[T, B, ...\], of shape \[4, 1, 4, 4\] for 1 images\)"
    ):
        sa.profile(Pictures(), [(pictures()[:4], torch.tensor([0]))])  # labels of other images


class Tokens(nn.Module):
    """[B, N, 6]: each token by itself, so that neither axis joins anything; time is that of the neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.head = nn.Linear(6, 8), neuron.IFNode(step_mode="m"), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif(self.fc(x).expand(4, *x.shape[:-1], 8))).mean(0)


def test_labels_of_other_images_are_no_sign_of_time() -> None:
    batch = torch.rand(6, 5, 6), torch.arange(5)
    with pytest.raises(SpikeattnError, match=r"shape \[6, 5, 6\] and 5 labels, and Tokens does not take axis 0"):
        sa.profile(Tokens(), [batch])
    assert sa.profile(Tokens(), [batch], layout="TB").n_images == 5


class Turned(Steps):
    """[B, T, 6]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1))


def test_record_can_be_told_the_order() -> None:
    model, x = Steps(), recordings()
    expected = sa.profile(model, [x[:T]], forward=lambda net, x: net(x.transpose(0, 1)))
    with sa.record(model, layout="TB") as rec:
        model(x[:T].transpose(0, 1))
    assert np.array_equal(rec.profile().counts.column("nnz", "lif"), expected.counts.column("nnz", "lif"))
    other = Steps()
    with pytest.raises(SpikeattnError, match="Steps mixes images"), sa.record(other, layout="BT"):
        other(x[:T].transpose(0, 1))
    with pytest.raises(SpikeattnError, match=r"called with a tensor of shape \(7, 6\)"), sa.record(other, layout="TB"):
        other(x[:, 0])


def test_record_names_the_tensors_of_a_call() -> None:
    model, x = Pictures(), pictures()
    with pytest.raises(SpikeattnError, match=r"2 tensors \(pixel_values, labels\).*without labels"), sa.record(model):
        model(pixel_values=x, labels=torch.tensor(LABELS))


def test_structure_takes_any_form() -> None:
    expected = {entry.name for entry in sa.structure(Pictures(), pictures()).entries["synapses"]}
    for images in ({"label": torch.tensor(LABELS), "image": pictures()}, pairs(pictures()), [{"image": pictures()}]):
        assert {e.name for e in sa.structure(Pictures(), images).entries["synapses"]} == expected == {"conv", "head"}
    first = [(x.transpose(0, 1), y) for x, y in pairs(recordings())]
    assert {e.name for e in sa.structure(Steps(), first).entries["synapses"]} == {"fc", "head"}


def test_attend_says_which_part_of_a_batch_it_takes() -> None:
    for images, part in (({"pixel_values": pictures()}, "its tensor of images"), (pairs(pictures()), "of one batch")):
        with pytest.raises(SpikeattnError, match=part):
            sa.attend(Pictures(), images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pictures().mul(255).byte(), r"so convert the images, scaled as .*images.to\(torch.float32\) / 255\)$"),
        (pictures() > 0.5, r"its weights are torch.float32, so convert the images, in the loader"),
        (pictures().to_sparse(), r"images.to_dense\(\)"),
    ],
)
def test_images_of_another_type_say_what_to_do(images: Tensor, message: str) -> None:
    with pytest.raises(SpikeattnError, match=message):
        sa.profile(Pictures(), [(images, torch.tensor(LABELS))])


def test_one_hot_labels_say_what_to_do() -> None:
    with pytest.raises(SpikeattnError, match=r"labels of shape \(7, 3\).*labels.argmax\(1\)"):
        sa.profile(Pictures(), [(pictures(), torch.eye(3)[LABELS])])


def test_what_torch_cannot_collate_says_what_to_do() -> None:
    for rows, message in (
        ([{"image": object(), "label": 0}] * 2, "convert the images to tensors"),
        ([(torch.rand(n, 6), 0) for n in (4, 5)], r"ToFrame\(n_time_bins=T\)"),
    ):
        with pytest.raises(SpikeattnError, match=message):
            sa.profile(Pictures(), DataLoader(rows, batch_size=2))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ the libraries, where they are installed
def test_hugging_face_datasets() -> None:
    datasets = pytest.importorskip("datasets")
    model, expected = Pictures(), sa.profile(Pictures(), pairs(pictures()))
    rows = datasets.Dataset.from_dict({"image": pictures().numpy().tolist(), "label": LABELS})
    for data in (rows.with_format("torch"), rows.with_format("numpy"), rows.to_iterable_dataset().with_format("torch")):
        assert same(sa.profile(model, DataLoader(data, batch_size=3)), expected)
        with pytest.raises(SpikeattnError, match=r"no batches: give torch.utils.data.DataLoader\(dataset.with_f"):
            sa.profile(model, data)
    assert same(sa.profile(model, DataLoader(rows.with_format("torch").batch(3), batch_size=None)), expected)
    with pytest.raises(SpikeattnError, match=r"with_format\(\"torch\"\)"):
        sa.profile(model, DataLoader(rows, batch_size=3))
    with pytest.raises(SpikeattnError, match=r"DatasetDict of 'train', 'test'; give one of these splits"):
        sa.profile(model, datasets.DatasetDict(train=rows, test=rows))


@pytest.mark.parametrize("batch_first", [False, True])
def test_tonic_loaders(batch_first: bool) -> None:
    tonic = pytest.importorskip("tonic")
    events = np.random.default_rng(0)
    frame = tonic.transforms.ToFrame(sensor_size=(3, 1, 2), n_time_bins=T)
    data = []
    for label in LABELS:
        one = np.zeros(90, dtype=[("x", int), ("y", int), ("t", int), ("p", int)])
        one["x"], one["p"] = events.integers(0, 3, 90), events.integers(0, 2, 90)
        one["t"] = np.sort(events.integers(0, 1000, 90))
        data.append((frame(one).reshape(T, 6), label))
    images = torch.stack([torch.from_numpy(x) for x, _ in data]).float()
    model = Turned() if batch_first else Steps()
    loader = DataLoader(data, batch_size=3, collate_fn=tonic.collation.PadTensors(batch_first=batch_first))  # type: ignore[arg-type]
    assert same(sa.profile(model, loader), sa.profile(Turned(), pairs(images)))
