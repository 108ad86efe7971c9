"""The tables that a profile gives go wherever a DataFrame goes: csv, parquet, LaTeX, markdown, a notebook."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from spikingjelly.activation_based import neuron

import spikeattn as sa


@pytest.fixture(scope="module")
def profile() -> sa.Profile:
    torch.manual_seed(0)
    model = sa.create_model("sdt_digits", pretrained=True)
    return sa.profile(model, [(torch.rand(6, 1, 16, 16), torch.arange(6) % 2)])


@pytest.fixture(scope="module")
def tables(profile: sa.Profile) -> dict[str, pd.DataFrame]:
    compared = sa.compare(profile)
    return {
        "rates": profile.rates(replicates=100),
        "rates by label": profile.rates(replicates=100, by="label"),
        "rates of a block": profile.rates(replicates=100).query("block == 0"),
        "operations": profile.operations(),
        "energy": profile.energy(replicates=100),
        "components": profile.components(replicates=100),
        "over time": profile.over_time(),
        "parts beside the twin": compared.parts,
        "blocks beside the twin": compared.blocks,
        "sweep": sa.sweep(profile),
        "published": sa.energy_from_rates("table_s1_sdt_8_512", "sdt_8_512"),
    }


def test_every_table_goes_to_every_format(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    for name, table in tables.items():
        path = tmp_path / f"{name}.parquet"
        table.to_parquet(path)
        back = pd.read_parquet(path)
        assert list(back.columns) == list(table.columns) and len(back) == len(table), name
        assert len(pd.read_csv(tmp_path / _written(table, tmp_path / "x.csv"))) == len(table), name
        assert table.to_markdown(index=False).count("\n") == len(table) + 1, name
        assert "tabular" in table.to_latex() and "<table" in table._repr_html_(), name


def test_parquet_keeps_the_rates_and_names_the_mean(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    rates = tables["rates"]
    rates.to_parquet(tmp_path / "rates.parquet")
    back = pd.read_parquet(tmp_path / "rates.parquet")
    assert back["nonzero_rate"].tolist() == rates["nonzero_rate"].tolist()
    assert back["t"].tolist()[:5] == ["1", "2", "3", "4", "mean"]
    assert rates["t"].tolist()[:5] == [1, 2, 3, 4, "mean"]


def _written(table: pd.DataFrame, path: Path) -> str:
    table.to_csv(path, index=False)
    return path.name


def test_real_tensors_have_no_mean_rate_and_no_rate_exceeds_one(profile: sa.Profile) -> None:
    rates = profile.rates(replicates=100)
    real = {tensor.name for tensor in profile.ledger.tensors if tensor.kind == "real"}
    is_real = rates["tensor"].isin(real)
    assert real and rates.loc[is_real, "mean_rate"].isna().all() and rates.loc[~is_real, "mean_rate"].notna().all()
    assert rates["ci_high"].max() <= 1.0


def test_the_interval_of_a_tensor_that_nearly_always_fires_ends_at_one() -> None:
    """Its limits would lie above 1 by the formula; a share cannot."""
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 1, bias=False), neuron.IFNode(v_threshold=0.5, step_mode="s"))
    torch.nn.init.ones_(model[0].weight)
    images = torch.ones(30, 1, 4, 4)
    images[0, 0, 0] = 0
    rates = sa.profile(model, [images], time_steps=1).rates(replicates=200)
    fired = rates[rates["tensor"] == "1"].iloc[0]
    assert 0.98 < fired["nonzero_rate"] < 1 and fired["ci_high"] <= 1.0
