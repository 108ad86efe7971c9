"""Cost tables: prices with source and status, user files, and what a bad table says."""

from __future__ import annotations

import pytest

from spikeattn.energy.costs import Cost, CostTable, get_costs, list_costs
from spikeattn.errors import SpikeattnError

FULL = """
name = "mine"
title = "a chip"
source = "its data sheet"
[entries.mac]
pj = 2
source = "page 3"
status = "confirmed"
[entries.ac]
pj = 0.5
source = "page 3"
status = "unverified"
[entries.mask]
pj = 0.01
source = "ours"
status = "choice"
"""


def test_the_tables_of_the_package():
    assert "horowitz-45nm-fp32" in list_costs()
    for name in list_costs():
        table = get_costs(name)
        assert table.name == name
        assert all(cost.source and cost.status for cost in table.entries.values())
    table = get_costs()
    assert [table.price(operation) for operation in ("mac", "ac", "mask")] == [4.6, 0.9, 0.0]
    assert "Horowitz" in table.source
    assert get_costs(table) is table


def test_a_users_own_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FULL)
    for given in (path, str(path)):
        assert get_costs(given).entries["ac"] == Cost(0.5, "page 3", "unverified")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pj = 0.5", "pj = -0.5", "price of ac is -0.5"),
        ("pj = 0.5", "pj = nan", "price of ac is nan"),
        ("pj = 0.5", 'pj = "0.5"', "price of ac is '0.5'"),
        ("pj = 0.5", "pj = true", "price of ac is True"),
        ("pj = 0.5\n", "", r"\[entries.ac\] lacks pj"),
        ("entries.mask", "entries.msk", "did you mean 'mask'"),
        ('"choice"', '"guessed"', "unknown status of mask"),
        ('title = "a chip"', "", "'title' is missing"),
        ('title = "a chip"', "title =", "not valid TOML"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    path.write_text(FULL.replace(old, new))
    with pytest.raises(SpikeattnError, match=message):
        get_costs(path)


def test_missing_prices_and_names():
    with pytest.raises(SpikeattnError, match="no price for ac, mask"):
        CostTable("half", "", "", {"mac": Cost(1.0, "", "choice")})
    with pytest.raises(SpikeattnError, match="did you mean 'horowitz-45nm-fp32'"):
        get_costs("horowitz-45nm-fp23")
    with pytest.raises(SpikeattnError, match="no such cost table"):
        get_costs("nowhere.toml")
    with pytest.raises(SpikeattnError, match="unknown operation 'macs': did you mean 'mac'"):
        get_costs().price("macs")
