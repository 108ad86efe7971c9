"""Odd models get a profile whose counts are those of brute force, or one clear sentence; never another exception."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from tests.counting.networks import hooks_of

T = 3
IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 3


def lif() -> neuron.LIFNode:
    return neuron.LIFNode(v_threshold=0.3, step_mode="m")


class Net(nn.Module):
    """Convolution, LIF, convolution, LIF, head; `form` makes its output of the logits."""

    def __init__(self, form: Callable = lambda y: y, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv1 = layer.Conv2d(1, 4, 3, padding=1, step_mode="m")
        self.conv2 = layer.Conv2d(4, 6, 3, stride=2, padding=1, step_mode="m")
        self.lif1, self.lif2, self.head, self.form = lif(), lif(), nn.Linear(96, classes), form

    def forward(self, x: Tensor):
        return self.form(self.head(self.body(x)).mean(0))

    def body(self, x: Tensor) -> Tensor:
        x = self.lif1(self.conv1(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)))
        return self.lif2(self.conv2(x)).flatten(2)


def by_layer(net: Net, images: Tensor = IMAGES) -> tuple[Tensor, Tensor]:
    """Additions of every image by brute force, of the second convolution and of the head: one per weight that a
    non-zero input meets."""
    with torch.no_grad():
        first = net.lif1(net.conv1(images.unsqueeze(0).repeat(T, 1, 1, 1, 1)))
        second = net.lif2(net.conv2(first))
    functional.reset_net(net)
    meets = F.conv2d((first != 0).double().flatten(0, 1), torch.ones(6, 4, 3, 3).double(), stride=2, padding=1)
    classes = net.head.weight.shape[0]
    return meets.flatten(1).sum(1).view(T, -1).sum(0), (second != 0).flatten(2).sum((0, 2)) * classes


def additions(net: Net, images: Tensor = IMAGES) -> list[int]:
    """The same of both layers together."""
    conv, head = by_layer(net, images)
    return (conv + head).long().tolist()


def sops(net: nn.Module, images: Tensor = IMAGES, **options) -> list[int]:
    profile = sa.profile(net, [images[:3], images[3:]], **options)
    profile.summary()
    per_image = profile.operations(per_image=True)
    return per_image.groupby("image").sops.sum().tolist()


@pytest.fixture(scope="module")
def expected() -> list[int]:
    return additions(Net())


def changed(change: Callable[[nn.Module], object]) -> nn.Module:
    net = Net()
    change(net)
    return net


def refused(net: object, message: str, loader: object = None, **options) -> None:
    plain = isinstance(net, nn.Module) and not isinstance(net, torch.jit.ScriptModule)
    before = hooks_of(net) if plain else []
    with pytest.raises(SpikeattnError, match=message) as error:
        sa.profile(net, [IMAGES] if loader is None else loader, **options)
    assert len(str(error.value)) < 700
    if plain:
        assert hooks_of(net)[: len(before)] == before


# ---------------------------------------------------------------- parts that are compiled
def traced(part: nn.Module, *shape: int) -> nn.Module:
    return torch.jit.trace(part, torch.rand(shape))


class Leaf(torch.fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, (neuron.BaseNode, nn.Conv2d)) or super().is_leaf_module(module, name)


def graph() -> nn.Module:
    net = Net().eval()
    return torch.fx.GraphModule(net, Leaf().trace(net))


def traced_convolution(net: nn.Module) -> None:
    plain = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    plain.load_state_dict(net.conv2.state_dict())
    net.conv2 = layer.SeqToANNContainer(traced(plain, 6, 4, 8, 8))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    "net",
    [
        lambda: changed(lambda net: setattr(net, "head", torch.jit.script(net.head))),
        lambda: changed(lambda net: setattr(net, "head", traced(net.head, 3, 2, 96))),
        lambda: changed(traced_convolution),
        graph,
    ],
    ids=["scripted head", "traced head", "traced convolution", "torch.fx"],
)
def test_compiled_layers_are_counted(net: Callable[[], nn.Module], expected: list[int]) -> None:
    assert sops(net()) == expected


class OwnNeuron(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.3).to(x)


class Wrapped(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


def without_neurons() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), OwnNeuron(), nn.Linear(8, 3)).eval()


def exported() -> nn.Module:
    return torch.export.export(without_neurons(), (IMAGES,)).module()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            lambda: torch.jit.script(without_neurons()),
            "the model is a Sequential that torch.jit",
        ),
        (lambda: torch.jit.trace(Net().eval(), IMAGES, check_trace=False), "the model is a Net that torch.jit has"),
        (
            lambda: Wrapped(torch.jit.trace(Net().eval(), IMAGES, check_trace=False)),
            "part part of the model is a Net that torch.jit has .*give the module that it was made of",
        ),
        (exported, "the model is a graph that torch.export has made"),
        (
            lambda: changed(lambda net: setattr(net, "more", exported())),
            "part more of the model is a graph that torch.export",
        ),
        (lambda: torch.export.export(without_neurons(), (IMAGES,)), "the model is ExportedProgram, in which neurons"),
        (lambda: torch.fx.symbolic_trace(Wrapped(OwnNeuron())), "a graph of torch.fx without a spiking neuron"),
    ],
    ids=["script", "trace", "traced part", "export", "exported part", "program", "torch.fx"],
)
def test_compiled_neurons_are_one_clear_error(net: Callable[[], nn.Module], message: str) -> None:
    refused(net(), message)


# ---------------------------------------------------------------- weights and buffers
def nested(layout: torch.layout) -> Tensor:
    return torch.nested.nested_tensor([torch.rand(2), torch.rand(3)], layout=layout)


BUFFERS = {
    "COO": lambda: torch.eye(4).to_sparse(),
    "CSR": lambda: torch.eye(4).to_sparse_csr(),
    "CSC": lambda: torch.eye(4).to_sparse_csc(),
    "BSR": lambda: torch.eye(4).to_sparse_bsr((2, 2)),
    "float8": lambda: torch.ones(4).to(torch.float8_e4m3fn),
    "quantised": lambda: torch.quantize_per_tensor(torch.rand(4), 0.1, 0, torch.qint8),
    "per channel": lambda: torch.quantize_per_channel(torch.rand(4, 2), torch.ones(4), torch.zeros(4), 0, torch.quint8),
    "nested": lambda: nested(torch.strided),
    "jagged": lambda: nested(torch.jagged),
    "complex": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "bool": lambda: torch.ones(3, dtype=torch.bool),
    "uint64": lambda: torch.ones(3, dtype=torch.uint64),
    "bits": lambda: torch.ones(3, dtype=torch.uint8).view(torch.bits8),
    "empty": lambda: torch.empty(0),
    "mask": lambda: torch.full((4, 4), float("-inf")).triu(1),
}


@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|sparse csr|nested|Nested|quantize|TypedStorage).*")
@pytest.mark.parametrize("kind", BUFFERS)
@pytest.mark.parametrize("place", ["buffer", "attribute"])
def test_buffers_of_any_kind(kind: str, place: str, expected: list[int]) -> None:
    net, tensor = Net(), BUFFERS[kind]()
    if place == "buffer":
        net.register_buffer("odd", tensor)
    else:
        net.odd = {"odd": [tensor, None], 3: torch.rand(2, device="meta")}
    assert sops(net) == expected


class Causal(nn.Module):
    """Attention whose mask adds -inf to what comes later."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.lif1, self.lif2, self.head = nn.Linear(8, 8), lif(), lif(), nn.Linear(8, 3)
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.register_buffer("mask", torch.full((8, 8), float("-inf")).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif1(self.embed(x.squeeze(1).unsqueeze(0).repeat(T, 1, 1, 1)))
        votes = (self.q(x) @ self.k(x).mT + self.mask).softmax(-1) @ self.v(x)
        return self.head(self.lif2(votes).mean(2)).mean(0)


def test_a_causal_mask_is_no_damaged_weight() -> None:
    net = Causal().eval()
    profile = sa.profile(net, [IMAGES])
    layers = profile.operations().set_index("synapse").sops
    ones = profile.counts.column("nnz", "lif1").sum()
    assert ones and [layers[name] for name in "qkv"] == [8 * ones] * 3
    assert [entry.op for entry in profile.ledger.uncounted] == ["_softmax"]


def batch_norm(entry: str, value: str) -> nn.Module:
    net = Net()
    net.conv1 = layer.SeqToANNContainer(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
    getattr(net.conv1[1], entry)[0] = float(value)
    return net


def head(value: str) -> nn.Module:
    return changed(lambda net: net.head.weight.data[0].fill_(float(value)))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: head("nan"), "head.weight of the model holds NaN or infinite values; load an"),
        (lambda: head("-inf"), "weight head.weight .* infinite"),
        (lambda: batch_norm("running_var", "inf"), "weight conv1.1.running_var .* infinite"),
        (lambda: batch_norm("running_mean", "nan"), "weight conv1.1.running_mean .* NaN"),
        (lambda: changed(lambda net: net.register_buffer("odd", torch.tensor([float("nan")]))), "odd .* holds NaN;"),
        (lambda: changed(lambda net: setattr(net, "head", nn.LazyLinear(5))), "weight head.weight .* has no size yet"),
        (lambda: changed(lambda net: setattr(net, "head", nn.Linear(96, 5, device="meta"))), "head.* meta device"),
    ],
    ids=["nan", "-inf", "variance", "mean", "buffer", "lazy", "meta"],
)  # fmt: skip
def test_weights_without_values_and_damaged_ones_are_errors(net: Callable[[], nn.Module], message: str) -> None:
    refused(net(), message)


class Float8(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x))


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "head", Float8(net.head)),
        lambda net: setattr(net, "head", parametrizations.weight_norm(net.head)),
        lambda net: setattr(net, "head", parametrizations.spectral_norm(net.head)),
        lambda net: prune.l1_unstructured(net.head, "weight", 0.5),
        lambda net: setattr(net, "__dict__", net.__dict__ | {"parts": [net._modules.pop("head")]}),
    ],
    ids=["float8", "weight norm", "spectral norm", "pruned", "plain list"],
)
def test_weights_in_other_places(change: Callable[[nn.Module], object], expected: list[int]) -> None:
    net = changed(change)
    if "parts" in vars(net):
        net.forward = lambda x: net.parts[0](net.body(x)).mean(0)
    profile = sa.profile(net, [IMAGES])
    assert profile.operations().sops.sum() == sum(expected) and not profile.ledger.uncounted


# ---------------------------------------------------------------- neurons that nobody knows
class Late(Net):
    """Makes a neuron on the way."""

    def body(self, x: Tensor) -> Tensor:
        if not hasattr(self, "late"):
            self.late = lif()
        x = self.lif1(self.conv1(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)))
        return self.late(self.conv2(x)).flatten(2)


class Listed(Net):
    def body(self, x: Tensor) -> Tensor:
        x = self.lif1(self.conv1(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)))
        return next(iter(self.kept))(self.conv2(x)).flatten(2)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (lambda: [lif()], "module Listed.kept keeps spiking neurons in a plain list"),
        (lambda: {lif()}, "Listed calls a LIFNode that is no part of it when the run begins"),
    ],
    ids=["list", "set"],
)
def test_neurons_that_are_no_part_of_the_model_are_an_error(kept: Callable, message: str) -> None:
    net = Listed()
    net.kept = kept()
    refused(net, message)
    assert not torch.nn.modules.module._global_forward_hooks


def test_a_neuron_that_forward_makes_is_an_error() -> None:
    refused(Late(), "Late calls a LIFNode that is no part of it .*make it in __init__")


# ---------------------------------------------------------------- what comes out
@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


Pair = namedtuple("Pair", "loss logits")

OUTPUTS = {
    "None": lambda y: None,
    "(None, y)": lambda y: (None, y),
    "dict": lambda y: {"loss": None, "logits": y},
    "dataclass": Output,
    "namedtuple": lambda y: Pair(None, y),
    "list": lambda y: [y, y],
    "empty": lambda y: (),
    "object": lambda y: SimpleNamespace(logits=y),
    "loss": lambda y: y.sum(),
    "loss first": lambda y: (y.sum(), y),
    "complex": lambda y: torch.view_as_complex(torch.stack([y, y], -1)),
    "bool": lambda y: y > 0,
    "classes": lambda y: y.argmax(-1),
    "half": lambda y: y.half(),
    "float8": lambda y: y.to(torch.float8_e4m3fn),
    "sparse": lambda y: y.to_sparse(),
    "quantised": lambda y: torch.quantize_per_tensor(y, 0.1, 0, torch.qint8),
    "meta": lambda y: y.to("meta"),
}


@pytest.mark.filterwarnings("ignore:.*quantize.*")
@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_of_any_kind(kind: str, expected: list[int]) -> None:
    net = Net(OUTPUTS[kind])
    assert sops(net) == expected
    rows = sa.profile(net, [IMAGES]).counts.rows
    with torch.no_grad():
        logits = net.head(net.body(IMAGES)).mean(0)
    if kind in ("(None, y)", "dict", "dataclass", "namedtuple", "list", "loss first"):
        assert rows[f"pred_{T}"].tolist() == logits.argmax(1).tolist()


def test_a_loss_that_is_not_finite_is_no_matter_but_logits_that_are_not_are() -> None:
    refused(Net(lambda y: (y.sum(), y * float("nan"))), "NaN or infinite values reached")
    refused(Net(lambda y: torch.nested.nested_tensor(list(y))), "nested tensor.*pad them")


def test_one_logit_and_exact_labels() -> None:
    profile = sa.profile(Net(classes=1), [(IMAGES, torch.tensor([0, 1, 0, 1]))])
    assert profile.operations().sops.sum() == sum(additions(Net(classes=1)))
    assert 0 <= profile.summary()["accuracy"] <= 1


# ---------------------------------------------------------------- what happens on the way
class Between(Net):
    """`between` stands between the neurons."""

    def __init__(self, between: Callable[[Tensor, Net], Tensor]) -> None:
        super().__init__()
        self.between = between
        self.complex = nn.Parameter(torch.randn(5, 96, dtype=torch.complex64))
        self.nothing = nn.Linear(0, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.between(self.body(x), self)


def usual(x: Tensor, net: Net) -> Tensor:
    return net.head(x).mean(0)


def autocast(x: Tensor, net: Net) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return usual(x, net)


WAYS = {
    "no_grad": torch.no_grad()(usual),
    "inference_mode": torch.inference_mode()(usual),
    "enable_grad": torch.enable_grad()(usual),
    "autocast": autocast,
    "empty": lambda x, net: torch.cat([usual(x, net), x[0, :, :0]], 1) + net.nothing(x[0, :, :0]),
    "vmap": lambda x, net: torch.vmap(net.head)(x).mean(0),
    "functional_call": lambda x, net: torch.func.functional_call(net.head, net.head.state_dict(), x).mean(0),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_run_a_layer(way: str, expected: list[int]) -> None:
    assert sops(Between(WAYS[way])) == expected


@pytest.mark.parametrize(
    ("between", "op"),
    [
        (lambda x, net: F.linear(x.to(torch.complex64), net.complex).abs().mean(0), "mm"),
        (lambda x, net: usual(torch.fft.fft(x).real, net), "_fft_r2c"),
        (
            lambda x, net: (torch.complex(x, x).unflatten(2, (6, 16)) @ net.complex[:, :16].mT).abs().mean((0, 2)),
            "mm",
        ),
    ],
    ids=["complex weights", "fft", "complex spikes"],
)
def test_complex_numbers_are_listed_and_never_counted_as_real_ones(between: Callable, op: str) -> None:
    profile = sa.profile(Between(between), [IMAGES])
    assert any(entry.op.startswith(op[:4]) for entry in profile.ledger.uncounted)
    layers = profile.operations().set_index("synapse")
    assert layers.sops["conv2"] == by_layer(Net())[0].sum()
    assert layers.sops.sum() == layers.sops["conv2"]


# ---------------------------------------------------------------- input
TYPES = (torch.bool, torch.uint8, torch.int8, torch.int64, torch.float16, torch.bfloat16, torch.float64)


@pytest.mark.parametrize("dtype", TYPES)
def test_input_of_any_type_that_the_model_takes(dtype: torch.dtype) -> None:
    images = (IMAGES * 2).to(dtype)
    found = sops(Net(), images, forward=lambda model, x: model(x.float()), input="pixels")
    assert found == additions(Net(), images.float()) and sum(found)


def test_whole_models_in_other_precision() -> None:
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        net, images = Net().to(dtype), IMAGES.to(dtype)
        assert sum(sops(net, images)) > 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda: IMAGES.long(), r"Net fails on 2 of the 4 images .*\(4, 1, 8, 8\) and type torch.int64"),
        (lambda: IMAGES.double(), "type torch.float64.*RuntimeError: Input type"),
        (lambda: IMAGES.to("meta"), "batch 0 of the loader has images on the meta device"),
        (lambda: IMAGES.to_sparse(), "images sparse .torch.sparse_coo"),
        (lambda: IMAGES.to(torch.float8_e4m3fn), "images of type torch.float8_e4m3fn"),
        (lambda: IMAGES.to(torch.uint16), "images of type torch.uint16"),
        (lambda: torch.quantize_per_tensor(IMAGES, 0.1, 0, torch.quint8), "images of type torch.quint8"),
        (lambda: nested(torch.strided), "batch 0 of the loader is a nested tensor"),
        (lambda: IMAGES[:, :0], r"images of shape \(4, 0, 8, 8\), without a single value"),
        (lambda: IMAGES[:0], "the loader gave no image to profile: it is empty"),
        (lambda: IMAGES[0, 0, 0], r"batch 0 of the loader is Tensor of shape \(8,\)"),
    ],
    ids=["int64", "float64", "meta", "sparse", "float8", "uint16", "quantised", "nested", "channels", "batch", "1-d"],
)
@pytest.mark.filterwarnings("ignore:.*(nested|quantize).*")
def test_input_that_cannot_be_counted_is_one_clear_error(images: Callable[[], Tensor], message: str) -> None:
    refused(Net(), message, [images()])


def test_empty_batches_are_passed_over(expected: list[int]) -> None:
    for loader in ([IMAGES[:0], IMAGES], [IMAGES[:2], IMAGES[:0], IMAGES[2:]], [IMAGES, IMAGES[:0]]):
        assert sa.profile(Net(), loader).operations().sops.sum() == sum(expected)


# ---------------------------------------------------------------- models that fail
class Failing(Net):
    """Fails in one of its passes."""

    def __init__(self, error: Exception, after: int) -> None:
        super().__init__()
        self.error, self.left = error, after

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().forward(x)


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (ZeroDivisionError("why"), 0), (OSError("why"), 0), (NameError("why"), 0), (ImportError("why"), 0),
        (StopIteration("why"), 0), (NotImplementedError("why"), 0), (MemoryError("why"), 0),
        (RuntimeError("why"), 1), (RuntimeError("why"), 2), (RuntimeError("why"), 3),
    ],
)  # fmt: skip
def test_what_a_model_raises_is_one_sentence_in_every_pass(error: Exception, after: int) -> None:
    refused(Failing(error, after), f"Failing fails .*: {type(error).__name__}: why")


class Stop(Exception):
    pass


def test_an_exception_of_the_users_own_passes_through() -> None:
    with pytest.raises(Stop):
        sa.profile(Failing(Stop(), 1), [IMAGES])


class KeywordOnly(Net):
    def forward(self, *, pixels: Tensor) -> Tensor:
        return super().forward(pixels)


def test_calls_by_keyword(expected: list[int]) -> None:
    assert sops(KeywordOnly(), forward=lambda model, x: model(pixels=x)) == expected
    refused(KeywordOnly(), "KeywordOnly fails on 2 of the 4 images .*TypeError")


class Real(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.real)


def test_complex_images(expected: list[int]) -> None:
    assert sops(Real(), IMAGES.to(torch.complex64)) == expected
