"""What every switch and preset counts, against plain loops over the spikes of the tiny network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spikeattn.energy.conventions import PRESETS, get_convention
from spikeattn.energy.estimate import energy
from spikeattn.energy.published_rates import energy_from_rates
from spikeattn.energy.rate_tables import packaged_table
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger_rows import Synapse

N, T = 12, 3
CONV, CONV1, HEAD, MATMUL = 36 * 18, 27 * 18, 27 * 4, 243
TRANSFORMER = ("conv", "conv1", "head", "kv", "sum", "qk", "av", "ss")


def amounts(ledger, counts, convention):
    """macs, sops and acs per image."""
    row = energy(ledger, counts, convention=convention).iloc[-1]
    return row.macs, row.sops, row.acs


def test_spikingformer_code(only, counts, spikes):
    ledger = only(*TRANSFORMER)
    r = {name: spikes[name].mean() for name in ("lif", "q", "k", "v", "kv")}
    macs, sops, acs = amounts(ledger, counts, "spikingformer-code")
    assert macs == pytest.approx(T * CONV + HEAD + T * MATMUL)  # first layer at every step, head once, "ss" is real
    assert sops == pytest.approx(T * (r["lif"] * CONV1 + MATMUL * (min(r["q"], r["k"]) + r["v"])))
    assert acs == pytest.approx(T * r["kv"] * 27)
    plain_head = get_convention("spikingformer-code", head="by-kind")
    assert amounts(ledger, counts, plain_head)[0] == T * (CONV + HEAD + MATMUL)  # integer spikes: MACs at every step


def test_the_least_rate_is_that_of_the_run_not_of_the_image(only, counts, spikes):
    """min(r_K, r_V) compares means over the data set, as the published code does."""
    spikes["q"][:6], spikes["q"][6:], spikes["k"][:6], spikes["k"][6:] = 1, 0, 0, 1
    spikes["k"][-1] = 0
    table = energy(only("qk"), counts, convention="spikingformer-code")
    per_image = spikes["k"].reshape(N, T, -1).mean(axis=2).sum(axis=1) * MATMUL
    assert table.per_image == pytest.approx(per_image * 0.9e-9)
    assert table.sops.iloc[-1] == pytest.approx(per_image.mean()) and table.sops.iloc[-1] > 0


def test_spikformer(only, counts, spikes):
    ledger = only(*TRANSFORMER)
    macs, sops, _ = amounts(ledger, counts, "spikformer")
    assert macs == T * (CONV + MATMUL)
    products = MATMUL * (min(spikes["q"].mean(), spikes["k"].mean()) + spikes["v"].mean())
    assert sops == pytest.approx(T * (spikes["lif"].mean() * CONV1 + spikes["lif1"].mean() * HEAD + products))


def test_meta_spikeformer(only, counts, spikes):
    ledger = only(*TRANSFORMER)
    macs, sops, acs = amounts(ledger, counts, "meta-spikeformer")
    assert macs == T * (CONV + MATMUL)
    share = np.count_nonzero(spikes["lif1"]) / spikes["lif1"].size
    products = MATMUL * (spikes["q"].mean() + spikes["v"].mean())
    assert sops == pytest.approx(T * (spikes["lif"].mean() * CONV1 + share * HEAD + products))
    assert acs == pytest.approx(T * 27 * (spikes["k"].mean() + spikes["v"].mean()))  # Q_S is k, K_S is v


def test_syops(only, ledger, counts, spikes):
    reduced = only("conv", "conv1", "head", "sum", "qk")
    neurons = sum(t.elements for t in ledger.tensors if t.maker == "neuron")
    macs, sops, acs = amounts(reduced, counts, "syops")
    norms = 2 * (72 + 27)  # conv at every step and conv1; none behind the head
    assert macs == T * (CONV + HEAD + norms)
    assert sops == pytest.approx(T * spikes["lif"].mean() * CONV1)
    assert acs == T * neurons
    notes = energy(reduced, counts, convention="syops").notes
    assert any(note.startswith("batch norms: one assumed") for note in notes)
    once = get_convention("syops", first_conv="once")
    assert amounts(reduced, counts, once)[0] == CONV + 2 * 72 + T * (HEAD + 2 * 27)


def test_without_a_layer_called_head_the_last_one_is_the_classifier(only, counts):
    bare = tuple(dataclasses.replace(s, part=None) for s in only("conv", "conv1", "head").synapses)
    ledger = dataclasses.replace(only("conv"), synapses=bare)
    counted = get_convention("exact", batch_norm="counted")
    assert amounts(ledger, counts, counted)[0] == CONV + 2 * 72 + T * 2 * 27


def test_first_layer_as_additions_and_by_rate(only, counts, spikes):
    ledger = only("conv")
    for first_conv, times in (("once", 1), ("every-step", T)):
        added = get_convention("exact", first_layer="ac", first_conv=first_conv)
        assert amounts(ledger, counts, added) == (0, CONV * times, 0)
        note = energy(ledger, counts, convention=added).notes[0]
        assert note.endswith("at every time step" if times == T else "once per image")
    still = get_convention("exact", first_layer="mac-input-rate", first_conv="every-step")
    assert amounts(ledger, counts, still)[0] == T * CONV  # R_C = 1
    named = tuple(dataclasses.replace(t, role="Conv1") if t.name == "lif" else t for t in ledger.tensors)
    named_ledger = dataclasses.replace(ledger, tensors=named)
    output = get_convention("exact", first_layer="mac-output-rate", first_conv="every-step")
    assert amounts(named_ledger, counts, output)[0] == pytest.approx(spikes["lif"].mean() * T * CONV)
    first = get_convention("exact", first_layer="mac-output-rate")
    assert amounts(named_ledger, counts, first)[0] == pytest.approx(spikes["lif"][:, 0].mean() * CONV)
    assert "MACs x the rate after it" in energy(named_ledger, counts, convention=output).notes[0]
    with pytest.raises(SpikeattnError, match="by the rate of the neurons that bear its name"):
        energy(ledger, counts, convention=output)


def test_event_frames_cost_macs_for_the_share_of_pixels_that_are_not_zero(only, counts, spikes):
    ledger = only("head")
    frames = tuple(dataclasses.replace(t, maker="input") if t.name == "lif1" else t for t in ledger.tensors)
    ledger = dataclasses.replace(ledger, tensors=frames)
    by_rate = get_convention("exact", first_layer="mac-input-rate")
    share = np.count_nonzero(spikes["lif1"]) / spikes["lif1"].size
    assert amounts(ledger, counts, by_rate)[0] == pytest.approx(T * HEAD * share)
    assert "x the share of non-zero inputs" in energy(ledger, counts, convention=by_rate).notes[0]


def test_own_output_pairs_a_layer_with_the_neurons_of_its_name(only, counts, spikes):
    ledger = only("conv1", "head")
    named = tuple(
        dataclasses.replace(t, role={"lif": "Conv1", "lif1": "Conv2"}[t.name]) if t.name.startswith("lif") else t
        for t in ledger.tensors
    )
    ledger = dataclasses.replace(ledger, tensors=named)
    own = get_convention("input-rate", layer_rate="own-output")
    expected = T * (spikes["lif1"].mean() * CONV1 + spikes["lif1"].mean() * HEAD)  # the head has no neurons after it
    assert amounts(ledger, counts, own)[1] == pytest.approx(expected)
    nameless = energy(only("conv1"), counts, convention=own)
    assert nameless.sops.iloc[-1] == pytest.approx(T * spikes["lif"].mean() * CONV1)
    assert any("no layer bears the name of its output" in note for note in nameless.notes)


def test_the_size_of_q_k_and_v(only, counts, spikes):
    ledger = only("conv1")
    layer = Synapse("q_conv", "conv2d", "lif", 5000, None, part="QKV", block=0)  # 2 channels, 36 tokens
    ledger = dataclasses.replace(ledger, synapses=(layer,))
    sized = get_convention("input-rate", qkv_size="N^2D")
    assert amounts(ledger, counts, sized)[1] == pytest.approx(T * spikes["lif"].mean() * 5000 * 36 / 2)


def test_sdt_printed_as_a_formula(sdt_8_512):
    """4.50 mJ from Table S1, written out without ledger or terms."""
    rows = packaged_table("table_s1_sdt_8_512")
    steps = rows[["T1", "T2", "T3", "T4"]].astype(float).mean(axis=1)
    r = {(part, tensor): rate for part, tensor, rate in zip(rows.part, rows.tensor, steps, strict=True)}
    N, D, T = 196, 512, 4
    pj = 4.6 * T * r["SPS", "Conv1"] * 86_704_128
    conv = 924_844_032
    pj += 0.9 * T * conv * (r["SPS", "Conv2"] + r["SPS", "Conv3"] + 1.5 * r["SPS", "Conv4"])
    for b in range(1, 9):
        rate = {tensor: value for (part, tensor), value in r.items() if part == f"Block{b}"}
        pj += 0.9 * T * (3 * N**2 * D * rate["Input"] + N * D * (rate["Q_S"] + rate["K_S"]))
        pj += 0.9 * T * N * D**2 * (rate["SDSA_out(Vhat_S)"] + 4 * rate["Layer1"] + 4 * rate["Layer2"])
    pj += 0.9 * T * r["Head", "FC"] * D * 1000
    table = energy_from_rates("table_s1_sdt_8_512", sdt_8_512, convention="sdt-printed")
    assert table.total.value == pytest.approx(pj * 1e-9, rel=1e-12)
    assert round(table.total.value, 2) == 4.50
    assert table.provenance["evidence"] == "reconstruction, weak"


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"exact"}))
def test_every_preset_of_rates_prices_the_published_table(name):
    expected = {"sdt-paper": 5.35, "sdt-printed": 4.50, "input-rate": 5.61, "syops": 7.35}
    table = energy_from_rates("table_s1_sdt_8_512", "sdt_8_512", convention=name)
    assert round(table.total.value, 2) == expected.get(name, 6.81)


def test_a_rate_table_of_the_package_is_found_by_name(tmp_path, sdt_8_512):
    by_name = energy_from_rates("table_s1_sdt_8_512.csv", sdt_8_512).total.value
    assert by_name == energy_from_rates(packaged_table("table_s1_sdt_8_512"), sdt_8_512).total.value
    with pytest.raises(SpikeattnError, match="name of a table of the package: table_s1_sdt_8_512"):
        energy_from_rates("table_s2", sdt_8_512)
    with pytest.raises(SpikeattnError, match="unknown published table 'energies': did you mean"):
        packaged_table("energies")
