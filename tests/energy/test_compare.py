"""A spiking network beside its ANN twin: ratios, break-even rates, verdicts, sentences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import spikeattn as sa
from spikeattn.energy.activity import Constant, Count
from spikeattn.energy.beside_ann import compare_with_ann
from spikeattn.energy.comparison import compare
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import get_costs
from spikeattn.energy.dense_twin import dense_twin
from spikeattn.energy.published_rates import PublishedActivity
from spikeattn.energy.quantised_ann import matched_bits
from spikeattn.energy.rate_tables import read_rates
from spikeattn.stats.ratios import ratio_intervals
from tests.energy.comparing import PARTS, row

INT8 = "horowitz-45nm-int8-acc32"
TABLES = [get_costs(f"horowitz-45nm-{kind}") for kind in ("fp32", "int8", "fp16")]


@dataclasses.dataclass
class Uniform:
    """Every tensor of image n fires at rates[n] at every step; counts as the ledger's dense operations have them."""

    ledger: sa.Profile
    rates: np.ndarray

    @property
    def n_images(self) -> int:
        return len(self.rates)

    def total(self, source) -> np.ndarray:
        if isinstance(source, Constant):
            return np.full(self.n_images, source.times)
        assert not isinstance(source, Count), "only conventions of rates"
        steps = 1 if source.once else self.ledger.time_steps
        return self.rates * steps * len(source.tensors)


def beside(ledger, rates, tables=TABLES, convention="input-rate", twin=None, **kwargs):
    activity = Uniform(ledger, np.atleast_1d(np.asarray(rates, dtype=float)))
    twin = twin or dense_twin(ledger)
    return compare_with_ann(activity, twin, tables, get_convention(convention), **kwargs)


# Bars: published dimensions and rates


def test_table_s1_with_the_papers_own_dimensions(sdt_8_512):
    """Attention (QKV + f) is 4.1 times cheaper by the rates that Q, K and V receive, 26.3 by the stated mean output."""
    rates = read_rates("table_s1_sdt_8_512", sdt_8_512)
    activity, twin = PublishedActivity(sdt_8_512, rates), dense_twin(sdt_8_512)
    for convention, attention, total in (("input-rate", 4.1, 5.61), ("sdt-paper", 26.3, 5.35)):
        found = compare_with_ann(activity, twin, TABLES, get_convention(convention))
        assert round(row(found.attention, "QKV + attention")["ratio"], 1) == attention
        whole = row(found.parts)
        assert round(whole["energy_mj"], 2) == total and round(whole["against_mj"], 2) == 39.43
        assert found.provenance["ann_macs"] == 8_571_375_616
        assert found.total.value == whole["ratio"] == pytest.approx(39.4283 / whole["energy_mj"], rel=1e-5)
        assert found.total.method == "none" and np.isnan(found.total.low)
        assert (found.parts["verdict"] == "no interval").all()
        assert any("without an interval that is no verdict" in sentence for sentence in found.sentences)
    blocks = found.blocks
    assert blocks["block"].max() == 7 and len(blocks) == 4 * 8 * 6
    assert row(blocks[blocks["block"] == 0])["against_mj"] == pytest.approx(655_900_672 * 4.6e-9)


def test_break_even_rates(sdt_8_512):
    """E_MAC / (E_AC T) at T = 4: fp32 1.28, int8 1.92, fp16 .94; 3 bits beside int8 .4375; attention 2 N times that."""
    found = beside(sdt_8_512, 0.2)
    expected = {"horowitz-45nm-fp32": 1.28, "horowitz-45nm-int8": 1.92, "horowitz-45nm-fp16": 0.94}
    for costs, rate in expected.items():
        for part in ("SPS", "QKV", "projection", "MLP1", "MLP2", "head"):
            assert round(row(found.parts, part, costs)["break_even"], 2) == rate, (costs, part)
        mine = found.prices[(found.prices["costs"] == costs) & found.prices["bits"].isna()].iloc[0]
        assert round(mine["break_even"], 2) == rate
        assert row(found.parts, "attention", costs)["break_even"] == pytest.approx(2 * 196 * mine["break_even"])
        assert row(found.parts, costs=costs)["cannot_lose"] == (costs == "horowitz-45nm-fp32"), "int8: .75 with 32 bits"
    quantised = found.prices.iloc[-1]
    assert quantised["bits"] == 3 and quantised["mac_pj"] == pytest.approx(0.2 * 3 / 8 + 0.1)
    assert row(found.parts, "MLP1", INT8, bits=True)["break_even"] == pytest.approx(0.4375)
    assert found.parts["part"].tolist() == PARTS * 4


@pytest.mark.parametrize(("T", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (10, 4), (16, 5)])
def test_bits_of_the_quantised_ann(sdt_8_512, T, bits):
    found = beside(dataclasses.replace(sdt_8_512, time_steps=T), 0.1)
    assert found.prices["bits"].iloc[-1] == bits == int(np.ceil(np.log2(T + 1)))
    assert found.prices["break_even"].iloc[-1] == pytest.approx((0.2 * bits / 8 + 0.1) / (0.1 * T))


@pytest.mark.parametrize(
    ("kind", "low", "high", "T", "bits"),
    [
        ("binary", None, None, 4, 3), ("binary", 0.0, 1.0, 4, 3), ("binary", 0.0, 0.0, 1, 1),
        ("ternary", None, None, 1, 2), ("ternary", -1.0, 1.0, 1, 2), ("ternary", -1.0, 1.0, 4, 4),
        ("ternary", -1.0, 0.0, 1, 1), ("integer", 0.0, 4.0, 1, 3), ("integer", 0.0, 3.0, 1, 2),
        ("integer", 0.0, 4.0, 4, 5), ("integer", 2.0, 4.0, 1, 3), ("integer", None, None, 4, 3),
        ("real", None, None, 4, 3), ("real", -9.0, 9.0, 4, 3),
    ],
)  # fmt: skip
def test_matched_bits_of_one_operand(ledger, kind, low, high, T, bits):
    """ceil(log2((max - min) x T + 1)), in units; the layer on "lif1" alone differs, the largest is of all layers."""
    tensors = [dataclasses.replace(t, kind=kind, low=low, high=high) if t.name == "lif1" else t for t in ledger.tensors]
    ledger = dataclasses.replace(ledger, time_steps=T, tensors=tuple(tensors))
    own, most = matched_bits(ledger)
    assert own["head"] == bits
    assert {own[name] for name in ("conv1", "qk", "av", "sum")} == {T.bit_length()} and most == max(
        bits, T.bit_length()
    )


def test_matched_bits_of_numbers_and_of_products(ledger):
    """A matrix of sums is no train of spikes; of two trains the one with more levels tells."""
    wide = {"q": {"kind": "ternary"}, "lif1": {"summed": True, "high": 99.0, "low": 0.0}, "v": {"kind": "integer"}}
    wide["v"] |= {"low": 0.0, "high": 8.0}
    wide["input"] = {"kind": "integer", "low": 0.0, "high": 255.0}
    tensors = tuple(dataclasses.replace(t, **wide.get(t.name, {})) for t in ledger.tensors)
    own, most = matched_bits(dataclasses.replace(ledger, time_steps=1, tensors=tensors))
    assert (own["qk"], own["av"], own["kv"], own["head"], own["conv"], own["ss"], most) == (2, 4, 4, 1, 1, 1, 4)


def test_every_layer_is_priced_with_its_own_bits(sdt_8_512):
    """Levels 0..4 into the first MLP layers alone: 5 bits there at T = 4, 3 elsewhere; the table prints the largest."""
    fed = {s.input for s in sdt_8_512.synapses if s.part == "MLP1"}
    own = {
        t.name: dataclasses.replace(t, kind="integer", low=0.0, high=4.0) for t in sdt_8_512.tensors if t.name in fed
    }
    four = dataclasses.replace(sdt_8_512, tensors=tuple(own.get(t.name, t) for t in sdt_8_512.tensors))
    also = {s.part for s in four.synapses if s.input in fed}
    first, found = beside(sdt_8_512, 0.2), beside(four, 0.2)
    assert found.prices["bits"].iloc[-1] == 5 and found.prices["against"].iloc[-1].endswith(", 5 bits")
    for part in PARTS[:-1]:
        before, after = (row(c.parts, part, INT8, bits=True)["against_mj"] for c in (first, found))
        times = (0.2 * 5 / 8 + 0.1) / (0.2 * 3 / 8 + 0.1) if part in also else 1
        assert after / before == pytest.approx(times), part
    (note,) = (note for note in found.notes if note.startswith("quantised: "))
    assert "3 to 5 bits" in note and "x b/8" in note and "of these spikes" in note
    assert any("quantised: 3 bits" in note and "x 3/8" in note and "binary steps" in note for note in first.notes)
    assert not any("T alone" in note for note in found.notes)
    unknown = [dataclasses.replace(t, low=None, high=None) for t in four.tensors]
    unseen = beside(dataclasses.replace(four, tensors=tuple(unknown)), 0.2)
    assert unseen.prices["bits"].iloc[-1] == 3 and any("T alone" in note for note in unseen.notes)


def test_an_ann_of_other_layers_takes_the_largest_bits(sdt_8_512):
    fed = next(s.input for s in sdt_8_512.synapses if s.part == "MLP1")
    tensors = [dataclasses.replace(t, kind="ternary") if t.name == fed else t for t in sdt_8_512.tensors]
    ledger, twin = dataclasses.replace(sdt_8_512, tensors=tuple(tensors)), dense_twin(sdt_8_512)
    other = dataclasses.replace(twin, layers=twin.layers.assign(layer="ann." + twin.layers["layer"]))
    quantised = beside(ledger, 0.2, twin=other).prices.iloc[-1]
    assert quantised["bits"] == 4 and quantised["mac_pj"] == pytest.approx(0.2 * 4 / 8 + 0.1)
    assert beside(ledger, 0.2, twin=twin).prices.iloc[-1]["mac_pj"] < 0.2 * 4 / 8 + 0.1


# What the numbers mean


@pytest.mark.parametrize("convention", ["input-rate", "sdt-paper", "sdt-printed", "meta-spikeformer"])
def test_at_the_break_even_rate_both_cost_the_same(sdt_8_512, convention):
    first, most = (beside(sdt_8_512, rate, convention=convention).parts for rate in (0.3, 1.0))
    lost = most["ratio"] < 1
    narrow = first["costs"] == "horowitz-45nm-int8"  # wins at 1.92, and loses at .75 with an accumulator of 32 bits
    assert (first["cannot_lose"] == ~lost)[~narrow].all() and (lost == (first["break_even"] < 1)).all()
    layers = narrow & first["part"].isin(["SPS", "projection", "MLP1", "MLP2", "head", "total"])
    assert not first.loc[layers, "cannot_lose"].any() and not lost[narrow].any()
    for at in (0, 1, 2, 7, 15, 23, 24, 31):  # SPS, QKV, attention, and the totals of each pricing
        rate = first["break_even"][at]
        again = beside(sdt_8_512, rate, convention=convention).parts.iloc[at]
        assert again["ratio"] == pytest.approx(1) and again["rate"] == pytest.approx(rate)


def test_sentences_when_it_cannot_lose_wins_loses_or_is_undecided(sdt_8_512):
    rng = np.random.default_rng(0)
    ledger = dataclasses.replace(sdt_8_512, model={"name": "sdt_8_512"})
    low = beside(ledger, 0.2 + 0.01 * rng.random(300))
    assert (low.parts["verdict"] == "wins").all()
    text = "\n".join(low.sentences)
    assert "Both are above 1 at gamma 0; at gamma" in text and "enough spikes make sdt_8_512 lose." in text
    assert "cannot make" not in text, "said only where it holds at every gamma"
    assert text.count("sdt_8_512 is cheaper.") == 4 and " loses" not in text
    assert "above 0.454 this metric makes it lose at gamma 0, but never in attention." in text
    high = beside(ledger, 0.95 + 0.01 * rng.random(300))
    assert row(high.parts, costs=INT8, bits=True)["verdict"] == "loses"
    assert row(high.parts)["verdict"] == "wins"
    text = "\n".join(high.sentences)
    assert "sdt_8_512 loses, it costs 2.0" in text
    assert f"{INT8}: sdt_8_512 loses to sdt_8_512 as an ANN, 3 bits in SPS (rate" in text
    even = row(low.parts, costs=INT8, bits=True)["break_even"]
    near = beside(ledger, even + 0.01 * rng.standard_normal(300))
    assert row(near.parts, costs=INT8, bits=True)["verdict"] == "undecided"
    assert "the interval holds 1, so these images do not tell which is cheaper" in "\n".join(near.sentences)


def test_the_interval_is_that_of_the_energy_turned_round(profile):
    found, table = compare(profile), profile.energy()
    whole = row(found.parts)
    assert whole["energy_mj"] == pytest.approx(table.total.value, rel=1e-12)
    assert [whole["ci_low"], whole["ci_high"]] == pytest.approx([table.total.low, table.total.high], rel=1e-9)
    twin = dense_twin(profile.ledger)
    ann = (twin.macs * 4.6 + sum(count for *_, count in twin.additions) * 0.9) * 1e-9
    assert found.total.value == pytest.approx(ann / table.total.value)
    assert found.total.low == pytest.approx(ann / table.total.high)
    paired = ratio_intervals(np.full(profile.n_images, ann), table.per_image)
    assert found.total.low == pytest.approx(float(paired.low[0]), rel=0.02)
    parts = table.set_index("part")["energy_mj"]
    mine = found.parts[found.parts["costs"] == "horowitz-45nm-fp32"].set_index("part")["energy_mj"]
    pd.testing.assert_series_equal(mine, parts, check_names=False)
    assert found.name == "sdt_digits" and found.against == "ann_digits"
    assert compare(profile).sentences == found.sentences and compare(profile, seed=1).total != found.total


def test_blocks_and_attention_add_up(profile):
    found = compare(profile, costs="horowitz-45nm-fp32")
    blocks = found.blocks[~found.blocks["against"].str.endswith("bits")]
    for part in ("QKV", "attention", "projection", "MLP1", "MLP2"):
        for column in ("energy_mj", "against_mj"):
            assert blocks.loc[blocks["part"] == part, column].sum() == pytest.approx(row(found.parts, part)[column])
    for block, rows in blocks.groupby("block"):
        assert rows.loc[rows["part"] == "total", "energy_mj"].item() == pytest.approx(
            rows.loc[rows["part"] != "total", "energy_mj"].sum()
        ), block
    both = row(found.attention, "QKV + attention")
    for column in ("energy_mj", "against_mj"):
        assert both[column] == pytest.approx(
            row(found.parts, "QKV")[column] + row(found.attention, "attention")[column]
        )
    assert found.parts["costs"].nunique() == 2  # fp32, and int8 beside the quantised ANN


def test_rate_is_what_the_layers_see(profile):
    found = row(compare(profile, convention="input-rate").parts, "head")
    rates = profile.rates()
    expected = rates[(rates["tensor"] == "head_lif") & (rates["t"] == "mean")]["nonzero_rate"].item()
    assert found["rate"] == pytest.approx(expected)
    operations = profile.operations()
    fc1 = operations[operations["part"] == "MLP1"]
    exact = row(compare(profile).parts, "MLP1")["rate"]
    assert exact == pytest.approx(fc1["sops_per_image"].sum() / (4 * fc1["dense_macs"].sum()))
