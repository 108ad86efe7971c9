"""A spiking network beside another ANN, a foreign one's dense layers, another run, a sparse ANN; and bad input."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch

import spikeattn as sa
from spikeattn.energy.comparison import compare
from spikeattn.energy.twins import twin_for
from spikeattn.errors import SpikeattnError
from spikeattn.stats.ratios import ratio_intervals
from tests.energy.comparing import PARTS, TINY, live, row
from tests.energy.conftest import BruteCounts

INT8 = "horowitz-45nm-int8-acc32"


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
    quantised = row(found.parts, costs=INT8, bits=True)["against_mj"]
    assert quantised == pytest.approx((256 * 36 * 0.3 + 4096 * 0.175) * 1e-9), "the layer that reads the image: 8 bits"


def test_a_foreign_model_is_compared_with_its_own_layers_as_dense_ones(ledger, counts):
    exact = dataclasses.replace(ledger, products=tuple(p for p in ledger.products if p.name != "ss"))
    found = compare(sa.Profile(exact, counts), costs=["horowitz-45nm-fp32"])
    dense = exact.dense_macs() + 2 * 243 + 2 * 3 * 27  # the token sum: 9 channels of 3 tokens, as shapes are read
    assert found.provenance["ann_macs"] == dense
    assert found.notes[0].startswith("twin: no ANN was given; by hand: the same layers once")
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


def test_a_given_gamma_is_that_of_every_pricing_and_of_the_image(profile):
    without, half = compare(profile), compare(profile, gamma=0.5)
    for part in ("MLP1", "MLP2", "QKV", "SPS", "head"):
        pairs = zip(half.parts["against_mj"][half.parts["part"] == part],
                    without.parts["against_mj"][without.parts["part"] == part], strict=True)  # fmt: skip
        for given, nothing in pairs:
            assert given == pytest.approx(nothing / 2), f"{part}: the image is an operand like any other"
    for part in ("attention", "projection"):
        pair = [row(c.parts, part)["against_mj"] for c in (half, without)]
        assert pair[0] == pair[1] > 0, "softmax has no zeros, nor what it weighs"
    assert half.prices["gamma"].tolist() == [0.5] * 3
    assert half.prices["break_even"].iloc[-1] == pytest.approx(0.175 * 0.5 / 0.1 / 4)
    assert any("0.5 of the ANN's activations behind ReLUs" in n and "not measured" in n for n in half.notes)
    assert half.total == without.total, "gamma 0 unless measured"


def test_measured_gamma_acts_layer_by_layer(profile):
    ann = timm.create_model("ann_digits", **TINY)
    table = sa.measure_gamma(ann, [torch.rand(4, 1, 16, 16)])
    found = compare(profile, ann, gamma=table)
    layers = table.set_index("layer")
    head = row(found.parts, "head", INT8, bits=True)["against_mj"]
    assert head == pytest.approx(128 * 0.175e-9 * (1 - layers["gamma"]["head"]))
    assert found.prices["gamma"].iloc[-1] == pytest.approx(table.attrs["gamma"])
    assert any("skipped for a zero activation (by measure_gamma on 4 images)" in note for note in found.notes)
    with pytest.raises(SpikeattnError, match="gamma was measured on another network: 1 of the 20 layers"):
        compare(profile, ann, gamma=table[table["layer"] != "head"])
    with pytest.raises(SpikeattnError, match="gamma lacks the column 'layer'"):
        compare(profile, gamma=table.drop(columns="layer"))


# Edges and bad input


def test_a_silent_network_has_a_one_sided_ratio(ledger, spikes):
    silent = {name: np.zeros_like(values) for name, values in spikes.items()}
    found = compare(sa.Profile(ledger, BruteCounts(ledger, silent)))
    head = row(found.parts, "head")
    assert head["energy_mj"] == 0 and head["ratio"] == np.inf and head["verdict"] == "no interval"
    sums = row(found.parts, "attention")
    assert sums["energy_mj"] == 0 and np.isnan(sums["ratio"]) and pd.isna(sums["verdict"]), "AND gates at no price"
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
