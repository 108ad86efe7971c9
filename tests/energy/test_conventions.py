"""Conventions: named switches, presets with a source, and changed presets that cannot pass for the original."""

from __future__ import annotations

import dataclasses

import pytest

from spikeattn.energy.conventions import EVIDENCE, PRESETS, SWITCHES, Convention, get_convention, list_conventions
from spikeattn.errors import SpikeattnError
from tests.conftest import ROOT


def test_every_switch_is_described_and_every_preset_has_a_source():
    about = {"name", "source", "evidence", "checked_on"}
    assert {field.name for field in dataclasses.fields(Convention)} == {*about, *SWITCHES}
    assert list_conventions()[0] == "exact"
    assert set(list_conventions()) == {
        "exact", "sdt-paper", "sdt-printed", "input-rate", "spikformer", "spikingformer-code", "meta-spikeformer",
        "syops",
    }  # fmt: skip
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.source and preset.checked_on and preset.evidence in EVIDENCE
        assert set(preset.switches()) == set(SWITCHES)
    assert PRESETS["sdt-printed"].evidence == "reconstruction, weak"
    used = {switch: {getattr(preset, switch) for preset in PRESETS.values()} for switch in SWITCHES}
    unused = {switch: set(SWITCHES[switch]) - values for switch, values in used.items()}
    assert {switch for switch, left in unused.items() if left} == {"first_layer"}
    assert unused["first_layer"] == {"mac", "ac"}  # for users: the choices of the issue that no paper we know makes


def test_a_changed_preset_says_so():
    changed = get_convention("exact", first_conv="every-step")
    assert changed.name == "exact[first_conv=every-step]"
    assert changed.first_conv == "every-step"
    paper = get_convention("sdt-paper", first_conv="once")
    assert (paper.evidence, paper.checked_on) == ("own definition", "nothing")
    assert get_convention("exact", first_conv="once") is PRESETS["exact"]
    assert get_convention(changed) is changed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("sdt-papers", {}), "unknown convention 'sdt-papers': did you mean 'sdt-paper'"),
        (
            ("exact", {"first_con": "once"}),
            "unknown switch of convention 'exact' 'first_con': did you mean 'first_conv'",
        ),
        (("exact", {"first_conv": "every"}), "unknown value of switch 'first_conv' 'every': did you mean 'every-step'"),
        (("exact", {"qkv_rate": "mean-output"}), "set sop='rate' too"),
        (("exact", {"layer_rate": "own-output"}), "set sop='rate' too"),
        (("exact", {"qkv_size": "N^2D"}), "set sop='rate' too"),
        (("exact", {"name": "mine"}), "unknown switch"),
    ],
)
def test_wrong_names_are_errors(given, message):
    name, overrides = given
    with pytest.raises(SpikeattnError, match=message):
        get_convention(name, **overrides)


def test_a_convention_says_how_sure_it_is():
    with pytest.raises(SpikeattnError, match="unknown evidence of convention 'mine' 'certain'"):
        Convention("mine", "me", evidence="certain")


def test_the_page_on_energy_names_every_switch_value_and_preset():
    page = (ROOT / "docs" / "energy.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    for switch, values in SWITCHES.items():
        assert [value.strip() for value in rows[switch].split("|")[3].split(",")] == list(values)
    for name, preset in PRESETS.items():
        assert f"| {preset.evidence} |" in rows[name]
