"""The ratio over the zeros that an ANN's hardware skips, by hand on networks of two layers, and measured."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import spikeattn as sa
from spikeattn.energy.activity import Constant
from spikeattn.energy.beside_ann import compare_with_ann
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import get_costs
from spikeattn.energy.dense_twin import DenseTwin, dense_twin
from spikeattn.energy.relu_operands import behind_relu
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Synapse

FP32, INT8, NARROW = "horowitz-45nm-fp32", "horowitz-45nm-int8-acc32", "horowitz-45nm-int8"
T, FIRST, SECOND = 4, 1000, 4000  # time steps, multiply-accumulates of both layers


def two_layers() -> Ledger:
    """Image -> layer of 1000 MACs -> 100 neurons -> layer of 4000 MACs."""
    tensors = (
        CountedTensor("input", (10,), 10, maker="input", kind="real", static=True),
        CountedTensor("lif", (100,), 100, neuron="LIFNode"),
    )
    synapses = (
        Synapse("first", "linear", "input", FIRST, 100, 100, part="stem", every_step=False, weights=FIRST),
        Synapse("second", "linear", "lif", SECOND, 40, 40, part="head", weights=SECOND),
    )
    return Ledger(T, True, tensors, synapses, ())


@dataclasses.dataclass
class Firing:
    """Every neuron of image n fires at rates[n]."""

    ledger: Ledger
    rates: np.ndarray

    @property
    def n_images(self) -> int:
        return len(self.rates)

    def total(self, source) -> np.ndarray:
        return np.full(self.n_images, source.times) if isinstance(source, Constant) else self.rates * T


def beside(rate: float, costs: str = FP32, gamma=None, twin: DenseTwin | None = None, ledger: Ledger | None = None):
    ledger = ledger or two_layers()
    activity, tables = Firing(ledger, np.full(20, rate)), [get_costs(costs)]
    return compare_with_ann(activity, twin or dense_twin(ledger), tables, get_convention("input-rate"), gamma)


def mj(first: float, second: float) -> float:
    return (first * FIRST + second * SECOND) * 1e-9


def test_both_ends_and_the_break_even_by_hand():
    """The image's layer once as MACs, the other 4 x .2 x 4000 additions; the ANN 5000 MACs x (1 - gamma)."""
    own, ann = mj(4.6, T * 0.2 * 0.9), mj(4.6, 4.6)
    found = beside(0.2)
    gamma = found.gamma
    assert not gamma.measured and gamma.low == 0
    assert found.total.value == gamma.at_low.value == gamma.at_zero.value == pytest.approx(ann / own)
    assert gamma.break_even == pytest.approx(1 - own / ann) and gamma.break_even > 0.5
    assert gamma.high == gamma.break_even and gamma.at_high.value == pytest.approx(1)
    dear = beside(0.9).gamma
    own = mj(4.6, T * 0.9 * 0.9)
    assert dear.break_even == pytest.approx(1 - own / ann) and dear.break_even < 0.5 == dear.high
    assert dear.at_high.value == pytest.approx(ann / 2 / own), "the image's layer is one like any other"
    record = json.loads(json.dumps(beside(0.9).to_dict(), allow_nan=False))["gamma"]
    assert record["low"] == 0 and record["high"] == 0.5 and record["measured"] is False
    assert record["ratio_at_low"] == pytest.approx(ann / own) and record["ratio_at_high"] == pytest.approx(
        ann / 2 / own
    )
    assert record["break_even"] == pytest.approx(dear.break_even)
    assert {(row["costs"], row["against"]) for row in record["pricings"]} == {
        (FP32, "the model as an ANN"),
        (INT8, "the model as an ANN, 3 bits"),
    }


def test_it_is_never_silent():
    found = beside(0.9)
    assert str(found.total).endswith("at gamma 0") and repr(found).endswith("at gamma 0>")
    assert f"both cost the same at gamma {found.gamma.break_even:.3g}" in found.gamma.said()
    assert "at gamma 0 (not measured)" in found.sentences[0] and "at gamma 0.5" in found.sentences[0]
    assert all("at gamma 0" in str(line) for line in found.lines if not line.missing)
    given = beside(0.9, gamma=0.25)
    assert given.total.value == found.total.value, "a share that is given is not measured"
    assert given.parts["against_mj"].iloc[-1] == pytest.approx(found.parts["against_mj"].iloc[-1] * 0.75)
    assert "at gamma 0.25 (given, not measured)" in given.sentences[0]
    assert given.lines[0].other.value == found.lines[0].other.value


def test_no_break_even_where_the_ann_loses_or_wins_at_any_gamma():
    layers = dense_twin(two_layers()).layers
    gelu = DenseTwin("gelu", layers.assign(zeros=False), "by hand")
    for rate, said in ((0.2, "the ANN costs more at any"), (1.5, "the ANN is cheaper at any")):
        found = beside(rate, twin=gelu)
        assert found.gamma.break_even is None and said in found.sentences[0]
        assert found.gamma.high == 0.5 and found.gamma.at_high.value == found.gamma.at_low.value, "GELU has no zeros"


def test_a_network_that_costs_more_without_a_spike_has_no_break_even_rate():
    """Here the first layer runs at every step: 4000 MACs, the ANN 1000 + 500."""
    ledger = two_layers()
    moving = tuple(dataclasses.replace(t, static=False) for t in ledger.tensors)
    first, second = ledger.synapses
    small = dataclasses.replace(second, dense_macs=500)
    synapses = (dataclasses.replace(first, every_step=True), small)
    found = beside(0.1, ledger=dataclasses.replace(ledger, tensors=moving, synapses=synapses, static_input=False))
    total = found.parts[found.parts["part"] == "total"].iloc[0]
    assert np.isnan(total["break_even"]) and total["ratio"] < 1 and not total["cannot_lose"]
    assert "the whole network at none: loses at any rate" in found.sentences[1]


def test_accumulators_decide_what_cannot_lose():
    """At T = 4 a layer breaks even at 1.92 in 8 bits, and at .75 in 32; fp32 has one accumulator."""
    ledger = two_layers()
    only = dataclasses.replace(ledger, synapses=ledger.synapses[1:])
    for costs, rate, never in ((NARROW, 1.9167, False), (INT8, 0.75, False), (FP32, 1.2778, True)):
        found = beside(0.2, costs, ledger=only)
        total = found.parts[(found.parts["costs"] == costs) & (found.parts["part"] == "total")].iloc[0]
        assert total["break_even"] == pytest.approx(rate, rel=1e-4) and total["cannot_lose"] == never, costs
        assert not found.zeros["cannot_lose"].any(), "behind a ReLU nothing is safe at the upper end"
        assert not any("cannot make" in text for text in found.sentences), "at gamma .5 it can"
        assert any("above 1 at gamma 0; at gamma" in text for text in found.sentences) == never
    gelu = DenseTwin("gelu", dense_twin(only).layers.assign(zeros=False, reads_image=False), "by hand")
    safe = beside(0.2, FP32, ledger=only, twin=gelu)
    assert safe.zeros.loc[safe.zeros["against"] == "gelu", "cannot_lose"].all()
    assert any("cannot make the model lose, whatever its spikes, at any gamma up to" in s for s in safe.sentences)
    assert "with an accumulator of 8 bits; horowitz-45nm-int8-acc32 has one of 32" in beside(0.2, NARROW).sentences[1]
    quantised = beside(0.2).prices.iloc[-1]
    assert quantised["mac_pj"] == pytest.approx(0.2 * 3 / 8 + 0.1) and quantised["costs"] == INT8
    assert not beside(0.2, "7nm-int8", ledger=only).parts["cannot_lose"].any(), "no price of a wide accumulator"


# Measured


class Spiking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)
        self.lif = neuron.LIFNode(step_mode="m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.lif(self.first(x).expand(T, *x.shape[:-1], 8))).mean(0)


def images(n: int = 7) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(3)).relu()


def test_the_zeros_of_the_relu_copy_are_counted_one_by_one():
    torch.manual_seed(1)
    model, x = Spiking(), images()
    profile = sa.profile(model, [x])
    twin = sa.measured_twin(model, x, profile.ledger)
    zeros = {"first": 0, "second": 0}
    for image in x:
        zeros["first"] += sum(value == 0 for value in image.tolist())
        zeros["second"] += sum(value == 0 for value in model.first(image).relu().tolist())
    share = {"first": zeros["first"] / x.numel(), "second": zeros["second"] / (len(x) * 8)}
    assert dict(zip(twin.gamma["layer"], twin.gamma["gamma"], strict=True)) == pytest.approx(share)
    found = sa.compare(profile, twin)
    skipped = (48 * share["first"] + 24 * share["second"]) / 72
    assert found.gamma.measured and found.gamma.low == found.gamma.high == pytest.approx(skipped)
    assert "7 images, in a copy of the network with ReLUs" in found.gamma.source
    assert found.total.value == pytest.approx(sa.compare(profile).total.value * (1 - skipped))
    assert found.gamma.at_zero.value == pytest.approx(sa.compare(profile).total.value)
    assert str(found.total).endswith(f"at the measured gamma {skipped:.3g}")
    assert "at the measured gamma" in found.sentences[0] and found.to_dict()["gamma"]["measured"] is True


def test_a_table_of_measure_gamma_counts_the_image_too():
    torch.manual_seed(1)
    ann, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), images()
    table = sa.measure_gamma(ann, [x])
    profile = sa.profile(Spiking(), [x])
    found, plain = (sa.compare(profile, ann, gamma=gamma) for gamma in (table, None))
    share = [(x == 0).float().mean().item(), (ann[1](ann[0](x)) == 0).float().mean().item()]
    assert found.total.value == pytest.approx(plain.total.value * (1 - (48 * share[0] + 24 * share[1]) / 72), rel=1e-6)
    assert "by measure_gamma on 7 images" in found.sentences[0]


def test_what_cannot_be_looked_at_is_said():
    model, x = Spiking(), images() / 0.0  # infinite, and NaN where it was 0
    good = images()
    profile = sa.profile(model, [good])
    twin = sa.measured_twin(model, x, profile.ledger)
    why = "not measured, for first receives values that are not finite in the copy"
    assert twin.gamma is None and twin.gamma_from == why
    found = sa.compare(profile, twin)
    assert not found.gamma.measured and "not finite" in found.sentences[0]


def test_layers_behind_a_relu():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3), nn.GELU(), nn.Conv2d(2, 2, 1),
        nn.ReLU6(), nn.Dropout(), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 8),
        nn.Softmax(-1), nn.Linear(8, 2),
    ).eval()  # fmt: skip
    assert behind_relu(net, torch.zeros(1, 1, 10, 10)) == {"3", "9"}
    plain = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    assert behind_relu(plain, torch.zeros(1, 3)) == set()
