"""`spikeattn energy RUN --energy-model ...` and `spikeattn costs`: what they print, and what they refuse."""

from __future__ import annotations

import json

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import spikeattn as sa
from spikeattn.cli.app import main
from spikeattn.energy import list_costs


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 8), neuron.LIFNode(step_mode="m"), nn.Linear(8, 3))
    nn.init.normal_(net[0].weight, 0.5, 0.5)
    x = torch.rand(6, 12)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    profile = sa.profile(
        net,
        [(x, torch.zeros(6, dtype=torch.long))],
        forward=lambda net, x: net(x.expand(3, *x.shape)),
        out=folder,
    )
    assert profile.rates().query("tensor == '1'").nonzero_rate.max() > 0
    return str(folder)


def test_components_are_printed_apart(run, capsys):
    assert main(["energy", run, "--energy-model", "compute+memory"]) == 0
    out = capsys.readouterr().out
    for name in ("compute", "leak", "addressing", "memory weights", "memory potentials", "memory-inclusive total"):
        assert name in out
    assert "times compute alone" in out and "Lemaire" in out


def test_the_option_of_the_release_before_gives_the_same_with_one_line_of_warning(run, capsys):
    assert main(["energy", run, "--energy-model", "compute+memory"]) == 0
    now = capsys.readouterr()
    assert main(["energy", run, "--model", "compute+memory"]) == 0
    before = capsys.readouterr()
    assert before.out == now.out and now.err == ""
    assert before.err == (
        "warning: with RUN --model compute+memory is --energy-model compute+memory now; --model goes in the next "
        "release\n"
    )
    assert main(["energy", run, "--model", "compute", "--energy-model", "compute"]) == 2
    assert "with RUN give --energy-model alone" in capsys.readouterr().err
    rates = ["--rates", "table_s1_sdt_8_512", "--model", "sdt_8_512", "--energy-model", "compute"]
    assert main(["energy", *rates]) == 2
    assert "--energy-model compute needs the counts of a run" in capsys.readouterr().err


def test_json_holds_components_and_lines(run, capsys):
    command = [
        "energy",
        run,
        "--energy-model",
        "compute+memory",
        "--off-chip",
        "--costs",
        "horowitz-45nm-int32",
        "--json",
    ]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["provenance"]["model"] == "compute+memory[off_chip=True]"
    total = {row["component"]: row["energy_mj"] for row in record["components"] if row["part"] == "total"}
    everything = total.pop("memory-inclusive total")
    assert everything == pytest.approx(sum(total.values()))
    assert sum(line["energy_mj"] for line in record["lines"]) == pytest.approx(everything)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--energy-model", "sdt_8_512"], 1, "unknown energy model 'sdt_8_512'"),
        (["--energy-model", "compute+memory", "--costs", "loihi"], 1, "cannot be split"),
        (["--energy-model", "compute", "--convention", "sdt-paper"], 2, "like --convention exact"),
        (["--energy-model", "compute", "--off-chip"], 1, "has no memory"),
        (["--off-chip"], 2, "--off-chip belongs to an energy model"),
        (["--costs", "lohi"], 1, "did you mean 'loihi'"),
        (["--energy-model", "compute", "--time-steps", "3"], 2, "a run knows its network"),
    ],
)
def test_one_clear_error_each(run, capsys, arguments, code, message):
    assert main(["energy", run, *arguments]) == code
    caught = capsys.readouterr()
    assert message in caught.err and not caught.out


def test_costs_lists_every_entry_with_source_and_status(capsys):
    assert main(["costs", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["table"] for row in rows} == set(list_costs())
    assert all(row["source"] and row["status"] and row["meaning"] and row["per"] for row in rows)
    assert [row["pj"] for row in rows if (row["table"], row["operation"]) == ("loihi", "sop")] == [23.6]
    assert {row["table"] for row in rows if row["default"]} == {"horowitz-45nm-fp32"}
    assert main(["costs"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "7nm-int8 mac 0.077, ac 0.007, mask 0 – secondary" in printed
    assert "horowitz-45nm-int8-acc32 mac 0.3, ac 0.1, mask 0" in printed


def test_a_table_of_a_users_own_is_shown(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntitle = "x"\nsource = "y"\n[entries.sop]\npj = 3\nsource = "z"\nstatus = "choice"\n'
    )
    assert main(["costs", str(path)]) == 0
    assert "synaptic operation" in capsys.readouterr().out
