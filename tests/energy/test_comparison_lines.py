"""Both lines of a comparison by hand on two-layer networks; sizes of an ANN from its ledger and from its shapes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.energy.ann_memory import charges_of_ann
from spikeattn.energy.comparison import compare
from spikeattn.energy.components import EVERYTHING
from spikeattn.energy.costs import get_costs
from spikeattn.energy.dense_twin import DenseTwin, dense_twin
from spikeattn.energy.layer_sizes import LayerSizes, sizes_of_attention
from spikeattn.energy.models.memory import word_price
from spikeattn.energy.models.registry import get_model
from spikeattn.energy.scope_line import ScopeLine, missing_line
from spikeattn.energy.shapes_of_ann import sizes_of_ann
from spikeattn.energy.twins import twin_for
from spikeattn.models.ann import SoftmaxProducts
from spikeattn.runs.result import Profile
from spikeattn.stats.intervals import Interval
from spikeattn.stats.quantity import Quantity
from spikeattn.structure.entry import Extent

T, N = 2, 30
FP32 = "horowitz-45nm-fp32"
MAC, AC, ADD, MULT = 4.6, 0.9, 0.1, 3.1  # pJ in fp32 45 nm; addresses are 32-bit integers
BIT, NO = 4.0, 0.01  # a pixel that makes its neuron fire at every step, and one that never does


class Two(nn.Module):
    """A layer whose neurons fire where a pixel is on, and a layer behind."""

    def __init__(self, first: nn.Module, second: nn.Module, flat: bool) -> None:
        super().__init__()
        self.first, self.lif, self.second, self.flat = first, neuron.LIFNode(step_mode="m"), second, flat

    def forward(self, x: Tensor) -> Tensor:
        x = (x.flatten(1) if self.flat else x).unsqueeze(0)
        x = x.repeat(T, *[1] * (x.dim() - 1))
        return self.second(self.lif(self.first(x)).flatten(2)).mean(0)


def linear(outputs: int = 3) -> Two:
    """Linear 4 -> 4 with biases, LIF, linear 4 -> 3 without."""
    first = layer.Linear(4, 4, step_mode="m")
    with torch.no_grad():
        first.weight.copy_(torch.eye(4))
        first.bias.zero_()
    return Two(first, layer.Linear(4, outputs, bias=False, step_mode="m"), True)


def conv() -> Two:
    """A convolution 1 -> 2, k = 3, both channels copies of the image of 2 x 2, LIF, linear 8 -> 3 with biases."""
    first = layer.Conv2d(1, 2, 3, padding=1, bias=False, step_mode="m")
    with torch.no_grad():
        first.weight.zero_()
        first.weight[:, :, 1, 1] = 1
    return Two(first, layer.Linear(8, 3, step_mode="m"), False)


def images(n: int = N, seed: int = 0) -> Tensor:
    """Four pixels, on or off."""
    on = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(seed)) < 0.5
    return torch.where(on, BIT, NO)


def profile_of(net: Two, x: Tensor) -> Profile:
    return sa.profile(net, [(x, torch.zeros(len(x), dtype=torch.long))])


def word(words: int) -> float:
    """pJ of a 32-bit word: 10 pJ per access of 8 KB, linear below."""
    return 10 * words * 4 / 8192


def linear_pj(spikes: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """pJ of `linear` per image, and of its ANN: arithmetic, and with memory."""
    queue = word(1000)
    arithmetic = 16 * MAC + 3 * spikes * AC + 3 * (T - 1) * AC  # the logits of all steps are averaged
    first = 4 * AC + (4 + 4) * ADD + 16 * word(20) + 4 * word(20) + 4 * word(4)
    lif = spikes * AC + 4 * T * MAC + spikes * queue + 2 * 4 * T * word(4)
    second = 3 * spikes * ADD + 3 * spikes * word(12) + spikes * queue + 2 * 3 * spikes * word(3)
    ann = 28 * MAC
    outputs = 4 * word(4) + (4 + 3) * ADD + 12 * word(12) + 4 * word(4) + 3 * word(3)
    return arithmetic, arithmetic + first + lif + second, ann, ann + first + outputs


def conv_pj(spikes: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """The same of `conv`: 8 neurons, 72 multiply-accumulates of the convolution, padding included."""
    queue = word(1000)
    arithmetic = 72 * MAC + 3 * spikes * AC + 3 * (T - 1) * AC
    first = (4 + 8 + 2 * 9) * ADD + 72 * word(18) + 72 * word(4)
    lif = spikes * AC + 8 * T * MAC + spikes * queue + 2 * 8 * T * word(8)
    second = 3 * T * AC + 3 * spikes * ADD + 3 * spikes * word(27) + 3 * T * word(27)
    second += spikes * queue + 2 * 3 * spikes * word(3)
    ann = (72 + 24) * MAC
    outputs = 8 * word(8) + 3 * AC + (8 + 3) * ADD + 24 * word(27) + 3 * word(27) + 8 * word(8) + 3 * word(3)
    return arithmetic, arithmetic + first + lif + second, ann, ann + first + outputs


@pytest.mark.parametrize(("build", "pj", "copies"), [(linear, linear_pj, 1), (conv, conv_pj, 2)])
def test_both_lines_by_hand(build: Callable[[], Two], pj, copies):
    x = images()
    spikes = copies * T * (x == BIT).flatten(1).sum(1).numpy()
    profile = profile_of(build(), x)
    found = compare(profile, costs=FP32)
    arithmetic, memory = found.lines
    own, whole, dense, dense_whole = pj(spikes)
    for line, mine, theirs in ((arithmetic, own, dense), (memory, whole, dense_whole)):
        assert line.own.value == pytest.approx(mine.mean() * 1e-9, rel=1e-12)
        assert line.other.value == pytest.approx(theirs * 1e-9, rel=1e-12)
        assert (line.other.low, line.other.high, line.other.method) == (*[line.other.value] * 2, "constant")
        assert line.ratio.value == pytest.approx(theirs / mine.mean(), rel=1e-12)
        limits = (line.other.value / line.own.high, line.other.value / line.own.low)
        assert (line.ratio.low, line.ratio.high) == pytest.approx(limits, rel=1e-12)
        assert (line.costs, line.without, line.missing) == (FP32, (), "")
    assert (arithmetic.scope, memory.scope) == ("arithmetic", "memory")
    assert arithmetic.own == profile.energy().total and arithmetic.ratio == found.total
    table = profile.components()
    row = table[table["component"] == EVERYTHING].iloc[0]
    assert tuple(row[["energy_mj", "ci_low", "ci_high"]]) == (memory.own.value, memory.own.low, memory.own.high)


def test_text_json_and_python_hold_the_same_numbers():
    found = compare(profile_of(linear(), images()), costs=FP32)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    for line, row in zip(found.lines, record["lines"], strict=True):
        assert row["text"] == str(line) and row["scope"] == line.scope and "\n" not in str(line)
        assert str(line).startswith(line.scope)
        for key in ("own", "other", "ratio"):
            interval = getattr(line, key)
            assert row[key] == {name: getattr(interval, name) for name in row[key]} and len(row[key]) == 5
        said = str(line).removesuffix(f" ({FP32})").split("ratio ")[1].split(" at gamma")[0]
        shown = [float(number.removesuffix(",")) for number in said.replace("[", "").replace("]", "").split()]
        assert shown == pytest.approx([line.ratio.value, line.ratio.low, line.ratio.high], rel=2e-3)
        assert f"Two as an ANN {line.other.value * 1e9:.1f} pJ, Two {line.own.value * 1e9:.4g} pJ" in str(line)
    assert any(note.code == "memory" and "zero or not" in note for note in found.notes)


def test_two_spiking_networks_are_paired_in_both_lines():
    x = images(260)
    spikes = T * (x == BIT).flatten(1).sum(1).numpy()
    mine, other = profile_of(linear(), x), profile_of(linear(outputs=40), x)
    found = compare(mine, other, costs=FP32)
    totals = [each.components().per_image.to_numpy().sum(axis=1) for each in (other, mine)]
    assert totals[1] * 1e9 == pytest.approx(linear_pj(spikes)[1])
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, len(x), (4000, len(x)))
    ratios = totals[0][drawn].mean(axis=1) / totals[1][drawn].mean(axis=1)
    line = found.lines[1]
    assert line.ratio.value == pytest.approx(totals[0].mean() / totals[1].mean(), rel=1e-12)
    width = np.quantile(ratios, 0.975) - np.quantile(ratios, 0.025)
    assert [line.ratio.low, line.ratio.high] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.1 * width)
    unpaired = line.other.high / line.own.low - line.other.low / line.own.high
    assert line.ratio.high - line.ratio.low < 0.7 * unpaired, "images are drawn together"
    assert line.other.value == pytest.approx(totals[0].mean(), rel=1e-12)
    assert found.lines[0].other == other.energy().total and found.lines[0].ratio == found.total
    assert not any("zero or not" in note for note in found.notes)


# Sizes of an ANN


def test_shapes_of_an_ann_that_runs_say_what_the_ledger_says():
    profile = profile_of(conv(), images())
    plain = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    ran, by_hand = twin_for(profile.ledger, plain).sizes, dense_twin(profile.ledger).sizes
    assert ran is not None and by_hand is not None and not ran.unknown and not by_hand.unknown
    blank = [[dataclasses.replace(size, layer="", part="") for size in sizes.layers] for sizes in (ran, by_hand)]
    assert blank[0] == blank[1] and len(blank[0]) == 2
    assert compare(profile, plain).lines[1].other.value == compare(profile).lines[1].other.value


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_softmax_attention_by_hand_and_from_its_shapes(heads):
    module, tokens = SoftmaxProducts(heads), [torch.zeros(1, 8, 3, 2) for _ in range(3)]

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.products = module

        def forward(self, x: Tensor) -> Tensor:
            return self.products(x, x, x)

    ran = sizes_of_ann(Attention(), tokens[0], {"products": ("attention", 0)}).layers
    by_hand = tuple(sizes_of_attention("products", "attention", Extent(6, 6, 1, 8, 8), heads))
    scores = heads * 36
    assert by_hand == (
        LayerSizes("products", "attention", 36 * 8, 48, scores, 48),
        LayerSizes("products", "attention", 36 * 8, scores, 48, 48),
    )
    assert ran == by_hand
    charges = charges_of_ann(ran, get_costs(), get_model())
    words = 2 * 36 * 8 * word(48) + 2 * 48 * word(48) + 2 * scores * word(scores)
    expected = 2 * 36 * 8 * MAC + 2 * (48 + scores) * ADD + words
    assert charges["energy_mj"].sum() == pytest.approx(expected * 1e-9, rel=1e-12)


def test_windows_hold_scores_of_their_own():
    first, second = sizes_of_attention("a", "attention", Extent(4, 2, 3, 8, 5), 2)
    assert (first.macs, first.inputs, first.weights, first.outputs) == (3 * 4 * 2 * 8, 3 * 4 * 8, 3 * 2 * 8, 3 * 8 * 2)
    assert (second.macs, second.inputs, second.weights, second.outputs) == (3 * 8 * 5, 48, 3 * 2 * 5, 3 * 4 * 5)
    assert first.macs + second.macs == Extent(4, 2, 3, 8, 5).macs


def test_the_twin_of_a_transformer_both_ways(profile):
    """Layer by layer the same sizes; without the configuration the ledger does not know the heads, and says so."""
    ran, by_hand = twin_for(profile.ledger).sizes, dense_twin(profile.ledger).sizes
    assert by_hand.unknown == ran.unknown == ()
    assert len(ran.layers) == len(by_hand.layers)
    kinds = ("macs", "inputs", "outputs", "weights", "biases", "kernel")

    def of_layers(sizes):
        return sorted(tuple(getattr(s, kind) for kind in kinds) for s in sizes.layers)

    assert of_layers(ran) == of_layers(by_hand)
    assert sum(size.macs for size in ran.layers) == twin_for(profile.ledger).macs
    foreign = dense_twin(dataclasses.replace(profile.ledger, model=profile.ledger.model | {"config": {}}))
    assert foreign.sizes.unknown == ("the scores of further heads",)
    line = compare(profile, foreign, costs=FP32).lines[1]
    assert line.without == foreign.sizes.unknown and f"({FP32}, without the scores of further heads)" in str(line)


def test_the_first_layer_costs_both_networks_the_same(profile):
    """An independent path: `components` of the spiking network and the ANN's law, on the layer that reads the image."""
    lines = profile.components().lines
    first = profile.ledger.synapses[0].name
    spiking = lines[lines["name"] == first].groupby(["component", "what"])["energy_mj"].sum()
    sizes = [size for size in dense_twin(profile.ledger).sizes.layers if size.layer == first]
    dense = charges_of_ann(sizes, get_costs(), get_model())
    dense = dense[dense["what"] != "output writes"].groupby(["component", "what"])["energy_mj"].sum()
    np.testing.assert_allclose(dense.sort_index().to_numpy(), spiking.sort_index().to_numpy(), rtol=1e-12)


def test_what_is_not_a_layer_is_named():
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.aten._scaled_dot_product_flash_attention(x, x, x)[0] @ x.mT

    x = torch.zeros(1, 2, 4, 8, device="meta")
    try:
        Odd()(x)
    except NotImplementedError:
        pytest.skip("this torch has no shapes of flash attention on meta")
    found = sizes_of_ann(Odd(), x, {})
    assert found.unknown == ("_scaled_dot_product_flash_attention in the network itself",)
    assert [size.macs for size in found.layers] == [2 * 4 * 4 * 8]


def test_measured_macs_that_differ_make_sizes_unknown():
    sizes = dense_twin(profile_of(linear(), images()).ledger).sizes
    assert sizes.measured({"first": 16, "second": 12}) == sizes
    gone = sizes.measured({"first": 0, "second": 13})
    assert gone.layers == () and gone.unknown == ("second",)


# Where there is no line, and how one is printed


def test_a_line_without_numbers_says_why(profile):
    ledger = profile.ledger
    chips = compare(profile, costs="7nm-int8").lines[1]
    assert str(chips).startswith("memory      not known: 7nm-int8 has no prices of memories; give a cost table")
    second = compare(profile, costs=["7nm-int8", FP32]).lines
    assert [line.costs for line in second] == ["7nm-int8", FP32]
    old = dataclasses.replace(ledger, synapses=tuple(dataclasses.replace(s, weights=0) for s in ledger.synapses))
    counts = profile.counts.beside(old)
    assert "recorded no numbers of weights; profile again" in str(compare(sa.Profile(old, counts)).lines[1])
    assert "recorded no numbers" in str(compare(profile, sa.Profile(old, counts)).lines[1])
    bare = DenseTwin("mine", dense_twin(ledger).layers, "by me")
    assert (
        str(compare(profile, bare).lines[1])
        == "memory      not known: the sizes of the layers of mine were not measured"
    )
    record = compare(profile, bare).to_dict()["lines"][1]
    assert record["ratio"] == {"value": None, "low": None, "high": None, "method": "none", "confidence": 0.95}
    assert record["missing"] and not record["costs"]


def test_published_rates_have_no_memory(sdt_8_512):
    from spikeattn.energy.published_rates import PublishedActivity
    from spikeattn.energy.rate_tables import read_rates

    activity = PublishedActivity(sdt_8_512, read_rates("table_s1_sdt_8_512", sdt_8_512))
    arithmetic, memory = compare(activity, convention="input-rate").lines
    assert "39.43 mJ" in str(arithmetic)
    assert "ratio 7.025 (no interval) at gamma 0, 1.000 (no interval)" in str(arithmetic)
    assert str(arithmetic).endswith(f" at gamma 0.937, break-even gamma 0.937 ({FP32})")
    assert str(memory) == "memory      not known: published rates hold no counts of spikes; profile the network"


def test_another_convention_is_not_the_one_of_components(profile):
    line = compare(profile, convention="input-rate").lines[1]
    assert line.includes.endswith("counted exactly, not under the convention input-rate")
    assert line.own.value == compare(profile).lines[1].own.value
    often = sa.energy.get_convention("exact", first_conv="every-step")
    table = profile.components(first_conv="every-step")
    assert compare(profile, convention=often).lines[1].own.value == table["energy_mj"].iloc[-1]


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (Interval(12.3434, 11.961, 12.652, "percentile"), "12.34 [11.96, 12.65]"),
        (Interval(5.0, 2.0, 299.0, "lower bound"), "5.00 (at least 2.00)"),
        (Interval(5.0, 2.0, np.inf, "studentised"), "5.00 (at least 2.00)"),
        (Interval(5.0, 0.0, 7.0, "upper bound"), "5.00 (at most 7.00)"),
        (Interval(5.0, np.nan, np.nan, "none"), "5.000 (no interval)"),
        (Interval(5.0, 5.0, 5.0, "constant"), "5.000 (the same for every image)"),
        (Interval(np.inf, 4.0, np.inf, "lower bound"), "∞ (at least 4.00)"),
        (Interval(np.nan, np.nan, np.nan, "none"), "not defined (nothing was spent)"),
    ],
)
def test_how_a_ratio_is_printed(ratio, text):
    own, other = Quantity(1e-3, 0, 1), Quantity(5e-3, 0, 1)
    line = ScopeLine("memory", "snn", "ann", own, other, Quantity.of(ratio, "", ""), "mine", "all")
    assert str(line) == f"memory      ann 5.000 µJ, snn 1.000 µJ, ratio {text} (mine)"
    several = dataclasses.replace(line, without=("a", "b", "c", "d"))
    assert str(several).endswith("(mine, without a, b and 2 more)")
    assert str(missing_line("memory", "snn", "ann", "so", "all")) == "memory      not known: so"


def test_word_price_of_the_hand_calculation():
    assert word_price(get_costs(), get_model(), 12) == pytest.approx(word(12))
    assert [get_costs().price(op) for op in ("mac", "ac", "address_add", "address_mult")] == [MAC, AC, ADD, MULT]
