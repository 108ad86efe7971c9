"""Every printed figure beside ours; the bars of the project recomputed from the geometry alone."""

from __future__ import annotations

import csv
import json

import pytest

from spikeattn.compat.spikingjelly_version import is_current
from spikeattn.energy import published_networks
from spikeattn.energy.printed_formulas import DENSE, DenseFormula, dense_macs, tokens_and_channels
from spikeattn.energy.published_figures import ENTRY_POINTS, reproduce, table
from spikeattn.energy.published_layers import acs_of_log
from spikeattn.energy.published_rates import entry_ledger
from spikeattn.energy.rate_tables import packaged_table
from spikeattn.errors import SpikeattnError
from tests.conftest import ROOT

needs_current = pytest.mark.skipif(not is_current(), reason="needs SpikingJelly 2, whose networks it builds")
N = 196
E_MAC, E_AC = 4.6, 0.9
FIRST = 9 * 3 * 64 * 224**2
IMPLIED = "mean rate that the printed energy implies"
TABLES = ROOT / "spikeattn" / "energy" / "tables"


@pytest.fixture(scope="module")
def rows():
    return reproduce()


@pytest.fixture
def find(rows):
    """The one row of this model, quantity and convention."""

    def one(model, quantity, convention=None):
        fitting = [r for r in rows if (r.model, r.quantity) == (model, quantity)]
        fitting = [r for r in fitting if convention in (None, r.convention)]
        assert len(fitting) == 1, fitting
        return fitting[0]

    return one


def test_the_ann(find):
    name, D = "Transformer-8-512 (ANN)", 512
    stem = FIRST + 3.5 * 9 * 64 * 128 * 112**2
    linear = 8 * 12 * N * D**2
    printed = (stem + linear + 8 * (2 * N * D**2 + 3 * N**2) + 512_000) * E_MAC * 1e-9
    row = find(name, "energy, mJ", "sdt-ann-printed")
    assert row.computed == pytest.approx(printed, rel=1e-12) and row.evidence == "reconstruction, fairly strong"
    assert abs(row.computed - 41.77) < 0.02 and row.printed == 41.77 and row.same_digits
    quarter = (stem + linear + 8 * N**2 * D / 2) * E_MAC * 1e-9
    row = find(name, "energy, mJ", "spikformer-ann-printed")
    assert row.computed == pytest.approx(quarter, rel=1e-12)
    assert (round(row.computed, 2), row.as_printed, row.same_digits) == (38.34, "38.340", True)
    own = (stem + linear + 8 * 2 * N**2 * D + 512_000) * E_MAC * 1e-9
    assert dense_macs(entry_ledger("sdt_8_512"), DENSE["dense"]) * E_MAC * 1e-9 == pytest.approx(own) == 39.4283278336


@pytest.mark.parametrize(("D", "exact", "printed"), [(384, 6.65e8, 6.7e8), (512, 1.18e9, 1.2e9), (768, 2.66e9, 2.7e9)])
def test_attention_of_the_ann(find, D, exact, printed):
    row = find(f"SDT-8-{D}", "attention of the ANN (E1), pJ")
    assert row.computed == pytest.approx(E_MAC * (3 * N * D**2 + 2 * N * D**2 + 3 * N**2), rel=1e-12)
    assert float(f"{row.computed:.3g}") == exact or abs(row.computed - exact) < 0.005 * exact
    assert row.printed == printed and row.same_digits


def test_energy_of_the_spiking_network(find):
    name = "SDT-8-512"
    assert round(find(name, "energy, mJ", "sdt-printed").computed, 2) == 4.50
    assert find(name, "energy, mJ", "sdt-printed").evidence == "reconstruction, weak"
    assert round(find(name, "energy, mJ", "sdt-paper").computed, 2) == 5.35
    assert find(name, "energy, mJ", "sdt-paper").evidence == "as written"
    for other in ("8-384", "6-512", "10-512", "8-768"):
        row = find(f"SDT-{other}", "energy, mJ")
        assert row.computed is None and row.residual is None and "not published" in row.note


def test_attention_ratios(find):
    rates = packaged_table("table_s1_sdt_8_512")
    inputs = rates[rates.tensor == "Input"][["T1", "T2", "T3", "T4"]].astype(float).to_numpy()
    qk = rates[rates.tensor.isin(["Q_S", "K_S"])][["T1", "T2", "T3", "T4"]].astype(float).to_numpy()
    outputs = rates[rates.tensor.isin(["Q_S", "K_S", "V_S"])][["T1", "T2", "T3", "T4"]].astype(float).to_numpy()
    D = 512
    row = find("SDT-8-512", "attention ratio ANN/SNN")
    e1 = E_MAC * (5 * N * D**2 + 3 * N**2)
    assert row.computed == pytest.approx(e1 / (E_AC * inputs.mean() * 3 * N**2 * D), rel=1e-9)
    assert (round(row.computed, 1), row.printed, row.evidence) == (57.2, 57.2, "reconstruction, weak")
    dense = E_MAC * (3 * N * D**2 + 2 * N**2 * D)
    products = E_AC * qk.sum() / 8 * N * D
    own = "attention ratio ANN/SNN, layers' own dimensions"
    stated = find("SDT-8-512", own, "sdt-paper")
    assert stated.computed == pytest.approx(dense / (E_AC * outputs.sum() / 8 * N * D**2 + products), rel=1e-9)
    received = find("SDT-8-512", own, "input-rate[attention=rate-sum]")
    assert received.computed == pytest.approx(dense / (E_AC * inputs.sum() / 8 * 3 * N * D**2 + products), rel=1e-9)
    assert (round(stated.computed, 1), round(received.computed, 1)) == (26.3, 4.1)
    for D, ratio in ((384, 42.6), (768, 87.2)):
        model = f"SDT-8-{D}"
        printed = find(model, "attention ratio ANN/SNN")
        assert (printed.computed, printed.printed) == (None, ratio)
        implied = find(model, "mean Input rate that the printed ratio implies").computed
        assert implied == pytest.approx(E_MAC * (5 * N * D**2 + 3 * N**2) / (ratio * E_AC * 3 * N**2 * D))
        assert f"{implied:.4f}" in printed.note
        dense = E_MAC * (3 * N * D**2 + 2 * N**2 * D)
        assert find(model, own).computed == pytest.approx(dense / (E_AC * 4 * implied * 3 * N * D**2))


def test_spikformer_and_spikingformer(find, rows):
    for size, sops, energy in (("8-384", 6.82, 7.734), ("8-512", 11.09, 11.577), ("8-768", 22.09, 21.477)):
        row = find(f"Spikformer-{size}", "energy, mJ")
        assert row.computed == pytest.approx(E_AC * sops + E_MAC * round(4 * FIRST / 1e9, 3))
        assert row.printed == energy and row.same_digits
    macs = find("Spikingformer-8-512", "MACs, G")
    assert macs.computed == pytest.approx((4 * FIRST + 512_000) / 1e9) and round(macs.computed, 4) == 0.3473
    assert macs.printed == 0.3473 and macs.same_digits
    for size, D, acs in (("8-384", 384, 3.88), ("8-768", 768, 12.54)):
        row = find(f"Spikingformer-{size}", "energy, mJ")
        assert row.computed == pytest.approx(E_AC * acs + E_MAC * (4 * FIRST * D / 512 + 1000 * D) / 1e9)
        assert row.same_digits


def test_the_logs_of_spikingformer_from_their_own_rates(find):
    for model, energy, mean in (
        ("Spikingformer-8-512", "7.4635", 7.4635026),
        ("Spikingformer-8-768", "13.6589", 13.658864952),
        ("CML-Spikingformer-8-768", "16.3062", 16.306188155),
    ):
        row = find(f"{model} (log)", "energy, mJ")
        assert (f"{row.computed:.4f}", row.as_printed, row.same_digits) == (energy, energy, True)
        assert row.computed == pytest.approx(mean, rel=1e-7)  # as the logs print it in full
        like = find(f"{model} (log)", "energy as near to exact as rates come, mJ")
        D = 512 if "512" in model else 768
        assert row.computed - like.computed == pytest.approx(E_MAC * 3 * FIRST * D / 512 * 1e-9, rel=0.02)
        assert like.computed > find(f"{model} (log)", "the same without borders, mJ").computed > 0.98 * like.computed
    assert find("Spikingformer-8-512", "ACs, G").same_digits
    assert find("Spikingformer-8-768", "ACs, G").computed == pytest.approx(12.513659577, rel=1e-7)


def test_a_log_by_hand():
    """8-512 without tables, ledgers and terms of ours: sums over the lines of the csv."""
    lines = list(csv.DictReader((TABLES / "layers_spikingformer_8_512.csv").open()))
    layers = [line for line in lines if line["class"] in ("Conv1d", "Conv2d", "Linear")]
    macs, acs = (sum(float(line[column]) for line in layers) for column in ("macs", "acs"))
    rate = {line["module"]: float(line["input_rate_percent"]) / 100 for line in lines}
    for b in range(8):
        q, k, v = (rate[f"block.{b}.attn.{name}_lif"] for name in "qkv")
        acs += 4 * 8 * N * 64**2 * (min(k, v) + q)
    assert E_MAC * macs * 1e-9 + E_AC * acs * 1e-9 == pytest.approx(7.4635021, rel=1e-8)
    assert acs_of_log("8-512") == pytest.approx(acs, rel=1e-12) and acs_of_log("8-384") is None


def test_the_heads_of_the_logs(find):
    """Nheads 12 in the formula of both 8-768 logs, num_heads=8 of the network: d is 96 and not 64."""
    for model, residual in (("Spikingformer-8-768", 0.0158), ("CML-Spikingformer-8-768", 0.0154)):
        row = find(f"{model} (log)", "energy with the network's heads, mJ")
        assert row.residual == pytest.approx(residual, abs=1e-4) and not row.same_digits


@needs_current
def test_networks_that_can_be_built(find):
    qk = "QKFormer 10-384 (T=4)"
    assert find(qk, "parameters, M").same_digits
    first = 27 * 48 * 224**2
    assert find(qk, "MACs of the first layer, G").computed == first / 1e9
    dense, implied = find(qk, "dense operations of one step, G").computed * 1e9, find(qk, IMPLIED).computed
    energy = E_MAC * (4 * first + 384_000) + E_AC * implied * 4 * (dense - first - 384_000)
    assert energy * 1e-9 == pytest.approx(15.13)
    assert 0.2 < implied < 0.7 and f"{implied:.4f}" in find(qk, "energy, mJ").note
    tokens, D = 196, 384
    last_stage = 7 * (12 * tokens * D**2 + 2 * tokens * D * 64)
    assert last_stage < dense and find("Max-Former 10-512 (T=1)", IMPLIED).computed > 0
    assert find("Max-Former 10-768 (T=4)", "parameters, M").same_digits
    swin = find("QKFormer Swin-B (ANN) (T=1)", "energy, mJ")
    assert swin.computed == pytest.approx(70.84, rel=0.005) and "15.4 G" in swin.note


def test_networks_without_spikingjelly_2(monkeypatch):
    """Rows that need it say so, and the others are as they were."""
    monkeypatch.setattr(published_networks, "is_current", lambda: False)
    monkeypatch.setattr(published_networks, "ANNS", {})
    monkeypatch.setattr(published_networks, "PAPERS", ("Max-Former",))
    rows = list(published_networks.network_rows())
    assert len(rows) == 5 and all(row.computed is None and "SpikingJelly 2" in row.note for row in rows)


def test_the_sheet_of_spikeyolo(find):
    assert find("SpikeYOLO (640 px)", "energy, mJ").computed == pytest.approx(34.4893704192)
    assert (
        find("SpikeYOLO (640 px)", "energy, mJ").same_digits
        and find("SpikeYOLO (640 px)", "energy of the ANN, mJ").same_digits
    )
    more = (
        find("SpikeYOLO (640 px)", "energy by its formula, mJ").computed
        - find("SpikeYOLO (640 px)", "energy, mJ").computed
    )
    assert more == pytest.approx((4.6 - 4.14) * 240844800e-9)


def test_every_published_row_is_there_with_a_figure_or_a_reason(rows):
    energies = packaged_table("published_energies")
    assert len(energies) == 53
    for printed in energies.to_dict("records"):
        number = f" (arXiv {printed['arxiv']})" if printed["arxiv"] else ""
        where = f"{printed['paper']}{number}, {printed['source']}"
        value = printed["power_mJ"].replace("not found", "")
        width = printed["model"].split()[0]
        mine = [row for row in rows if row.source == where and row.as_printed == value and width in row.model]
        mine = [row for row in mine if row.quantity == "energy, mJ"]
        figures = [row for row in mine if row.computed is not None]
        assert figures or len(mine) == 1 and mine[0].note, printed
        assert len(figures) in (0, len(mine)), printed
    without = [row for row in rows if row.quantity == "energy, mJ" and row.computed is None]
    assert len(without) == len({(row.model, row.source) for row in without})
    sources = {row.source.partition(" (arXiv")[0].partition(",")[0] for row in rows}
    assert {paper.partition(" (")[0] for paper in energies.paper} <= sources | {"ViT", "RSB-CNN-152"}
    for row in rows:
        assert (row.computed is None) == bool(row.note and row.convention == "" and "parameters" not in row.quantity)
        if row.computed is not None and row.printed is not None:
            assert row.residual == pytest.approx(row.computed - row.printed)


def test_rows_are_json_and_blame_nobody(rows):
    text = json.dumps([row.to_dict() for row in rows], allow_nan=False).lower()
    for word in ("wrong", "error", "mistake", "incorrect", "false claim"):
        assert word not in text


@needs_current
def test_the_committed_report_is_what_the_code_gives(rows):
    with (ROOT / "reports" / "published" / "published.csv").open() as file:
        committed = list(csv.DictReader(file))
    assert [row["model"] for row in committed] == [row.model for row in rows]
    for line, row in zip(committed, rows, strict=True):
        for key in ("quantity", "convention", "as_printed", "evidence", "source", "note"):
            assert line[key] == getattr(row, key)
        if row.computed is not None:
            assert float(line["computed"]) == pytest.approx(row.computed, rel=1e-9)
    assert list(table(rows).columns) == list(committed[0])


def test_geometry_from_one_step_is_that_of_all(sdt_8_512):
    """Traced at T = 1 and read at T = 4: the ledger of the hand-made geometry."""
    traced = entry_ledger(ENTRY_POINTS["8-512"])
    assert traced.time_steps == 4 and traced.dense_macs() == sdt_8_512.dense_macs()
    assert {s.name: s.dense_macs for s in traced.synapses} == {s.name: s.dense_macs for s in sdt_8_512.synapses}
    assert tokens_and_channels(traced) == tokens_and_channels(sdt_8_512) == (8, 196, 512)
    assert entry_ledger("sdt_8_512") is traced


def test_formulas_that_do_not_fit(only):
    with pytest.raises(SpikeattnError, match="0 sizes of attention blocks"):
        tokens_and_channels(only("conv"))
    with pytest.raises(SpikeattnError, match="unknown attention of formula 'mine' '2N2D': did you mean '2N"):
        DenseFormula("mine", "me", "own definition", attention="2N2D")
    with pytest.raises(SpikeattnError, match="unknown evidence of formula 'mine'"):
        DenseFormula("mine", "me", "sure")
