"""Both lines of a comparison are one text: `compare`, `profile`, JSON and Python say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import spikeattn as sa
from spikeattn.cli import main
from spikeattn.cli.output import headline
from spikeattn.cli.run_summary import summary_text
from spikeattn.energy.scope_line import ScopeLine
from spikeattn.reporting.tables.analyses import NO_MAC, Analyses, lines_of

from .test_comparing import _run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return _run(tmp_path_factory.mktemp("lines") / "run", 4)


@pytest.fixture(scope="module")
def lines(run) -> tuple[ScopeLine, ...]:
    """As from Python; the first cost table is the default of all commands."""
    found = sa.compare(sa.Profile.load(run)).lines
    assert [str(line).split()[0] for line in found] == ["arithmetic", "memory"]
    assert all("ann_digits" in str(line) and "ratio" in str(line) and "[" in str(line) for line in found)
    return found


def test_compare_prints_them_first(run, lines, capsys):
    assert main(["compare", str(run)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[2:4] == [str(line) for line in lines]
    assert main(["compare", str(run), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["lines"] == [json.loads(json.dumps(line.to_dict())) for line in lines]
    assert record["ratio"] == record["lines"][0]["ratio"]


def test_profile_prints_them(run, lines):
    printed = "\n".join(map(str, summary_text(sa.Profile.load(run), full=False))).splitlines()
    assert [line for line in printed if line.startswith(("arithmetic ", "memory "))] == [str(line) for line in lines]


def test_a_chip_has_neither_line():
    """As on the page of a report under its prices."""
    analyses = Analyses(None, {}, None, {"comparison": NO_MAC.format("loihi")})
    said = [str(line) for line in analyses.lines("mine")]
    why = "not known: the cost table loihi has no price for a multiply-accumulate, so it cannot price an ANN"
    assert said == [f"arithmetic  {why}", f"memory      {why}"]


def test_a_run_whose_twin_cannot_be_built_says_so(run):
    profile = sa.Profile.load(run)
    profile.ledger.model["config"]["embed_dim"] = 33
    said = [str(line) for line in lines_of(profile)]
    assert [text[:22] for text in said] == ["arithmetic  not known:", "memory      not known:"]
    assert all("embed_dim" in text for text in said)
    summary = profile.summary("loihi")
    assert "ANN : SNN  not known: the cost table has no price for a MAC" in headline(summary)
