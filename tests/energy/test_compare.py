"""A spiking network beside its twin, another ANN, another run: ratios, break-even rates, verdicts, bad input."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch

import spikeattn as sa
from spikeattn.energy.compare import compare, compare_activity
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import get_costs
from spikeattn.energy.published import PublishedActivity, read_rates
from spikeattn.energy.ratios import ratio_intervals
from spikeattn.energy.terms import Constant, Count
from spikeattn.energy.twins import dense_twin, twin_for
from spikeattn.errors import SpikeattnError
from spikeattn.models.calibrate import calibrate_batch_norm
from tests.energy.conftest import BruteCounts

TABLES = [get_costs(f"horowitz-45nm-{kind}") for kind in ("fp32", "int8", "fp16")]
PARTS = ["SPS", "QKV", "attention", "projection", "MLP1", "MLP2", "head", "total"]
TINY = {"img_size": 16, "in_chans": 1, "num_classes": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}


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
    return compare_activity(ledger, activity, twin, tables, get_convention(convention), **kwargs)


def row(frame: pd.DataFrame, part: str = "total", costs: str = "horowitz-45nm-fp32", bits: bool = False) -> pd.Series:
    chosen = frame[(frame["costs"] == costs) & (frame["part"] == part)]
    return chosen[chosen["against"].str.endswith("bits") == bits].iloc[0]


def live(time_steps: int, seed: int, n: int = 30) -> sa.Profile:
    torch.manual_seed(seed)
    model = timm.create_model("sdt_digits", time_steps=time_steps, **TINY).eval()
    images = torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(5)) * 2
    calibrate_batch_norm(model, images)
    model.provenance = {"name": "sdt_digits", "config": dict(model.config), "trained": None}
    return sa.profile(model, [(images[:n], torch.arange(n) % 4)])


@pytest.fixture(scope="module")
def profile() -> sa.Profile:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield live(4, seed=0)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def other() -> sa.Profile:
    return live(2, seed=3)


# Bars: published dimensions and rates


def test_table_s1_with_the_papers_own_dimensions(sdt_8_512):
    """Attention (QKV + f) is 4.1 times cheaper by the rates that Q, K and V receive, 26.3 by the stated mean output."""
    rates = read_rates("table_s1_sdt_8_512", sdt_8_512)
    activity, twin = PublishedActivity(sdt_8_512, rates), dense_twin(sdt_8_512)
    for convention, attention, total in (("input-rate", 4.1, 5.61), ("sdt-paper", 26.3, 5.35)):
        found = compare_activity(sdt_8_512, activity, twin, TABLES, get_convention(convention))
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
    """E_MAC / (E_AC T) at T = 4: fp32 1.28, int8 1.92, fp16 .94; 3 bits beside int8 .875; attention 2 N times that."""
    found = beside(sdt_8_512, 0.2)
    expected = {"horowitz-45nm-fp32": 1.28, "horowitz-45nm-int8": 1.92, "horowitz-45nm-fp16": 0.94}
    for costs, rate in expected.items():
        for part in ("SPS", "QKV", "projection", "MLP1", "MLP2", "head"):
            assert round(row(found.parts, part, costs)["break_even"], 2) == rate, (costs, part)
        mine = found.prices[(found.prices["costs"] == costs) & found.prices["bits"].isna()].iloc[0]
        assert round(mine["break_even"], 2) == rate
        assert row(found.parts, "attention", costs)["break_even"] == pytest.approx(2 * 196 * mine["break_even"])
        assert row(found.parts, costs=costs)["cannot_lose"] == (rate > 1)
    quantised = found.prices.iloc[-1]
    assert quantised["bits"] == 3 and quantised["mac_pj"] == pytest.approx(0.2 * 3 / 8 + 0.03)
    assert row(found.parts, "MLP1", "horowitz-45nm-int8", bits=True)["break_even"] == pytest.approx(0.875)
    assert found.parts["part"].tolist() == PARTS * 4


@pytest.mark.parametrize(("T", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (10, 4), (16, 5)])
def test_bits_of_the_quantised_ann(sdt_8_512, T, bits):
    found = beside(dataclasses.replace(sdt_8_512, time_steps=T), 0.1)
    assert found.prices["bits"].iloc[-1] == bits == int(np.ceil(np.log2(T + 1)))
    assert found.prices["break_even"].iloc[-1] == pytest.approx((0.2 * bits / 8 + 0.03) / (0.03 * T))


# What the numbers mean


@pytest.mark.parametrize("convention", ["input-rate", "sdt-paper", "sdt-printed", "meta-spikeformer"])
def test_at_the_break_even_rate_both_cost_the_same(sdt_8_512, convention):
    first, most = (beside(sdt_8_512, rate, convention=convention).parts for rate in (0.3, 1.0))
    lost = most["ratio"] < 1
    assert (first["cannot_lose"] == ~lost).all() and (lost == (first["break_even"] < 1)).all()
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
    assert "Both are above 1: this metric cannot make sdt_8_512 lose, whatever its spikes." in text
    assert text.count("sdt_8_512 is cheaper.") == 4 and " loses" not in text
    assert "above 0.909 this metric makes it lose, but never in attention." in text
    high = beside(ledger, 0.95 + 0.01 * rng.random(300))
    assert row(high.parts, costs="horowitz-45nm-int8", bits=True)["verdict"] == "loses"
    assert row(high.parts)["verdict"] == "wins"
    text = "\n".join(high.sentences)
    assert "sdt_8_512 loses, it costs 1.05" in text
    assert "horowitz-45nm-int8: sdt_8_512 loses to sdt_8_512 as an ANN, 3 bits in SPS (rate" in text
    even = row(low.parts, costs="horowitz-45nm-int8", bits=True)["break_even"]
    near = beside(ledger, even + 0.01 * rng.standard_normal(300))
    assert row(near.parts, costs="horowitz-45nm-int8", bits=True)["verdict"] == "undecided"
    assert "the interval holds 1, so these images do not tell which is cheaper" in "\n".join(near.sentences)


def test_the_interval_is_that_of_the_energy_turned_round(profile):
    found, table = compare(profile), profile.energy()
    whole = row(found.parts)
    assert whole["energy_mj"] == pytest.approx(table.total.value, rel=1e-12)
    assert [whole["ci_low"], whole["ci_high"]] == pytest.approx([table.total.low, table.total.high], rel=1e-9)
    macs = dense_twin(profile.ledger).macs
    assert found.total.value == pytest.approx(macs * 4.6e-9 / table.total.value)
    assert found.total.low == pytest.approx(macs * 4.6e-9 / table.total.high)
    paired = ratio_intervals(np.full(profile.n_images, macs * 4.6e-9), table.per_image)
    assert found.total.low == pytest.approx(float(paired.low[0]), rel=0.02)
    parts = table.set_index("part")["energy_mj"].rename(index={"SDSA": "attention"})
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


# Other ANNs, foreign models, other profiles


def test_an_ann_by_name_or_as_a_module(profile):
    by_name = compare(profile, timm.create_model("ann_digits", **TINY))
    assert by_name.total == compare(profile).total and by_name.against == "ann_digits"
    plain = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(1024, 4))
    found = compare(profile, plain.train())
    assert plain.training and found.against == "Sequential"
    assert found.provenance["ann_macs"] == 256 * 36 + 4096
    assert row(found.parts)["verdict"] in ("wins", "loses")
    unmatched = row(found.parts, "SPS")
    assert np.isnan(unmatched["ratio"]) and pd.isna(unmatched["verdict"]) and unmatched["energy_mj"] > 0
    quantised = row(found.parts, costs="horowitz-45nm-int8", bits=True)["against_mj"]
    assert quantised == pytest.approx((256 * 36 * 0.23 + 4096 * 0.105) * 1e-9), "the layer that reads the image: 8 bits"


def test_a_foreign_model_is_compared_with_its_own_layers_as_dense_ones(ledger, counts):
    exact = dataclasses.replace(ledger, products=tuple(p for p in ledger.products if p.name != "ss"))
    found = compare(sa.Profile(exact, counts), costs=["horowitz-45nm-fp32"])
    dense = exact.dense_macs() + 2 * 243 + 2 * 3 * 27  # the token sum: 9 channels of 3 tokens, as shapes are read
    assert found.provenance["ann_macs"] == dense
    assert found.notes[0].startswith("twin: no ANN was given, and this model has no twin of its own: the same layers")
    assert any(note.startswith("integer-spikes") for note in found.notes)
    head = row(found.parts, "head")
    assert head["break_even"] == pytest.approx(4.6 / 0.9 / 3) and not head["cannot_lose"], (
        "integer spikes have no limit"
    )
    assert row(found.parts, "other")["ratio"] > 0


def test_two_profiles_of_the_same_images_are_paired(profile, other):
    found = compare(profile, other)
    mine, theirs = (run.energy().per_image for run in (profile, other))
    paired = ratio_intervals(theirs, mine)
    assert found.total.value == pytest.approx(theirs.mean() / mine.mean())
    assert (found.total.low, found.total.high) == pytest.approx((float(paired.low[0]), float(paired.high[0])))
    assert (found.name, found.against) == ("sdt_digits, T=4", "sdt_digits, T=2")
    assert found.parts["part"].tolist() == PARTS * 2
    assert found.parts["break_even"].isna().all() and found.parts["cannot_lose"].isna().all()
    assert row(found.parts)["verdict"] == "loses" and "sdt_digits, T=4 loses, it costs" in found.sentences[0]
    assert compare(other, profile).total.low == pytest.approx(1 / found.total.high, rel=1e-6)
    same = compare(profile, profile)
    assert same.total.value == same.total.low == same.total.high == 1
    assert same.against == "the other sdt_digits"


def test_different_images_are_refused(profile, other):
    fewer = live(2, seed=3, n=20)
    with pytest.raises(
        SpikeattnError, match="different images: 30 and 20, of which 20 are the same by number and name"
    ):
        compare(profile, fewer)
    rows = other.counts.rows
    relabelled = sa.Profile(other.ledger, other.counts)
    relabelled.counts = type("Relabelled", (), {"rows": rows.assign(label=(rows["label"] + 1) % 4)})()
    with pytest.raises(SpikeattnError, match="image 0 has label 0 in one profile and 1 in the other"):
        compare(profile, relabelled)
    with pytest.raises(SpikeattnError, match="gamma is about a quantised ANN"):
        compare(profile, other, gamma=0.5)


# Gamma


def test_gamma_is_the_quantised_anns_alone(profile):
    without, half = compare(profile), compare(profile, gamma=0.5)
    columns = ["costs", "against", "part", "against_mj"]
    plain = ~without.parts["against"].str.endswith("bits")
    pd.testing.assert_frame_equal(without.parts[plain][columns], half.parts[plain][columns])
    for part in ("MLP1", "attention", "head"):
        pair = [row(c.parts, part, "horowitz-45nm-int8", bits=True)["against_mj"] for c in (half, without)]
        assert pair[0] == pytest.approx(pair[1] / 2)
    first = dense_twin(profile.ledger).layers["macs"].iloc[0] * 0.23e-9
    pair = [row(c.parts, "SPS", "horowitz-45nm-int8", bits=True)["against_mj"] - first for c in (half, without)]
    assert pair[0] == pytest.approx(pair[1] / 2), "the image itself has no zeros to skip"
    assert half.prices["gamma"].tolist() == [0, 0, 0.5]
    assert half.prices["break_even"].iloc[-1] == pytest.approx(0.105 * 0.5 / 0.03 / 4)
    assert any("0.5 of the quantised ANN's multiply-accumulates" in n and "assumed" in n for n in half.notes)


def test_measured_gamma_acts_layer_by_layer(profile):
    ann = timm.create_model("ann_digits", **TINY)
    table = sa.measure_gamma(ann, [torch.rand(4, 1, 16, 16)])
    found = compare(profile, ann, gamma=table)
    layers = table.set_index("layer")
    head = row(found.parts, "head", "horowitz-45nm-int8", bits=True)["against_mj"]
    assert head == pytest.approx(128 * 0.105e-9 * (1 - layers["gamma"]["head"]))
    assert found.prices["gamma"].iloc[-1] == pytest.approx(table.attrs["gamma"])
    assert any("as measured" in note for note in found.notes)
    with pytest.raises(SpikeattnError, match="gamma was measured on another network: 1 of the 20 layers"):
        compare(profile, ann, gamma=table[table["layer"] != "head"])
    with pytest.raises(SpikeattnError, match="gamma lacks the column 'layer'"):
        compare(profile, gamma=table.drop(columns="layer"))


# Edges and bad input


def test_a_silent_network_has_a_one_sided_ratio(ledger, spikes):
    silent = {name: np.zeros_like(values) for name, values in spikes.items()}
    found = compare(sa.Profile(ledger, BruteCounts(ledger, silent)))
    sums = row(found.parts, "attention")
    assert sums["energy_mj"] == 0 and sums["ratio"] == np.inf and sums["interval"] == "lower bound"
    assert 0 < sums["ratio_low"] < np.inf and sums["verdict"] == "wins"
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["parts"][1]["ratio"] is None


def test_json_holds_everything(profile):
    found = compare(profile)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["ratio"]["value"] == found.total.value and record["ratio"]["method"] == "studentised"
    assert len(record["parts"]) == len(found.parts) and record["parts"][0]["costs"] == "horowitz-45nm-fp32"
    assert record["prices"][0]["bits"] is None and record["prices"][2]["bits"] == 3
    assert record["blocks"][0]["block"] == 0 and record["parts"][0]["cannot_lose"] is True
    assert record["provenance"]["convention"] == "exact" and record["sentences"] == list(found.sentences)
    assert any(note.startswith("arithmetic:") for note in record["notes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"costs": "horowitz-45nm-fp3"}, "did you mean 'horowitz-45nm-fp32'"),
        ({"costs": []}, "costs is empty"),
        ({"costs": "loihi"}, "has no price for mac"),
        ({"convention": "exactly"}, "did you mean 'exact'"),
        ({"ann": "ann_digit"}, "unknown ANN 'ann_digit': did you mean 'ann_digits'"),
        ({"ann": "sdt_digits"}, "sdt_digits is a spiking network: profile it on the same images"),
        ({"ann": 7}, "ann is a int; give a network, its name, or a profile"),
        ({"ann": "resnet18"}, r"ResNet does not run on an input \(1, 1, 16, 16\)"),
        ({"gamma": 1.5}, "gamma is 1.5; it is a share, from 0 to 1"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"gamma": "much"}, "gamma is a str"),
        ({"replicates": 5}, "replicates is 5"),
        ({"confidence": 2}, "confidence is 2"),
    ],
)
def test_bad_input(profile, arguments, message):
    with pytest.raises(SpikeattnError, match=message):
        compare(profile, **arguments)


def test_a_spiking_module_is_no_ann(profile):
    with pytest.raises(SpikeattnError, match="has 19 spiking neurons, the first is 'patch_embed.proj_lif'"):
        compare(profile, timm.create_model("sdt_digits"))
    bare = dataclasses.replace(profile.ledger, model={})
    assert twin_for(bare).note.startswith("no ANN was given")
