"""The published rate table of SDT-8-512, priced: 5.35 mJ as written, 5.61 and 6.81 mJ by input rates."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from spikeattn.energy.published_rates import energy_from_rates, entry_ledger
from spikeattn.energy.rate_tables import packaged_table, read_rates
from spikeattn.errors import SpikeattnError
from spikeattn.models import create_model
from spikeattn.tracing.examine import ledger_of
from tests.conftest import ROOT

TABLE_S1 = ROOT / "spikeattn" / "energy" / "tables" / "table_s1_sdt_8_512.csv"


@pytest.fixture
def rates() -> pd.DataFrame:
    return pd.read_csv(TABLE_S1)


def uniform(ledger, rate: float) -> pd.DataFrame:
    """A table with the same rate in every row of the model."""
    named = [tensor for tensor in ledger.tensors if tensor.role]
    return pd.DataFrame(
        {
            "part": ["SPS" if t.block is None else f"Block{t.block + 1}" for t in named],
            "tensor": [t.role for t in named],
            **{f"T{t}": [rate] * len(named) for t in range(1, ledger.time_steps + 1)},
        }
    )


@pytest.mark.parametrize(
    ("convention", "first_conv", "millijoule"),
    [("sdt-paper", None, 5.35), ("input-rate", None, 5.61), ("input-rate", "every-step", 6.81)],
)
def test_table_s1(sdt_8_512, rates, convention, first_conv, millijoule):
    table = energy_from_rates(rates, sdt_8_512, convention=convention, first_conv=first_conv)
    assert round(table.total.value, 2) == millijoule
    assert table.part.tolist() == ["SPS", "QKV", "attention", "projection", "MLP1", "MLP2", "head", "total"]
    assert table.ci_low.isna().all() and table.total.method == "none"
    assert any(note.startswith("rates-only") for note in table.notes)
    stand_ins = [note for note in table.notes if note.startswith("not in the rate table")]
    assert len(stand_ins) == (0 if convention == "sdt-paper" else 2)


def test_sdt_paper_as_a_formula(sdt_8_512, rates):
    """The same 5.35 mJ from the formulas of the paper's Table 1, written out without ledger or terms."""
    r = {(row.part, row.tensor): (row.T1 + row.T2 + row.T3 + row.T4) / 4 for row in rates.itertuples()}
    ND, ND2, T = 196 * 512, 196 * 512**2, 4
    conv = 924_844_032
    pj = 4.6 * T * 86_704_128
    pj += 0.9 * T * conv * (r["SPS", "Conv1"] + r["SPS", "Conv2"] + r["SPS", "Conv3"] + r["SPS", "Conv4"] / 2)
    for b in range(1, 9):
        v, q, k, out, one, two = (
            r[f"Block{b}", name] for name in ("V_S", "Q_S", "K_S", "SDSA_out(Vhat_S)", "Layer1", "Layer2")
        )
        pj += 0.9 * T * ((v + q + k) / 3 * 3 * ND2 + (q + k) * ND + out * ND2 + one * 4 * ND2 + two * 4 * ND2)
    pj += 0.9 * T * r["Head", "FC"] * 512_000
    assert energy_from_rates(rates, sdt_8_512).total.value == pytest.approx(pj * 1e-9, rel=1e-12)


def test_a_csv_path_and_the_average_alone(sdt_8_512, rates):
    path = TABLE_S1
    expected = energy_from_rates(rates, sdt_8_512).total.value
    assert energy_from_rates(path, sdt_8_512).total.value == expected
    assert energy_from_rates(str(path), sdt_8_512).total.value == expected
    averages = energy_from_rates(rates[["part", "tensor", "average"]], sdt_8_512)
    assert averages.total.value == pytest.approx(5.35, abs=0.005)


def test_rate_one_costs_dense_operations(sdt_8_512):
    table = energy_from_rates(uniform(sdt_8_512, 1.0), sdt_8_512, convention="input-rate")
    spiking = sdt_8_512.dense_macs() - 86_704_128
    assert table.sops.iloc[-1] == 4 * spiking
    assert table.acs.iloc[-1] == 4 * 8 * 196 * 512
    assert energy_from_rates(uniform(sdt_8_512, 0.0), sdt_8_512).total.value == pytest.approx(4.6e-9 * 4 * 86_704_128)


def test_a_model_and_its_name():
    model = create_model("sdt_2_256")
    ledger = ledger_of(model)
    hooked = tuple(tensor for tensor in ledger.tensors if tensor.hook)
    rates = uniform(dataclasses.replace(ledger, tensors=hooked, synapses=(), products=(), additions=()), 0.2)
    expected = energy_from_rates(rates, ledger).total.value
    assert expected > 0
    assert energy_from_rates(rates, model).total.value == expected
    assert energy_from_rates(rates, "sdt_2_256").total.value == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t.tensor != "Layer1"], r"no row for tensor 'block.0.mlp.fc1_lif' \(Layer1, block 0\)"),
        (lambda t: t.replace("Q_S", "Q"), "rows are no tensor of this model, the first is 'Block1 Q'"),
        (
            lambda t: t.replace("Block8", "Block9"),
            "8 of 69 rows are no tensor of this model, the first is 'Block9 Input'",
        ),
        (lambda t: t.assign(T2=t.T2 * 10), "the rates of 'SPS Conv1' are .*a rate is a number from 0 to 1"),
        (lambda t: t.assign(T2=-t.T2), "a rate is a number from 0 to 1"),
        (lambda t: t.assign(T2=float("nan")), "a rate is a number from 0 to 1"),
        (lambda t: t.assign(T2="many"), "a rate is a number from 0 to 1"),
        (lambda t: t.drop(columns="T4"), "has time steps T1, T2, T3, the model has 4"),
        (lambda t: t.drop(columns="tensor"), "lacks tensor; it has part"),
        (lambda t: t[["part", "tensor"]], "lacks T1..Tn or average"),
        (lambda t: t[:0], "has no rows"),
        (lambda t: pd.concat([t, t[:1]]), "the row 'SPS Conv1' stands twice"),
    ],
)
def test_a_table_that_does_not_fit(sdt_8_512, rates, change, message):
    rates["T2"] = rates.T2.astype(object)
    with pytest.raises(SpikeattnError, match=message):
        energy_from_rates(change(rates), sdt_8_512)


def test_wrong_arguments(sdt_8_512, rates, tmp_path):
    with pytest.raises(SpikeattnError, match="no such file"):
        energy_from_rates(tmp_path / "none.csv", sdt_8_512)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(SpikeattnError, match="not a csv file"):
        energy_from_rates(tmp_path / "empty.csv", sdt_8_512)
    with pytest.raises(SpikeattnError, match="does not hold the exact count"):
        energy_from_rates(rates, sdt_8_512, convention="exact")
    with pytest.raises(SpikeattnError, match="did you mean 'sdt-paper'"):
        energy_from_rates(rates, sdt_8_512, convention="sdt_paper")
    with pytest.raises(SpikeattnError, match="model is a int"):
        energy_from_rates(rates, 5)
    with pytest.raises(SpikeattnError, match="did you mean 'sdt_8_512'"):
        energy_from_rates(rates, "sdt_8_51")
    nameless = dataclasses.replace(
        sdt_8_512, tensors=tuple(dataclasses.replace(t, role=None) for t in sdt_8_512.tensors)
    )
    with pytest.raises(SpikeattnError, match="carry no paper names"):
        read_rates(rates, nameless)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("T2", "T1", "has the column 'T1' twice; leave one"),
        ("T2", "T" + "9" * 5000, "has time steps T1, T3, T4"),
        ("Block1", "Block" + "9" * 5000, "rows are no tensor of this model"),
        ("Conv1", "C\x00nv1", "no tensor of this model"),
    ],
)
def test_a_csv_that_was_edited(tmp_path, old, new, message) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(packaged_table("table_s1_sdt_8_512").to_csv(index=False).replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SpikeattnError, match=message):
        read_rates(path, entry_ledger("sdt_8_512"))
