"""Cost tables: prices with source and status, user files, and what a bad table says."""

from __future__ import annotations

import pytest

from spikeattn.energy import energy
from spikeattn.energy.costs import DEFAULT, Cost, CostTable, MemoryCost, get_costs, list_costs
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
MEMORY = """
[memory.near]
pj = 3
bytes = 1024
access_bits = 32
source = "page 4"
status = "confirmed"
[memory.far]
pj = 70
access_bits = 64
source = "page 4"
status = "confirmed"
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


def test_the_tables_hold_what_the_sources_say():
    macs = {
        "horowitz-45nm-fp32": 4.6,
        "horowitz-45nm-fp16": 1.5,
        "horowitz-45nm-int8": 0.23,
        "horowitz-45nm-int32": 3.2,
    }
    for name, mac in (macs | {"7nm-fp16": 0.5, "7nm-int8": 0.077}).items():
        table = get_costs(name)
        assert table.price("mac") == mac == pytest.approx(table.price("mult") + table.price("add"))
        assert table.price("sop") == table.price("ac") == table.price("add")
        assert table.status == ("secondary" if name.startswith("7nm") else "confirmed")
        assert bool(table.notes()) == bool(table.memory == {})  # 7 nm: seen in one secondary source
    assert list_costs()[0] == DEFAULT == "horowitz-45nm-fp32"
    memory = get_costs().memory
    assert {(m.bytes, m.pj) for m in memory.values()} == {(8192, 10), (32768, 20), (2**20, 100), (None, 1300)}


def test_chips_price_synaptic_operations_alone():
    assert get_costs("loihi").price("sop") == 23.6 and get_costs("seneca").price("sop") == 2.8
    chips = [name for name in list_costs() if "mac" not in get_costs(name).entries]
    assert len(chips) == 10 and "speck" not in list_costs()
    assert get_costs("truenorth").notes() == ["cost-status: truenorth: sop: secondary, seen in one secondary source"]
    assert not get_costs("loihi").has("mac")
    with pytest.raises(SpikeattnError, match="'loihi' has no price for mac"):
        get_costs("loihi").price("mac")


def test_nothing_unverified_is_shipped():
    for name in list_costs():
        assert get_costs(name).status != "unverified"
        assert set(get_costs(name).frame()["status"]) <= {"confirmed", "choice", "secondary"}


def test_unpriced_operations_are_listed_never_zero(ledger, counts):
    table = energy(ledger, counts, "loihi")
    rows = table.set_index("part")
    assert rows.energy_mj["SPS"] == pytest.approx(rows.sops["SPS"] * 23.6e-9)  # the first convolution left out
    assert rows[["energy_mj", "ci_low", "ci_high", "share"]].loc["attention"].isna().all()
    assert table.unpriced == {c: pytest.approx(rows[c]["total"]) for c in ("macs", "acs", "mask_ops")}
    (note,) = [note for note in table.notes if note.startswith("unpriced")]
    assert "loihi has no price for 1,377 macs" in note
    assert table.total.value == pytest.approx(rows.sops["total"] * 23.6e-9)
    assert energy(ledger, counts).unpriced == {}


def test_frame_lists_entries_and_memories():
    frame = get_costs().frame()
    assert frame.columns.tolist() == ["entry", "pj", "per", "bytes", "source", "status"]
    rows = frame.set_index("entry")
    assert rows.per["sram-8kb"] == "64-bit access" and rows.bytes["sram-8kb"] == 8192
    assert rows.per["mac"] == "operation" and rows["bytes"].isna()[["mac", "dram"]].all()


def test_a_users_own_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FULL.replace("[entries.mac]", "bits = 16\n[entries.mac]", 1) + MEMORY)
    assert get_costs(path).memory["far"] == MemoryCost(70, None, 64, "page 4", "confirmed")
    assert get_costs(path).bits == 16 and get_costs(path).status == "unverified"
    for given in (path, str(path)):
        assert get_costs(given).entries["ac"] == Cost(0.5, "page 3", "unverified")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pj = 0.5", "pj = -0.5", r"entries.ac.pj is -0.5; a finite number of at least 0 is expected"),
        ("pj = 0.5", "pj = nan", "entries.ac.pj is NaN; a finite number"),
        ("pj = 0.5", 'pj = "0.5"', 'entries.ac.pj is "0.5"; a finite number'),
        ("pj = 0.5", "pj = true", "entries.ac.pj is true; a finite number"),
        ("pj = 0.5\n", "", "mine.toml: entries.ac lacks pj"),
        ("entries.mask", "entries.msk", "did you mean 'mask'"),
        ('"choice"', '"guessed"', 'entries.mask.status is "guessed"; one of "confirmed", "choice"'),
        ('title = "a chip"', "", "the record lacks title"),
        ('title = "a chip"', "title =", "not valid TOML"),
        ('title = "a chip"', 'title = "a chip"\nbit = 8', "unknown field of the record 'bit': did you mean 'bits'"),
        ('title = "a chip"', 'title = "a chip"\nbits = 0', "bits is 0; a whole number of at least 1 is expected"),
        ("pj = 0.5", "pj = 0.5\nPJ = 1", "unknown field of entries.ac 'PJ'"),
        ("pj = 3", "pj = -3", "memory.near.pj is -3; a finite number of at least 0"),
        ("bytes = 1024", "bytes = 1.5", "memory.near.bytes is 1.5; a whole number of at least 1 is expected"),
        ("bytes = 1024", "byte = 1024", "unknown field of memory.near 'byte': did you mean 'bytes'"),
        ("bytes = 1024", "", "two memories have the same size"),
        ("access_bits = 32", "access_bits = 0", "memory.near.access_bits is 0; a whole number"),
        ("access_bits = 32", "", "memory.near lacks access_bits"),
        ("pj = 70", 'pj = 70\nstatus = "seen"', "not valid TOML"),
        ("pj = 70", f"pj = {'9' * 500}", "memory.far.pj is a number of more than 400 digits"),
        ("pj = 70", f"pj = {'9' * 5000}", "not valid TOML"),
        ("pj = 70", f"pj = {'[' * 50_000}", "nested more than 100 levels deep"),
        ("pj = 70", "pj = 2026-01-01", "memory.far.pj is .*2026.*; a finite number"),
        ('title = "a chip"', 'title = ["a chip"]', r'title is \["a chip"\]; text is expected'),
        ('title = "a chip"', '\ufefftitle = "a chip"', "not valid TOML"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    assert old in FULL + MEMORY
    path.write_text((FULL + MEMORY).replace(old, new), encoding="utf-8")
    with pytest.raises(SpikeattnError, match=message) as error:
        get_costs(path)
    assert str(error.value).startswith(f"{path}: ")


def test_missing_prices_and_names():
    with pytest.raises(SpikeattnError, match="no price for ac, mask"):
        CostTable("half", "", "", {"mac": Cost(1.0, "", "choice")})
    with pytest.raises(SpikeattnError, match="did you mean 'horowitz-45nm-fp32'"):
        get_costs("horowitz-45nm-fp23")
    with pytest.raises(SpikeattnError, match="no such cost table"):
        get_costs("nowhere.toml")
    with pytest.raises(SpikeattnError, match="unknown operation 'macs': did you mean 'mac'"):
        get_costs().price("macs")
