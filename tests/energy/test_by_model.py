"""Named energy models on a network counted by hand, their records, a user's own, and what no model hides."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from spikeattn.energy import (
    Charge,
    ModelConstant,
    ModelRecord,
    NamedModel,
    by_model,
    components,
    energy,
    get_costs,
    get_energy_model,
    get_model,
    list_energy_models,
    register_energy_model,
    sana_fe_loihi,
)
from spikeattn.energy.ann_memory import charges_of_ann
from spikeattn.energy.comparison import compare
from spikeattn.energy.dense_twin import dense_twin
from spikeattn.energy.models import catalogue
from spikeattn.energy.models.ns_ace import spike_bits
from spikeattn.energy.models.qualia import word_pj
from spikeattn.energy.models.spikes_per_synapse import verdict
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Interval
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Product, Synapse
from tests.energy.conftest import BruteCounts

N, T = 6, 3
OF_COST_TABLE = ("compute", "compute+memory", "lemaire-2022", "qualia-sram")


@pytest.fixture(autouse=True)
def no_model_of_another_test(monkeypatch):
    monkeypatch.setattr(catalogue, "_registered", {})


@pytest.fixture
def case() -> tuple[Ledger, BruteCounts]:
    """Real image [4] -> linear with biases -> 5 IF -> linear -> 2 LIF; one token sum of the first spikes."""
    ledger = Ledger(
        time_steps=T,
        static_input=True,
        tensors=(
            CountedTensor("input", (4,), 4, maker="input", kind="real", static=True),
            CountedTensor("a", (5,), 5, part="MLP1", neuron="IFNode"),
            CountedTensor("b", (2,), 2, part="MLP2", neuron="LIFNode"),
        ),
        synapses=(
            Synapse("one", "linear", "input", 20, 5, 5, part="MLP1", weights=20, biases=5, out_channels=5),
            Synapse("two", "linear", "a", 10, 2, 2, part="MLP2", weights=10, out_channels=2),
        ),
        products=(Product("sum", "token_sum", ("a",), 5, part="attention"),),
    )
    rng = np.random.default_rng(3)
    spikes = {"a": (rng.random((N, T, 5)) < 0.5).astype(int), "b": (rng.random((N, T, 2)) < 0.4).astype(int)}
    return ledger, BruteCounts(ledger, spikes, T)


def value(table: pd.DataFrame, model: str, side: str = "SNN") -> float:
    (found,) = table.loc[(table["model"] == model) & (table["side"] == side), "value"]
    return float(found)


def fired(counts: BruteCounts) -> tuple[float, float]:
    """Mean spikes per image of both populations."""
    return tuple(counts.spikes[name].sum() / N for name in ("a", "b"))


def test_arithmetic_and_memory_are_what_their_own_functions_say(case):
    """The total of `compute` and its interval are those of `energy`; those with memory, of `components`."""
    table = by_model(*case, models=OF_COST_TABLE)
    total = energy(*case).total
    row = table[(table["model"] == "compute") & (table["side"] == "SNN")].iloc[0]
    assert (row["value"], row["ci_low"], row["ci_high"]) == pytest.approx((total.value, total.low, total.high))
    assert row["over_compute"] == row["over_compute_low"] == 1
    for name in ("compute+memory", "lemaire-2022"):
        last = components(*case, energy_model=name).iloc[-1]
        row = table[table["model"] == name].iloc[0]
        assert (row["value"], row["ci_low"], row["ci_high"]) == pytest.approx(
            (last["energy_mj"], last["ci_low"], last["ci_high"])
        )
        assert row["over_compute"] == pytest.approx(last["energy_mj"] / total.value)
    lines = charges_of_ann(dense_twin(case[0]).sizes.layers, get_costs(), get_model("compute+memory"))
    for name in ("compute+memory", "lemaire-2022"):
        assert value(table, name, "ANN") == pytest.approx(lines["energy_mj"].sum())
    words = lines["unit"] == "words"
    assert value(table, "qualia-sram", "ANN") == pytest.approx(
        lines.loc[~words, "energy_mj"].sum() + 5.0e-9 * lines.loc[words, "amount"].sum()
    )
    assert value(table, "compute", "ANN") == pytest.approx((20 + 10 + 2 * 5) * 4.6e-9)


def test_qualias_sram(case):
    """Every word of compute+memory at 10 pJ over as many words as 64 bits hold."""
    table, lines = by_model(*case, models="qualia-sram"), components(*case, energy_model="compute+memory").lines
    operations = lines.loc[lines["unit"] == "operations", "energy_mj"].sum()
    words = lines.loc[lines["unit"] == "words", "amount"].sum()
    assert value(table, "qualia-sram") == pytest.approx(operations + words * 5.0e-9)
    assert [word_pj(bits) for bits in (32, 16, 8, 24, 64)] == [5, 2.5, 1.25, 5, 10]
    with pytest.raises(SpikeattnError, match="words of 128 bits do not fit"):
        word_pj(128)


def test_spikingjelly_simple(case):
    a, b = fired(case[1])
    table = by_model(*case, models="spikingjelly-simple")
    macs, additions, sums = 20, 2 * a, a
    inside_neurons = 4 * 5 * T + 6 * 2 * T
    words = macs + additions + 5 + 2 * (5 + 2) * T
    pj = 4.6 * macs + 0.9 * (additions + sums + inside_neurons) + 24.96 * 4 * words
    assert value(table, "spikingjelly-simple") == pytest.approx(pj * 1e-9)
    split = table.parts.query("side == 'SNN'").groupby("component")["value"].sum() * 1e9
    assert split["neuron states"] == pytest.approx(24.96 * 4 * 2 * 7 * T)
    assert split["neuron arithmetic"] == pytest.approx(0.9 * inside_neurons)


def test_keras_spiking(case):
    """Rate x connections x T events, an update per neuron and step; the ANN: every MAC and activation once."""
    a, _ = fired(case[1])
    devices = {"loihi": (27.1, 81), "spinnaker": (13_300, 26_000), "spinnaker2": (450, 2_190)}
    table = by_model(*case, models=[f"keras-spiking-{device}" for device in devices])
    for device, (event, update) in devices.items():
        assert value(table, f"keras-spiking-{device}") == pytest.approx(
            (event * a / (5 * T) * 10 * T + update * 7 * T) * 1e-9
        )
    unpriced = table.unpriced.set_index(["model", "what"])["per_image"]
    assert unpriced["keras-spiking-loihi", "multiply-accumulates of real inputs"] == 20
    assert unpriced["keras-spiking-loihi", "additions without weights"] == pytest.approx(a)
    assert "20 multiply-accumulates of real inputs" in " ".join(table.notes)


def test_the_printed_example_of_keras_spiking():
    """ModelEnergy's docstring: 784 to 128 units on a CPU, 100352 connections and 128 neurons, 8.64e-04 J."""
    ledger = Ledger(
        time_steps=1,
        static_input=True,
        tensors=(
            CountedTensor("input", (784,), 784, maker="input", kind="real", static=True),
            CountedTensor("act", (128,), 128, neuron="IFNode"),
        ),
        synapses=(Synapse("dense", "linear", "input", 100_352, 128, 128, weights=100_352, out_channels=128),),
    )
    counts = BruteCounts(ledger, {"act": np.ones((2, 1, 128), int)}, 1)
    table = by_model(ledger, counts, models=["keras-spiking-cpu", "keras-spiking-gpu", "keras-spiking-arm"])
    assert f"{value(table, 'keras-spiking-cpu', 'ANN') / 1e3:.2e}" == "8.64e-04"
    assert value(table, "keras-spiking-gpu", "ANN") == pytest.approx(100_480 * 0.3e-6)
    assert value(table, "keras-spiking-arm", "ANN") == pytest.approx(100_480 * 0.9e-6)
    assert set(table["interval"]) == {"constant"}


def test_sana_fe_loihi_by_hand_and_with_a_mapping(case):
    a, b = fired(case[1])
    fixed = (51.2 + 21.6) * 7 * T + 69.3 * (a + b) + 35.5 * 2 * a
    plain, mapped = sana_fe_loihi(), sana_fe_loihi(messages_per_spike=2.5, north_south_hops=1.5, east_west_hops=2)
    table = by_model(*case, models=[plain, mapped])
    assert value(table, "sana-fe-loihi") == pytest.approx((fixed + 111 * a) * 1e-9)
    assert "sana-fe-loihi[" in mapped.name and "messages_per_spike=2.5" in mapped.name
    assert value(table, mapped.name) == pytest.approx((fixed + 2.5 * (111 + 1.5 * 4.2 + 2 * 3.0) * a) * 1e-9)
    assert any("hops" in text for text in plain.record.outside)
    assert not any("hops" in text for text in mapped.record.outside)
    for wrong in (0.5, -1, math.inf, "two", True):
        with pytest.raises(SpikeattnError, match="messages_per_spike of sana-fe-loihi"):
            sana_fe_loihi(messages_per_spike=wrong)


def test_sana_fe_takes_convolutions_at_their_own_price(ledger, counts):
    tensors = tuple(dataclasses.replace(t, maker="op") if t.name == "soft" else t for t in ledger.tensors)
    ledger = dataclasses.replace(ledger, tensors=tensors, products=())
    counts = BruteCounts(ledger, counts.spikes)
    parts = by_model(ledger, counts, models="sana-fe-loihi").parts.query("component == 'synapses'").set_index("part")
    conv, head = (counts.fan(name).sum() / counts.n_images for name in ("conv1", "head"))
    assert parts["value"]["SPS"] == pytest.approx(conv * 24.0e-9)
    assert parts["value"]["head"] == pytest.approx(head * 35.5e-9)


def test_ns_ace_and_s_ace(case):
    a, _ = fired(case[1])
    table = by_model(*case, models=["ns-ace", "s-ace"])
    assert value(table, "ns-ace") == pytest.approx(a / (5 * T) * 10 * T * 32 * 1)
    assert value(table, "s-ace") == 10 * T * 32
    assert set(table["unit"]) == {"1"} and table["over_compute"].isna().all()
    int8 = by_model(*case, models="ns-ace", costs="horowitz-45nm-int8")
    assert value(int8, "ns-ace") == pytest.approx(value(table, "ns-ace") / 4)
    with pytest.raises(SpikeattnError, match="how many bits a weight has"):
        by_model(*case, models="ns-ace", costs="loihi")
    ternary, levels = (
        CountedTensor("x", (1,), 1, kind="ternary"),
        CountedTensor("x", (1,), 1, kind="integer", low=0, high=4),
    )
    assert [spike_bits(t) for t in (ternary, levels)] == [2, 3]
    assert spike_bits(CountedTensor("x", (1,), 1, kind="integer")) is None


def test_spikes_per_synapse_and_its_thresholds(case):
    a, _ = fired(case[1])
    table = by_model(*case, models="spikes-per-synapse")
    assert value(table, "spikes-per-synapse") == pytest.approx(2 * a / 10)
    assert table["verdict"][0] and table.parts.empty
    for number, said in ((0.1, "below every"), (0.2, "within 0.15 to 1.38"), (1.5, "above 1.38"), (1.8, "above every")):
        assert verdict(Interval(number, number, number)).startswith(said)
    assert verdict(Interval(0.14, 0.13, 0.16)).endswith("that is open")
    assert verdict(Interval(0.14, math.nan, math.nan)).startswith("below every")


def test_every_model_has_a_whole_record(case):
    names = list_energy_models(own=False)
    assert names[0] == "compute" and len(set(names)) == len(names) == 15
    assert set(by_model(*case).model) == set(names)
    for name in names:
        record = get_energy_model(name).record
        assert record.name == name and record.inside and record.outside and record.formula and record.source
        assert record.technology and record.precision and record.title and record.checked_on != "nothing"
        assert record.costs or record.constants
        assert all(constant.source and constant.unit for constant in record.constants)


def test_no_row_is_a_sum_and_every_part_adds_up_to_its_own_total(case):
    table = by_model(*case)
    assert "total" not in set(table["model"]) | set(table.parts["part"])
    added = table.parts.groupby(["model", "side"])["value"].sum()
    for row in table.to_dict("records"):
        if get_energy_model(row["model"]).record.additive:
            assert added[row["model"], row["side"]] == pytest.approx(row["value"])
    means = table.per_image.mean()
    for row in table.to_dict("records"):
        assert means[row["model"], row["side"]] == pytest.approx(row["value"])
    assert isinstance(table[["model"]], pd.DataFrame) and not hasattr(table[["model"]], "parts")


def test_a_model_of_a_users_own(case, monkeypatch):
    """One function and one call."""
    monkeypatch.setattr(catalogue, "_registered", {})

    def charges(network):
        for term in network.additions():
            yield Charge("events", "synaptic events", term, 2.0)

    record = ModelRecord(
        name="mine",
        title="two picojoules per event",
        formula="E = 2 events",
        source="a data sheet",
        constants=(ModelConstant("event", 2.0, "pJ per event", "a data sheet", "secondary"),),
        technology="22 nm",
        precision="8 bits",
        inside=("events",),
        outside=("all else",),
        fidelity="calibrated",
    )
    assert register_energy_model(NamedModel(record, snn=charges)).name == "mine"
    assert list_energy_models()[-1] == "mine"
    a, _ = fired(case[1])
    assert value(by_model(*case), "mine") == pytest.approx(2 * a * 2.0e-9)
    with pytest.raises(SpikeattnError, match="is an energy model of the package"):
        register_energy_model(NamedModel(dataclasses.replace(record, name="compute"), snn=charges))
    for name in ("all", "a,b"):
        with pytest.raises(SpikeattnError, match="can be called"):
            register_energy_model(NamedModel(dataclasses.replace(record, name=name), snn=charges))
    with pytest.raises(SpikeattnError, match="charges nothing"):
        NamedModel(record)
    with pytest.raises(SpikeattnError, match="fidelity"):
        dataclasses.replace(record, fidelity="measurd")
    with pytest.raises(SpikeattnError, match="unit"):
        dataclasses.replace(record, unit="kWh")


def test_what_cannot_be_priced_is_said(case):
    """Under "all" the model is left out with its reason; by name that is an error. Half a figure is never 0."""
    table = by_model(*case, costs="loihi")
    without = {"compute+memory", "lemaire-2022", "ns-ace", "qualia-sram", "s-ace"}
    assert set(table.missing) == without | {"compute (ANN)"}
    assert table["over_compute"].isna().all()  # its arithmetic is without MACs
    assert "cannot be split" in table.missing["compute+memory"] and any("left-out" in note for note in table.notes)
    with pytest.raises(SpikeattnError, match="cannot be split"):
        by_model(*case, models=["compute", "compute+memory"], costs="loihi")
    ledger, counts = case
    real = dataclasses.replace(ledger, products=(), tensors=(ledger.tensors[0],), synapses=ledger.synapses[:1])
    quiet = BruteCounts(real, {"none": np.zeros((N, T, 1))}, T)
    with pytest.raises(SpikeattnError, match=r"per-synapse.* has no price for anything.*20 multiply-acc"):
        by_model(real, quiet, models="spikes-per-synapse")
    with pytest.raises(SpikeattnError, match="did you mean 'ns-ace'"):
        by_model(*case, models="ns-acee")
    with pytest.raises(SpikeattnError, match="models is empty"):
        by_model(*case, models=[])


def test_a_run_without_numbers_of_weights(case):
    """Those that need none still stand; an old run has no row of the others."""
    ledger, counts = case
    old = dataclasses.replace(ledger, synapses=tuple(dataclasses.replace(s, weights=0) for s in ledger.synapses))
    table = by_model(old, BruteCounts(old, counts.spikes, T))
    assert set(table.missing) == {"compute+memory", "lemaire-2022", "qualia-sram", "spikingjelly-simple"}
    assert value(table, "sana-fe-loihi") == value(by_model(*case), "sana-fe-loihi")


def test_the_ann_is_that_of_the_comparison(profile):
    table = by_model(profile, ["compute", "compute+memory"], replicates=100)
    anns = table[table["side"] == "ANN"].set_index("model")["value"]
    lines = compare(profile, costs="horowitz-45nm-fp32", replicates=100).lines
    for model, line in zip(("compute", "compute+memory"), lines, strict=True):
        assert anns[model] == pytest.approx(line.other.value, rel=1e-12), "heads are those of the configuration"
