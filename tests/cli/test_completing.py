"""Shell completion: commands, options and names, asked for as a shell does."""

from __future__ import annotations

import pytest

from spikeattn.cli import completing
from spikeattn.energy import list_conventions, list_costs, list_energy_models
from spikeattn.models import model_names, twin_names


def test_the_names_that_a_shell_is_offered_are_those_there_are() -> None:
    assert set(completing.MODELS) == set(model_names()) and set(completing.TWINS) == set(twin_names())
    assert completing.COSTS == list_costs() and completing.CONVENTIONS == list_conventions()
    # What a program registers (docs/extending.md does, and tests run it) is known to that program alone.
    assert completing.ENERGY_MODELS == list_energy_models(own=False)


def test_every_name_of_data_is_one_that_can_be_opened(spikeattn) -> None:
    for name in completing.DATA:
        ask = ["profile", "--model", "sdt_digits", "--data", f"{name}nowhere" if name.endswith(":") else name]
        assert "did you mean" not in spikeattn(*ask, "--limit", 0, "--out", "run").error
    listed = spikeattn("profile", "--model", "sdt_digits", "--data", "digit", "--out", "run").error
    assert all(name.rstrip(":") in listed for name in completing.DATA)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("spikeattn swe", ["sweep"]),
        ("spikeattn profile --mod", ["--model", "--model-arg"]),
        ("spikeattn profile --model sdt_d", ["sdt_digits", "sdt_digits_events", "sdt_digits_scenes"]),
        ("spikeattn profile --data digits-", ["digits-events", "digits-scenes"]),
        ("spikeattn energy run --convention sdt-paper,sy", ["sdt-paper,syops"]),
        ("spikeattn costs lo", ["loihi"]),
    ],
)
def test_a_shell_is_offered_what_could_stand_there(spikeattn, monkeypatch, typed: str, offered: list[str]) -> None:
    monkeypatch.setenv("_SPIKEATTN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    done = spikeattn()
    assert (done.code, done.out.split(), done.err) == (0, offered, "")
