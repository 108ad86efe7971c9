"""Components beyond arithmetic on a tiny network, by hand; prices of words; what cannot be priced."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from spikeattn.energy import CostTable, components, energy, get_costs, get_model, list_models
from spikeattn.energy.components import EVERYTHING
from spikeattn.energy.costs import Cost, MemoryCost
from spikeattn.energy.models.memory import COMPONENTS, word_price
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger_rows import Synapse

N, T = 12, 3
INT32 = "horowitz-45nm-int32"


@pytest.fixture
def full(ledger):
    """The tiny ledger with the parameters of its layers: conv 1 -> 2 and 2 -> 3 (k = 3, stride 2), head 27 -> 4."""
    extra = {
        "conv": {"weights": 18, "biases": 2, "out_channels": 2, "kernel": (3, 3), "stride": (1, 1)},
        "conv1": {"weights": 54, "out_channels": 3, "kernel": (3, 3), "stride": (2, 2)},
        "head": {"weights": 108, "biases": 4, "out_channels": 4},
    }
    neurons = {"lif": "LIFNode", "lif1": "ILIFNode", "q": "IFNode", "k": "IFNode", "v": "EIFNode"}
    return dataclasses.replace(
        ledger,
        tensors=tuple(
            dataclasses.replace(
                t,
                neuron=neurons.get(t.name),
                **({} if t.name in neurons else {"maker": t.maker.replace("neuron", "op")}),
            )
            for t in ledger.tensors
        ),
        synapses=tuple(dataclasses.replace(s, **extra[s.name]) for s in ledger.synapses),
    )


def amounts(table) -> dict[tuple[str, str, str], float]:
    rows = zip(table.lines.name, table.lines.component, table.lines.what, table.lines.amount, strict=True)
    return {(name, component, what): amount for name, component, what, amount in rows}


def test_every_amount_by_hand(full, counts, spikes):
    found = amounts(components(full, counts, INT32))
    conv1 = counts.fan("conv1").sum() / N
    lif, lif1 = spikes["lif"].sum() / N, spikes["lif1"].sum() / N
    expected = {
        ("conv", "biases", "additions"): 72,  # a still image: the layer runs once
        ("conv", "addressing", "additions"): 36 + 72 + 2 * 9,
        ("conv", "memory_weights", "weight reads"): 36 * 18,
        ("conv", "memory_weights", "bias reads"): 72,
        ("conv", "memory_activations", "input reads"): 36 * 18,
        ("conv1", "addressing", "additions"): conv1,
        ("conv1", "addressing", "additions of products"): 2 * lif,
        ("conv1", "addressing", "multiplications"): 2 * lif,
        ("conv1", "memory_weights", "weight reads"): conv1,
        ("conv1", "memory_activations", "spike reads"): lif,
        ("conv1", "memory_potentials", "potential reads"): conv1,
        ("conv1", "memory_potentials", "potential writes"): conv1,
        ("head", "biases", "additions"): 4 * T,
        ("head", "addressing", "additions"): lif1 * 4,
        ("head", "memory_weights", "weight reads"): lif1 * 4,
        ("head", "memory_weights", "bias reads"): 4 * T,
        ("head", "memory_activations", "spike reads"): lif1,  # integer spikes: as many messages as their value
        ("lif", "neuron_updates", "resets"): lif,
        ("lif", "leak", "multiply-accumulates"): 72 * T,
        ("lif", "memory_activations", "spike writes"): lif,
        ("lif", "memory_potentials", "potential writes"): 72 * T,
        ("lif1", "neuron_updates", "resets"): np.count_nonzero(spikes["lif1"]) / N,
        ("lif1", "memory_activations", "spike writes"): lif1,
    }
    for key, amount in expected.items():
        assert found[key] == pytest.approx(amount, rel=1e-12), key
    assert not any(name in ("q", "k") and component == "leak" for name, component, _ in found)
    assert ("v", "leak", "multiply-accumulates") in found
    assert ("conv1", "biases", "additions") not in found
    assert not any(name == "soft" for name, *_ in found)
    every = amounts(components(full, counts, INT32, first_conv="every-step"))
    assert every["conv", "memory_weights", "weight reads"] == T * 36 * 18


def test_nominal_fan_outs(full, counts, spikes):
    found = amounts(components(full, counts, INT32, "lemaire-2022"))
    lif = spikes["lif"].sum() / N
    assert found["conv1", "memory_weights", "weight reads"] == pytest.approx(lif * 27)
    assert found["conv1", "compute", "sops"] == pytest.approx(lif * 3 * 2 * 2)
    assert found["sum", "compute", "acs"] == pytest.approx(spikes["kv"].sum() / N)


def test_compute_is_the_energy_of_the_other_table(ledger, full, counts):
    reference = energy(ledger, counts)
    for given, model in ((ledger, "compute"), (full, "compute"), (full, "compute+memory")):
        table = components(given, counts, energy_model=model)
        rows = table[table.component == "compute"]
        np.testing.assert_allclose(rows.energy_mj, reference.energy_mj, rtol=1e-12)
        np.testing.assert_allclose(table.per_image["compute"], reference.per_image, rtol=1e-12)
        assert rows.part.tolist() == reference.part.tolist()


def test_components_stand_apart(full, counts, tmp_path):
    table = components(full, counts)
    totals = table[table.part == "total"].set_index("component").energy_mj
    assert list(totals.index) == [*COMPONENTS, EVERYTHING]
    assert totals[EVERYTHING] == pytest.approx(totals[:-1].sum(), rel=1e-12)
    assert not table.part[table.component == EVERYTHING].ne("total").any()
    assert (table.ci_low <= table.energy_mj).all() and (table.energy_mj <= table.ci_high).all()
    for component in COMPONENTS:
        rows = table[table.component == component].energy_mj
        assert rows.iloc[-1] == pytest.approx(rows.iloc[:-1].sum(), rel=1e-12)
        by_line = table.lines.energy_mj[table.lines.component == component].sum()
        assert rows.iloc[-1] == pytest.approx(by_line, rel=1e-12)
    ratio = totals[EVERYTHING] / totals["compute"]
    assert any(f"{ratio:.1f} times compute alone" in note for note in table.notes)
    wide = table.wide()
    assert wide.columns.tolist() == ["part", *COMPONENTS] and wide.part.iloc[-1] == "total"
    assert np.isnan(wide.set_index("part").leak["head"])
    assert EVERYTHING not in components(full, counts, energy_model="compute").component.tolist()
    table.to_csv(tmp_path / "components.csv", index=False)
    assert type(table[table.part == "SPS"]) is pd.DataFrame
    assert components(full, counts).equals(table)
    assert table.provenance["ledger"] == full.hash() and table.provenance["model"] == "compute+memory"


def test_notes_name_what_is_left_out(full, counts):
    notes = "\n".join(components(full, counts).notes)
    assert "products: of 4 token sums and matrix products" in notes
    assert "neurons: EIFNode charged as a leaky neuron" in notes
    assert "32 bits each" in notes and "large-buffers" not in notes
    wide = (*full.synapses[:2], dataclasses.replace(full.synapses[2], weights=2**20))
    large = dataclasses.replace(full, synapses=wide)
    inside = components(large, counts)
    outside = components(large, counts, energy_model=get_model("compute+memory", off_chip=True))
    assert any("large-buffers: 1 layers or populations have more than 1,048,576" in note for note in inside.notes)
    assert outside.model.name == outside.provenance["model"] == "compute+memory[off_chip=True]"

    def pj(table):
        return table.lines.query("name == 'head' and what == 'weight reads'").pj.item()

    assert (pj(inside), pj(outside)) == (100, 1300)


@pytest.mark.parametrize(
    ("costs", "settings", "words", "pj"),
    [
        (INT32, {}, 0, 0),
        (INT32, {}, 1000, 4000 / 8192 * 10),
        (INT32, {}, 2048, 10),
        (INT32, {}, 5120, 15),
        (INT32, {}, 8192, 20),
        (INT32, {}, 2**18, 100),
        (INT32, {}, 2**20, 100),
        (INT32, {"off_chip": True}, 2**18, 100),
        (INT32, {"off_chip": True}, 2**20, 1300),
        (INT32, {"packed": True}, 2048, 5),
        ("horowitz-45nm-int8", {}, 8192, 10),
        ("horowitz-45nm-int8", {"packed": True}, 8192, 1.25),
        ("horowitz-45nm-fp16", {"packed": True, "off_chip": True}, 2**20, 1300 / 4),
    ],
)
def test_price_of_a_word(costs, settings, words, pj):
    assert word_price(get_costs(costs), get_model("compute+memory", **settings), words) == pytest.approx(pj)


def test_words_wider_than_an_access_cost_several():
    table = dataclasses.replace(get_costs(INT32), bits=32, memory={"s": MemoryCost(2.0, 1024, 24, "", "choice")})
    assert word_price(table, get_model(), 256) == 4
    assert word_price(table, get_model(packed=True), 256) == pytest.approx(2 * 32 / 24)


def test_a_chip_prices_synaptic_operations_alone(full, counts):
    table = components(full, counts, "loihi", "compute")
    rows = table.set_index("part")
    sops = energy(full, counts).set_index("part").sops
    assert rows.energy_mj["SPS"] == pytest.approx(sops["SPS"] * 23.6e-9)
    assert np.isnan(rows.energy_mj["attention"]) and rows.interval["attention"] == "none"
    assert rows.energy_mj["total"] == pytest.approx(sops["total"] * 23.6e-9)
    assert any(note.startswith("unpriced: loihi has no price for") and "macs" in note for note in table.notes)
    assert any(note.startswith("cost-status: loihi") for note in table.notes)


def test_what_is_refused(ledger, full, counts):
    with pytest.raises(SpikeattnError, match="chip's energy per synaptic operation cannot be split.*model='compute'"):
        components(full, counts, "loihi")
    with pytest.raises(SpikeattnError, match=r"lacks \[entries.address_add\].*\[memory.<name>\] with bytes"):
        components(full, counts, "7nm-int8")
    with pytest.raises(SpikeattnError, match="did you mean 'compute\\+memory'"):
        components(full, counts, energy_model="compute_memory")
    with pytest.raises(SpikeattnError, match="did you mean 'off_chip'"):
        get_model("compute+memory", offchip=True)
    with pytest.raises(SpikeattnError, match="'compute' has no memory, so off_chip cannot be set"):
        get_model("compute", off_chip=True)
    with pytest.raises(SpikeattnError, match="unknown fan_out"):
        get_model(fan_out="ceil")
    with pytest.raises(SpikeattnError, match="queue_words is 0"):
        get_model(queue_words=0)
    with pytest.raises(SpikeattnError, match=r"needs the number of weights of every layer.*\(conv\)"):
        components(ledger, counts)
    on_chip = dataclasses.replace(get_costs(), memory={"s": MemoryCost(1.0, 64, 32, "", "choice")})
    with pytest.raises(SpikeattnError, match="without bytes"):
        components(full, counts, on_chip, get_model(off_chip=True))
    one = CostTable("one", "", "", {op: Cost(1.0, "", "choice") for op in ("mac", "ac", "mask")})
    with pytest.raises(SpikeattnError, match="lacks .*bits"):
        components(full, counts, one)
    assert list_models() == ("compute", "compute+memory", "lemaire-2022")


def test_kernel_fan_out():
    conv = Synapse("c", "conv2d", "x", 1, out_channels=12, groups=3, kernel=(3, 5), stride=(1, 2))
    assert conv.kernel_fan_out == 4 * 15
    assert Synapse("l", "linear", "x", 1, out_channels=7).kernel_fan_out == 7
