"""The twin as a module that runs: what torch counts in it, beside the twin by hand."""

from __future__ import annotations

import warnings

import pytest
import timm
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.energy import measured_twins
from spikeattn.energy.dense_twin import DenseTwin, dense_twin
from spikeattn.energy.measured_twins import measured_twin
from spikeattn.energy.torch_macs import Operation
from tests.energy.comparing import TINY
from tests.structure import odd_networks as odd

EQUAL = "every layer has as many MACs as by hand"


def both(name: str) -> tuple[DenseTwin, DenseTwin]:
    torch.manual_seed(0)
    model, images = odd.NETWORKS[name](), torch.cat([odd.images(name)] * 2)
    profile = sa.profile(model, [images])
    return measured_twin(model, images, profile.ledger), dense_twin(profile.ledger)


@pytest.mark.parametrize("name", odd.NETWORKS)
def test_the_same_layer_by_layer_as_by_hand(name: str) -> None:
    measured, by_hand = both(name)
    assert measured.note.startswith("measured: ") and measured.note.endswith(EQUAL)
    assert measured.layers.equals(by_hand.layers)


def test_a_class_token_in_numbers() -> None:
    """17 tokens of 16 channels, 2 blocks: q, k, v, projection, 2 x 2 layers of a feed-forward, 2 N^2 D of attention."""
    measured, _ = both("class token")
    stem, head = 8 * 8 * 16 * 3 * 9 + 16 * 16 * 16 * 4, 16 * 5
    assert measured.macs == stem + 2 * 17 * (4 * 16 * 16 + 2 * 2 * 16 * 16) + 2 * 2 * 17 * 17 * 16 + head
    assert "2 softmax attentions of their sizes" in measured.note


def test_the_spike_driven_transformer_of_this_package() -> None:
    torch.manual_seed(0)
    model = timm.create_model("sdt_digits", time_steps=3, **TINY).eval()
    images = torch.rand(2, 1, 16, 16)
    profile = sa.profile(model, [images])
    twin = measured_twin(model, images, profile.ledger)
    assert twin.note.endswith(EQUAL) and twin.layers.equals(dense_twin(profile.ledger).layers)
    ann = sa.compare(profile).provenance["ann_macs"]  # of AnnTransformer, another module with the same layers
    assert sa.compare(profile, twin).provenance["ann_macs"] == twin.macs == ann


def test_compare_takes_it_and_says_so() -> None:
    torch.manual_seed(0)
    model, images = odd.Net(), torch.rand(2, 3, 16, 16)
    profile = sa.profile(model, [images])
    found = sa.compare(profile, measured_twin(model, images, profile.ledger))
    assert found.against == "Net as an ANN"
    assert found.notes[0].startswith("twin: measured: Net was run once with ReLUs in place of its 16 neurons")


def test_the_network_is_left_as_it_was() -> None:
    model, images = odd.Net(), torch.rand(2, 3, 16, 16)
    profile = sa.profile(model, [images])
    model.train()
    before = {path: (module, module.training) for path, module in model.named_modules()}
    measured_twin(model, images, profile.ledger)
    assert {path: (module, module.training) for path, module in model.named_modules()} == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(lif.v == 0.0 for lif in model.modules() if isinstance(lif, neuron.LIFNode))


class Small(nn.Module):
    """Two layers with a neuron between, over two time steps."""

    def __init__(self, lif: nn.Module) -> None:
        super().__init__()
        self.a, self.lif, self.b = nn.Linear(8, 6), lif, nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.lif(self.a(x).expand(2, *x.shape[:-1], 6))).mean(0)


def own(module: nn.Module) -> bool:
    return isinstance(module, (Pair, Scaled))


class Pair(nn.Module):
    """Spikes and, beside them, what made them."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x > 0).float(), x


class Scaled(nn.Module):
    """Of no framework's kind, and no other in its shapes than a neuron that is."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).float()


class ReadsPair(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.lif(self.a(x).expand(2, *x.shape[:-1], 6))[0]).mean(0)


class ReadsThreshold(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.lif.v_threshold)


class ByVector(Small):
    """A matrix by a vector, for which torch has no formula."""

    def __init__(self, lif: nn.Module) -> None:
        super().__init__(lif)
        self.vector = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        return (self.lif(self.a(x).expand(2, *x.shape[:-1], 6)) @ self.vector).mean(0)


class WithoutImage(Small):
    """Weights multiplied by weights: no layer of the ledger."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.b.weight @ self.b.weight.T).sum()


class NoCopy(Small):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise RuntimeError("one of a kind")


class Written(nn.Module):
    """All in one forward pass: a layer once, two in a loop over time, one once behind it."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((6, 8), (7, 6), (4, 7), (5, 4))
        self.weights = nn.ParameterList(nn.Parameter(torch.rand(size)) for size in sizes)
        self.one, self.two, self.three = odd.lif("s"), odd.lif("s"), odd.lif("s")

    def forward(self, x: Tensor) -> Tensor:
        currents, out = x @ self.weights[0].T, []
        for _ in range(3):
            spikes = self.two(self.one(currents) @ self.weights[1].T)
            out.append(self.three(spikes @ self.weights[2].T))
        return torch.stack(out).mean(0) @ self.weights[3].T


class Quantised(Small):
    """One layer of 8 bits, whose kernel is none of those that torch has a formula for."""

    def __init__(self, lif: nn.Module) -> None:
        super().__init__(lif)
        with warnings.catch_warnings(action="ignore"):  # the way to quantise that torch is about to replace
            self.b = torch.ao.quantization.quantize_dynamic(nn.Sequential(self.b))


IMPOSSIBLE = {
    "a neuron of two tensors": (ReadsPair(Pair()), "lif, a Pair, returns a tuple where a ReLU returns one tensor"),
    "an attribute of a neuron": (ReadsThreshold(odd.lif()), "with ReLUs in place of its neurons: AttributeError: "),
    "FLOPs that torch does not know": (ByVector(odd.lif()), "torch knows no FLOPs of what runs in mv_0"),
    "quantised layers": (Quantised(odd.lif()), "torch knows no FLOPs of linear_dynamic in b.0"),
    "no copy": (NoCopy(odd.lif()), "NoCopy cannot be copied: RuntimeError: one of a kind"),
    "weights by weights": (
        WithoutImage(odd.lif()),
        "mm in the network itself multiplies and is no layer",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_twin_that_cannot_be_built_is_said_and_that_by_hand_stands(name: str) -> None:
    model, why = IMPOSSIBLE[name]
    images = torch.rand(2, 3, 8)
    profile = sa.profile(model, [images], neurons=lambda m: own(m) or isinstance(m, neuron.LIFNode))
    twin = measured_twin(model, images, profile.ledger, neurons=lambda m: own(m) or isinstance(m, neuron.LIFNode))
    by_hand = dense_twin(profile.ledger)
    assert twin.note.startswith("by hand, since no twin could be built and measured (") and why in twin.note
    assert twin.note.endswith(by_hand.note) and twin.layers.equals(by_hand.layers)


def test_a_loop_over_time_in_one_module() -> None:
    model, images = Written(), torch.rand(2, 8)
    profile = sa.profile(model, [images])
    twin = measured_twin(model, images, profile.ledger)
    assert twin.note.endswith(EQUAL), twin.note
    assert list(twin.layers["macs"]) == [8 * 6, 6 * 7, 7 * 4, 4 * 5]


def test_a_neuron_of_ones_own_that_keeps_shapes() -> None:
    model, images = Small(Scaled()), torch.rand(2, 3, 8)
    profile = sa.profile(model, [images], neurons=own, time_steps=2)
    twin = measured_twin(model, images, profile.ledger, neurons=own)
    assert twin.note.endswith(EQUAL) and twin.macs == 3 * (8 * 6 + 6 * 5)


def test_weights_inside_a_neuron_go_with_it_and_are_named() -> None:
    model, images = Small(neuron.PSN(T=2)), torch.rand(2, 3, 8)
    profile = sa.profile(model, [images])
    inside = next(s for s in profile.ledger.synapses if s.name.startswith("lif"))
    twin = measured_twin(model, images, profile.ledger)
    assert twin.macs == 3 * (8 * 6 + 6 * 5) == dense_twin(profile.ledger).macs - inside.dense_macs
    assert f"{inside.name} 0 against {inside.dense_macs}" in twin.note and "lie inside a neuron" in twin.note


def test_a_layer_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = measured_twins.operations_of

    def twice(model: nn.Module, run: object) -> list[object]:
        return [type(o)(o.module, o.op, o.macs * (1 + (o.module == "mlps.1.up"))) for o in counted(model, run)]

    monkeypatch.setattr(measured_twins, "operations_of", twice)
    measured, by_hand = both("qk first")
    assert measured.note.endswith("other than by hand: mlps.1.up 16,384 against 8,192")
    assert measured.macs == by_hand.macs + 8192


@pytest.mark.parametrize("name", ["sdpa", "qk first"])
def test_attention_in_one_operation_is_counted_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's kernels are in torch's table, that of the CPU is not; where none stood in the run it is a stranger."""
    counted, fused = measured_twins.operations_of, "_scaled_dot_product_efficient_attention"
    monkeypatch.setattr(
        measured_twins, "operations_of", lambda *args: [*counted(*args), Operation("mixers.1", fused, 16384)]
    )
    measured, by_hand = both(name)
    assert measured.layers.equals(by_hand.layers)
    assert (f"{fused} in mixers.1 multiplies" in measured.note) == (name == "qk first")


def test_what_is_not_of_the_run_is_an_error() -> None:
    model, images = odd.Net(), torch.rand(2, 3, 16, 16)
    ledger = sa.profile(model, [images]).ledger
    for wrong, batch, why in (
        (odd.Net(odd.Fused), images, "Net is not the network of the run: it has no module 'mixers.0.gamma'"),
        (odd.Net(depth=3), images, "it has .* parameters, and the run's"),
        (model, torch.rand(2, 3, 32, 32), r"images are \(3, 32, 32\) each, and those of the run \(3, 16, 16\)"),
        (model, [images], "images is no batch of images"),
        (nn.Sequential(nn.Linear(3, 3)), images, "has no spiking neurons"),
        ("net", images, "net"),
    ):
        with pytest.raises(sa.SpikeattnError, match=why):
            measured_twin(wrong, batch, ledger)
    with pytest.raises(sa.SpikeattnError, match="Net fails on an image .*; give `images` and `forward` of the run"):
        measured_twin(model, images, ledger, forward=lambda net, x: net(x.unsqueeze(0)))
