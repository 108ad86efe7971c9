"""Conventions: named switches, presets with a source, and changed presets that cannot pass for the original."""

from __future__ import annotations

import dataclasses

import pytest

from spikeattn.energy.conventions import PRESETS, SWITCHES, Convention, get_convention, list_conventions
from spikeattn.errors import SpikeattnError


def test_every_switch_is_described_and_every_preset_has_a_source():
    assert {field.name for field in dataclasses.fields(Convention)} == {"name", "source", *SWITCHES}
    assert list_conventions() == ("exact", "sdt-paper", "input-rate")
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.source
        assert set(preset.switches()) == set(SWITCHES)


def test_a_changed_preset_says_so():
    changed = get_convention("exact", first_conv="every-step")
    assert changed.name == "exact[first_conv=every-step]"
    assert changed.first_conv == "every-step"
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
        (("exact", {"name": "mine"}), "unknown switch"),
    ],
)
def test_wrong_names_are_errors(given, message):
    name, overrides = given
    with pytest.raises(SpikeattnError, match=message):
        get_convention(name, **overrides)
