"""The tree of a network: its sums are those of the run's other tables, at every level."""

from __future__ import annotations

import pandas as pd
import pytest

import spikeattn as sa
from spikeattn.reporting.tables.network_tree import BLOCK, LAYER, NETWORK, PART, deepest_level, network_tree


@pytest.fixture(scope="module")
def profile() -> sa.Profile:
    model = sa.create_model("sdt_digits", pretrained=True)
    return sa.profile(model, sa.make_loader(sa.open_dataset("digits", model), batch_size=8, limit=8))


@pytest.fixture(scope="module")
def tree(profile) -> pd.DataFrame:
    return network_tree(profile)


def test_every_level_adds_up_to_the_run(profile, tree):
    summary = profile.summary()
    for column, expected in (("energy_mj", summary["energy_mj"]), ("sops", summary["sops_per_image"])):
        for depth in (0, 1):
            assert tree.loc[tree["depth"] == depth, column].sum() == pytest.approx(expected)
        assert tree.loc[tree["level"] == LAYER, column].sum() == pytest.approx(expected)
    assert tree["share"].iloc[0] == 1 and tree.attrs == {"costs": "horowitz-45nm-fp32", "convention": "exact"}


def test_parts_are_those_of_the_table_of_energies(profile, tree):
    expected = profile.energy().set_index("part")["energy_mj"]
    parts = tree[tree["name"].isin(expected.index) & (tree["level"] < LAYER)].groupby("name")["energy_mj"].sum()
    assert set(parts.index) == set(expected.index) - {"total"}
    assert parts.to_dict() == pytest.approx(expected.drop("total").to_dict())


def test_a_layer_fires_at_the_rate_of_what_it_receives(profile, tree):
    rates = profile.rates().query("t == 'mean'").set_index("tensor")["nonzero_rate"]
    received = profile.operations().set_index("synapse")["input_tensor"]
    layers = tree[(tree["level"] == LAYER) & tree["rate"].notna()]
    assert len(layers) == 17
    for row in layers.to_dict("records"):
        assert row["rate"] == pytest.approx(rates[received[row["name"]]])
    assert tree.set_index("name").loc["block.0.mlp.fc2_conv", "shape"] == (256, 8, 8)


def test_order_and_depth(tree):
    assert tree.loc[tree["depth"] == 1, "name"].tolist() == ["SPS", "block 1", "block 2", "head"]
    counts = [int((tree["level"] <= level).sum()) for level in (NETWORK, BLOCK, PART, LAYER)]
    assert counts[:3] == [1, 5, 15]
    assert [deepest_level(tree, rows) for rows in (counts[3], counts[3] - 1, 14, 2)] == [LAYER, PART, BLOCK, BLOCK]
