"""Attention alone: what its rows are charged, by hand, and where there is no ratio."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import spikeattn as sa
from spikeattn.energy.attention_alone import AND_GATE, qkv_neurons
from spikeattn.energy.comparison import compare
from spikeattn.energy.costs import get_costs
from tests.energy.comparing import row
from tests.energy.conftest import TOKENS, BruteCounts, D, T

INT8 = "horowitz-45nm-int8-acc32"
NEURONS = 3 * TOKENS * D


def test_sums_gates_and_leak_by_hand(ledger, counts, spikes):
    """One addition per non-zero k v, one AND gate per mask element and step, one MAC per q, k, v neuron and step."""
    found = compare(sa.Profile(ledger, counts))
    sums = np.count_nonzero(spikes["kv"]) / len(spikes["kv"])
    for costs, mac, ac in (("horowitz-45nm-fp32", 4.6, 0.9), (INT8, 0.3, 0.1)):
        own = (sums * ac + TOKENS * D * T * 0.01 + NEURONS * T * mac) * 1e-9
        alone = row(found.attention, "attention", costs)
        assert alone["energy_mj"] == pytest.approx(own, rel=1e-12)
        assert alone["ratio"] == pytest.approx(alone["against_mj"] / own)
        assert alone["ratio_low"] < alone["ratio"] < alone["ratio_high"]
        assert "token sums, AND gates at 0.01 pJ, leak of the q, k, v neurons" in alone["includes"]
        assert own - sums * ac * 1e-9 > alone["against_mj"] and np.isnan(alone["break_even"]), "loses at any rate"
        parts = row(found.parts, "attention", costs)
        assert parts["energy_mj"] == pytest.approx(sums * ac * 1e-9), "totals and parts stay as they are counted"
        assert np.isnan(parts["ratio"]), "AND gates at no price"
    assert any("attention alone: softmax attention costs" in s and "AND gates at 0.01 pJ" in s for s in found.sentences)


def test_a_price_of_the_tables_own_is_taken(ledger, counts):
    mine = get_costs("horowitz-45nm-fp32")
    gate = dataclasses.replace(mine.entries["mask"], pj=0.5)
    mine = dataclasses.replace(mine, name="mine", entries={**mine.entries, "mask": gate})
    found, free = compare(sa.Profile(ledger, counts), costs=[mine]), compare(sa.Profile(ledger, counts))
    alone = row(found.attention, "attention", "mine")
    less = row(free.attention, "attention")
    gates = TOKENS * D * T
    assert alone["energy_mj"] - less["energy_mj"] == pytest.approx(gates * (0.5 - AND_GATE.pj) * 1e-9)
    assert "AND gates at 0.5 pJ" in alone["includes"] and row(found.parts, "attention", "mine")["ratio"] > 0


def test_neurons_that_do_not_leak_and_nothing_at_all(ledger, spikes):
    still = tuple(dataclasses.replace(t, neuron="IFNode") if t.name in "qkv" else t for t in ledger.tensors)
    silent = {name: np.zeros_like(values) for name, values in spikes.items()}
    dead = dataclasses.replace(ledger, tensors=still)
    alone = row(compare(sa.Profile(dead, BruteCounts(dead, silent))).attention, "attention")
    assert alone["energy_mj"] == pytest.approx(TOKENS * D * T * 0.01e-9) and "no leak" in alone["includes"]
    bare = dataclasses.replace(dead, products=tuple(p for p in dead.products if p.op != "mask"))
    found = compare(sa.Profile(bare, BruteCounts(bare, silent)))
    alone = row(found.attention, "attention")
    assert alone["energy_mj"] == 0 and np.isnan(alone["ratio"])
    assert any("attention alone has no ratio" in sentence for sentence in found.sentences)


def test_formulas_of_papers_stay_and_have_no_ratio_of_attention_alone(sdt_8_512):
    from spikeattn.energy.published_rates import PublishedActivity
    from spikeattn.energy.rate_tables import read_rates

    activity = PublishedActivity(sdt_8_512, read_rates("table_s1_sdt_8_512", sdt_8_512))
    found = compare(activity, convention="sdt-paper")
    assert np.isnan(row(found.attention, "attention")["ratio"])
    assert round(row(found.attention, "QKV + attention")["ratio"], 1) == 26.3
    assert "at no price" in row(found.attention, "QKV + attention")["includes"]


def test_which_neurons_they_are(profile):
    names = [t.name.rpartition(".")[2] for t in qkv_neurons(profile.ledger)]
    assert names == ["q_lif", "k_lif", "v_lif"] * 2
