"""Operations and energies of a tiny network with known spikes, against plain loops over the spikes."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest

from spikeattn.energy.activity import Count, CountedActivity, Rate
from spikeattn.energy.conventions import get_convention
from spikeattn.energy.costs import Cost, CostTable
from spikeattn.energy.estimate import energy
from spikeattn.energy.operations import operations
from spikeattn.energy.rules import terms_of
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger_rows import Synapse, Uncounted

EXACT = ("conv", "conv1", "head", "kv", "sum", "qk", "av", "ss")
PAPER = ("conv", "conv1", "head", "kv", "sum")
N, T = 12, 3


def brute_force(spikes) -> dict[str, int]:
    """Operations of the whole run by visiting every spike and every place it goes to."""
    conv1 = 0
    for _, _, _, row, column in np.argwhere(spikes["lif"]):
        rows = sum(0 <= out * 2 - 1 + k < 6 and out * 2 - 1 + k == row for out in range(3) for k in range(3))
        columns = sum(out * 2 - 1 + k == column for out in range(3) for k in range(3))
        conv1 += rows * columns * 3
    pairs = 0
    for n, t, _, d in np.argwhere(spikes["q"]):
        pairs += int(spikes["k"][n, t, :, d].sum())
    return {
        "conv1": conv1,
        "head": int(spikes["lif1"].sum()) * 4,
        "sum": int((spikes["k"] & spikes["v"]).sum()),
        "qk": pairs,
        "av": int(spikes["v"].sum()) * 9,
    }


def test_operations_equal_brute_force(ledger, counts, spikes):
    frame = operations(ledger, counts).set_index("synapse")
    expected = brute_force(spikes)
    assert list(frame.index) == ["conv", "conv1", "head", "kv", "sum", "qk", "av", "ss"]
    assert frame.sops[["conv1", "head", "qk", "av"]].to_dict() == {k: v for k, v in expected.items() if k != "sum"}
    assert frame.acs["sum"] == expected["sum"] and frame.acs.sum() == expected["sum"]
    assert frame.macs["conv"] == N * 36 * 18  # once per image
    assert frame.macs["ss"] == N * T * 243
    assert frame.mask_ops.sum() == N * T * 27
    assert frame.counted.all()
    assert (frame.sops_per_image == frame.sops / N).all()
    assert frame.dtypes["sops"] == "Int64"
    assert frame.dense_macs.sum() == ledger.dense_macs() + 3 * 243
    assert frame.part.tolist() == ["SPS", "SPS", "head", "attention", "attention", "other", "other", "other"]


def test_rate_times_flops_is_beside_the_exact_count(ledger, counts, spikes):
    frame = operations(ledger, counts).set_index("synapse")
    assert np.isnan(frame.rate_x_flops["conv"])
    assert frame.rate_x_flops["conv1"] == pytest.approx(spikes["lif"].mean() * T * 486)
    assert frame.rate_x_flops["conv1"] > frame.sops_per_image["conv1"]  # the border
    assert frame.rate_x_flops["head"] == pytest.approx(frame.sops_per_image["head"])  # no border: the same


def test_first_conv_every_step(ledger, counts):
    frame = operations(ledger, counts, first_conv="every-step").set_index("synapse")
    assert frame.macs["conv"] == N * T * 36 * 18
    assert frame.attrs == {"first_conv": "every-step", "n_images": N, "time_steps": T}


def test_uncounted_operations_have_a_row_without_numbers(ledger, counts):
    ledger = dataclasses.replace(ledger, uncounted=(Uncounted("fft", "fft", "no rule"),))
    last = operations(ledger, counts).iloc[-1]
    assert last.synapse == "fft" and not last.counted and pd.isna(last.sops)
    assert any("not counted: fft (fft)" in note for note in energy(ledger, counts).notes)


def test_energy_is_operations_times_price(ledger, counts, spikes):
    table, expected = energy(ledger, counts), brute_force(spikes)
    assert table.part.tolist() == ["SPS", "attention", "head", "other", "total"]
    rows = table.set_index("part")
    sps = (36 * 18 * 4.6 + expected["conv1"] / N * 0.9) * 1e-9
    assert rows.energy_mj["SPS"] == pytest.approx(sps, rel=1e-12)
    assert rows.energy_mj["attention"] == pytest.approx(expected["sum"] / N * 0.9e-9, rel=1e-12)
    assert rows.energy_mj["other"] == pytest.approx(
        ((expected["qk"] + expected["av"]) / N * 0.9 + T * 243 * 4.6) * 1e-9, rel=1e-12
    )
    for column in ("macs", "sops", "acs", "mask_ops", "energy_mj", "share"):
        assert rows[column]["total"] == pytest.approx(rows[column].iloc[:-1].sum(), rel=1e-12)
    assert rows.share["total"] == 1
    assert (rows.ci_low <= rows.energy_mj).all() and (rows.energy_mj <= rows.ci_high).all()


def test_total_per_image_and_interval(ledger, counts):
    table = energy(ledger, counts)
    assert table.per_image.shape == (N,)
    assert table.total.value == pytest.approx(table.per_image.mean())
    assert table.total.low < table.total.value < table.total.high
    assert table.total_t.low == pytest.approx(table.total.low, rel=0.05)
    assert energy(ledger, counts).total == table.total
    assert energy(ledger, counts, seed=1).total != table.total
    assert table.provenance["n_images"] == N and table.provenance["ledger"] == ledger.hash()
    assert table.provenance["switches"] == get_convention("exact").switches()


def test_the_table_is_a_dataframe_and_slices_carry_no_total(ledger, counts, tmp_path):
    table = energy(ledger, counts)
    assert isinstance(table, pd.DataFrame)
    table.to_csv(tmp_path / "energy.csv", index=False)
    back = pd.read_csv(tmp_path / "energy.csv")
    pd.testing.assert_frame_equal(back, pd.DataFrame(table), check_dtype=False)
    table.to_parquet(tmp_path / "energy.parquet")
    assert "energy_mj" in table._repr_html_()
    assert type(table[table.part == "SPS"]) is pd.DataFrame and type(table.copy()) is pd.DataFrame
    assert not hasattr(table.head(2), "total")
    assert len(pd.concat([table, table])) == 2 * len(table)
    again = pickle.loads(pickle.dumps(table))
    assert again.total == table.total and again.notes == table.notes


def test_notes_say_how_the_first_layer_is_charged(ledger, counts):
    def note(convention):
        return energy(ledger, counts, convention=convention).notes[0]

    assert note("exact") == "first layer conv (static input): charged as MACs once per image"
    every = get_convention("exact", first_conv="every-step")
    assert note(every) == "first layer conv (static input): charged as MACs at each of the 3 time steps"
    tensors = tuple(dataclasses.replace(t, static=False) if t.name == "input" else t for t in ledger.tensors)
    frames = dataclasses.replace(ledger, tensors=tensors, static_input=False)
    assert "changes with the time step" in energy(frames, counts).notes[0]
    assert energy(frames, counts).macs.iloc[0] == T * 36 * 18


def test_event_frames_are_additions_by_value(only, spikes, counts):
    ledger = only("head")
    tensors = tuple(
        dataclasses.replace(t, maker="input", static=False) if t.name == "lif1" else t for t in ledger.tensors
    )
    ledger = dataclasses.replace(ledger, tensors=tensors)
    frame = operations(ledger, counts)
    assert frame.sops[0] == spikes["lif1"].sum() * 4 and frame.macs[0] == 0
    assert energy(ledger, counts).notes == ["first layer head (integer input): charged as additions at every time step"]
    by_nonzero = energy(ledger, counts, convention=get_convention("exact", spikes="non-zero"))
    assert by_nonzero.sops.iloc[-1] == pytest.approx(np.count_nonzero(spikes["lif1"]) * 4 / N)
    as_macs = energy(ledger, counts, convention=get_convention("exact", first_layer="mac"))
    assert as_macs.macs.iloc[-1] == T * 108 and as_macs.sops.iloc[-1] == 0


def test_a_layer_that_runs_once_per_image_is_charged_once(only, counts):
    ledger = only("conv")
    tensors = tuple(dataclasses.replace(t, static=False, maker="op") for t in ledger.tensors)
    after_mean = Synapse("conv", "linear", "input", 648, every_step=False)
    assert operations(dataclasses.replace(ledger, tensors=tensors, synapses=(after_mean,)), counts).macs[0] == N * 648
    spiking = dataclasses.replace(ledger.synapses[0], name="head", input="lif1", fan_out=4, every_step=False)
    spiking = dataclasses.replace(ledger, synapses=(spiking,))
    for convention in ("exact", "input-rate"):  # the count table repeats a tensor without a time axis T times
        found = energy(spiking, counts, convention=convention).sops.iloc[-1]
        assert found == pytest.approx(counts.fan("head")[:, 0].mean() * (1 if convention == "exact" else 648 / 108))
    every = dataclasses.replace(after_mean, every_step=True)
    assert operations(dataclasses.replace(ledger, tensors=tensors, synapses=(every,)), counts).macs[0] == N * T * 648


def test_input_rate_convention(only, counts, spikes):
    rows = energy(only("conv1", "head", "av", "sum"), counts, convention="input-rate").set_index("part")
    assert rows.sops["SPS"] == pytest.approx(spikes["lif"].mean() * T * 486)
    assert rows.sops["head"] == pytest.approx(spikes["lif1"].mean() * T * 108)  # integer spikes by value
    assert rows.sops["other"] == pytest.approx(spikes["v"].sum() / N * 9)
    assert rows.acs["attention"] == pytest.approx(spikes["kv"].sum() / N)


def test_sdt_paper_convention(only, counts, spikes):
    ledger = only(*PAPER)
    pooled = tuple(
        dataclasses.replace(t, maker="pool", sources=("lif",)) if t.name == "lif1" else t for t in ledger.tensors
    )
    qkv = Synapse("q_conv", "linear", "lif1", 3000, 1, part="QKV", block=0)
    ledger = dataclasses.replace(ledger, tensors=pooled, synapses=(*ledger.synapses, qkv))
    rows = energy(ledger, counts, convention="sdt-paper").set_index("part")
    assert rows.macs["SPS"] == T * 648
    assert rows.sops["head"] == pytest.approx(spikes["lif"].mean() * T * 108)  # the rate before the pool
    mean_qkv = np.mean([spikes[name].mean() for name in "qkv"])
    assert rows.sops["QKV"] == pytest.approx(mean_qkv * T * 3000)
    assert rows.acs["attention"] == pytest.approx((spikes["k"].mean() + spikes["v"].mean()) * T * 27)
    assert rows.mask_ops["total"] == 0
    rates = {term.source.tensors for term in terms_of(ledger, get_convention("sdt-paper")) if type(term.source) is Rate}
    assert ("q", "k", "v") in rates or ("k", "v", "q") in rates


def test_sdt_paper_needs_its_labels(only, ledger, counts):
    no_roles = tuple(dataclasses.replace(t, role=None) for t in ledger.tensors)
    with pytest.raises(SpikeattnError, match="no tensor of block 0 in this model is labelled"):
        energy(dataclasses.replace(only("sum"), tensors=no_roles), counts, convention="sdt-paper")
    elsewhere = dataclasses.replace(only("sum"), tensors=no_roles)
    elsewhere = dataclasses.replace(
        elsewhere, products=tuple(dataclasses.replace(p, block=None) for p in elsewhere.products)
    )
    with pytest.raises(SpikeattnError, match="no tensor in this model is labelled: .* use 'exact' or 'input-rate'"):
        energy(elsewhere, counts, convention="sdt-paper")
    with pytest.raises(SpikeattnError, match=r"no formula for 'qk' \(matmul\)"):
        energy(ledger, counts, convention="sdt-paper")
    notes = energy(only("conv", "conv1"), counts, convention="sdt-paper").notes
    assert any("no layer of this model is labelled QKV" in note for note in notes)
    pool = tuple(dataclasses.replace(t, maker="pool") if t.name == "lif" else t for t in ledger.tensors)
    with pytest.raises(SpikeattnError, match="does not say what it pools"):
        energy(dataclasses.replace(only("conv1"), tensors=pool), counts, convention="sdt-paper")


def test_own_costs_change_the_price_alone(ledger, counts):
    costs = CostTable("mine", "", "", {op: Cost(1.0, "", "choice") for op in ("mac", "ac", "mask")})
    row = energy(ledger, counts, costs=costs).iloc[-1]
    assert row.energy_mj == pytest.approx((row.macs + row.sops + row.acs + row.mask_ops) * 1e-9)
    free = CostTable("free", "", "", {op: Cost(0, "", "choice") for op in ("mac", "ac", "mask")})
    assert energy(ledger, counts, costs=free).share.isna().all()


def test_one_image(ledger, spikes, counts):
    one = type(counts)(ledger, {name: values[:1] for name, values in spikes.items()})
    table = energy(ledger, one)
    assert table.ci_low.isna().all() and table.total.method == "none"
    assert any(note.startswith("single-image") for note in table.notes)


def test_a_silent_part_gets_a_bound_not_zero_to_zero(only, spikes, counts):
    ledger = only("conv", "conv1", "sum")
    spikes["kv"][:] = 0
    table = energy(ledger, counts)
    row = table.set_index("part").loc["attention"]
    assert (row.energy_mj, row.ci_low) == (0, 0) and row.ci_high > 0 and row.interval == "upper bound"
    assert any(note.startswith("few-spiking-images: attention") for note in table.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spikes": 0}, "zero images"),
        ({"time_steps": 4}, "count table has 4 time steps, the ledger 3"),
        ({"elements": 5}, "count table does not belong to this ledger"),
    ],
)
def test_counts_that_do_not_fit(ledger, spikes, counts, change, message):
    if "spikes" in change:
        counts = type(counts)(ledger, {name: values[:0] for name, values in spikes.items()})
    if "time_steps" in change:
        counts.time_steps = change["time_steps"]
    if "elements" in change:
        small = tuple(dataclasses.replace(t, elements=5) if t.name == "kv" else t for t in ledger.tensors)
        ledger = dataclasses.replace(ledger, tensors=small)
    with pytest.raises(SpikeattnError, match=message):
        operations(ledger, counts)


def test_as_many_spikes_as_there_are_elements_and_no_more(ledger, spikes, counts, monkeypatch):
    elements, column = ledger.tensor("kv").elements, counts.column
    monkeypatch.setattr(counts, "column", lambda measure, name: np.full_like(column(measure, name), elements))
    kept = CountedActivity(ledger, counts).total(Count("nnz", "kv"))
    assert (kept == elements * T).all()
    one_more = np.full((N, T), elements)
    one_more[0, 0] += 1
    monkeypatch.setattr(counts, "column", lambda measure, name: one_more)
    with pytest.raises(SpikeattnError, match=f"{elements * T + 1} non-zero elements counted"):
        CountedActivity(ledger, counts).total(Count("nnz", "kv"))


def test_nan_counts_are_an_error(ledger, spikes, counts, monkeypatch):
    monkeypatch.setattr(counts, "fan", lambda synapse, by="abs": np.full((N, T), np.nan))
    with pytest.raises(SpikeattnError, match="counts of 'conv1' hold NaN"):
        energy(ledger, counts)
