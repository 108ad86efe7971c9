"""The way from one convention to another, and conventions side by side."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from spikeattn.energy.activity import CountedActivity
from spikeattn.energy.convention_switches import side_by_side, waterfall
from spikeattn.energy.conventions import PRESETS, SWITCHES, get_convention
from spikeattn.energy.estimate import energy
from spikeattn.energy.operations import operations
from spikeattn.energy.published_rates import PublishedActivity
from spikeattn.energy.rate_tables import packaged_table, read_rates
from spikeattn.energy.what_if import sweep
from spikeattn.errors import SpikeattnError

SPIKE_DRIVEN = ("conv", "conv1", "head", "kv", "sum")


@pytest.fixture
def named(only):
    """The tiny network with the names that presets ask for."""
    ledger = only(*SPIKE_DRIVEN)
    tensors = tuple(dataclasses.replace(t, role="Conv1") if t.name == "lif" else t for t in ledger.tensors)
    return dataclasses.replace(ledger, tensors=tensors)


@pytest.mark.parametrize("name", PRESETS)
def test_one_switch_at_a_time_ends_at_the_presets_own_total(named, counts, name):
    steps = waterfall(CountedActivity(named, counts), name)
    assert list(steps.columns) == ["switch", "from", "to", "energy_mj", "difference_mj"]
    assert steps.energy_mj.iloc[0] == energy(named, counts).total.value
    assert steps.energy_mj.iloc[-1] == energy(named, counts, convention=name).total.value  # not approximately
    assert steps.switch[0] == "start" and steps.difference_mj[0] == 0
    assert np.allclose(steps.difference_mj[1:], np.diff(steps.energy_mj))
    changed = [s for s in SWITCHES if getattr(PRESETS[name], s) != getattr(PRESETS["exact"], s)]
    assert list(steps.switch[1:]) == changed
    for row in steps[1:].itertuples():
        assert row[2] == getattr(PRESETS["exact"], row.switch) and row.to == getattr(PRESETS[name], row.switch)
    assert steps.attrs == {"start": "exact", "to": name, "costs": "horowitz-45nm-fp32"}


def test_every_step_is_a_convention_of_its_own(named, counts):
    steps = waterfall(CountedActivity(named, counts), "sdt-paper")
    switches = {}
    for row in steps[1:].itertuples():
        switches[row.switch] = row.to
        assert row.energy_mj == energy(named, counts, convention=get_convention("exact", **switches)).total.value


def test_the_way_back_is_walked_backwards(named, counts):
    there, back = (
        waterfall(CountedActivity(named, counts), "sdt-paper"),
        waterfall(CountedActivity(named, counts), "exact", start="sdt-paper"),
    )
    assert list(back.switch[1:]) == list(there.switch[1:])[::-1]
    assert np.allclose(back.energy_mj[::-1], there.energy_mj)
    assert len(waterfall(CountedActivity(named, counts), "exact")) == 1


def test_from_published_rates(sdt_8_512):
    activity = PublishedActivity(sdt_8_512, read_rates(packaged_table("table_s1_sdt_8_512"), sdt_8_512))
    steps = waterfall(activity, "sdt-printed", start="input-rate").set_index("switch")
    assert round(steps.energy_mj["start"], 2) == 5.61
    assert round(steps.energy_mj.iloc[-1], 2) == 4.50
    qkv = 0.9e-9 * 4 * 3 * 196 * 512 * (196 - 512)  # per unit of rate and block
    rates = activity.rates
    inputs = sum(rates[f"block.{b}.attn.shortcut_lif"].mean() for b in range(8))
    assert steps.difference_mj["qkv_size"] == pytest.approx(qkv * inputs)
    with pytest.raises(SpikeattnError, match="does not hold the exact count"):
        waterfall(activity, "sdt-printed")


def test_a_convention_without_a_formula_for_the_model(ledger, counts):
    with pytest.raises(SpikeattnError, match="convention 'sdt-paper' prices attention .* no formula for 'qk'"):
        waterfall(CountedActivity(ledger, counts), "sdt-paper")
    with pytest.raises(SpikeattnError, match="did you mean 'sdt-printed'"):
        waterfall(CountedActivity(ledger, counts), "sdt_printed")
    with pytest.raises(SpikeattnError, match="did you mean 'horowitz"):
        waterfall(CountedActivity(ledger, counts), "input-rate", costs="horowitz-45")


def test_side_by_side(named, counts):
    names = ["exact", "sdt-paper", "syops"]
    frame = side_by_side(CountedActivity(named, counts), names)
    assert list(frame.columns) == ["part", *names]
    assert frame.part.tolist() == ["SPS", "attention", "head", "other", "total"][: len(frame) - 1] + ["total"]
    for name in names:
        table = energy(named, counts, convention=name).set_index("part").energy_mj
        found = frame.set_index("part")[name].dropna()
        assert found.to_dict() == pytest.approx(table.to_dict(), rel=1e-12)


def test_side_by_side_leaves_out_what_a_convention_does_not_count(only, counts):
    no_neurons = get_convention("syops", neurons="free")
    frame = side_by_side(CountedActivity(only("conv", "sum"), counts), ["exact", no_neurons]).set_index("part")
    assert np.isnan(frame[no_neurons.name]["attention"]) and frame["exact"]["attention"] > 0


def test_the_call_of_the_release_before_gives_the_same_with_a_warning(named, counts):
    now = waterfall(CountedActivity(named, counts), "sdt-paper")
    with pytest.warns(DeprecationWarning, match=r"waterfall\(profile, ...\)"):
        pd.testing.assert_frame_equal(waterfall(named, counts, "sdt-paper"), now)
    with pytest.warns(DeprecationWarning):
        pd.testing.assert_frame_equal(waterfall(ledger=named, activity=counts, to="sdt-paper"), now)
    with pytest.warns(DeprecationWarning), pytest.raises(SpikeattnError, match="its counts are None; give a profile"):
        waterfall(named)
    with pytest.raises(SpikeattnError, match="profile is 'exact'; give the result of spikeattn.profile"):
        waterfall("exact")


def test_every_table_takes_a_profile_or_its_ledger_and_counts(profile):
    """The rows are those of the methods of the profile, whichever way they are asked for."""
    for function, method in ((energy, profile.energy), (operations, profile.operations)):
        pd.testing.assert_frame_equal(pd.DataFrame(function(profile)), pd.DataFrame(method()))
        pd.testing.assert_frame_equal(pd.DataFrame(function(profile.ledger, profile.counts)), pd.DataFrame(method()))
    whole = waterfall(profile, "input-rate")["energy_mj"].iloc[-1]
    assert whole == energy(profile, convention="input-rate").total.value
    with pytest.warns(DeprecationWarning, match="profile=..."):
        assert sweep(run=profile).equals(sweep(profile))
