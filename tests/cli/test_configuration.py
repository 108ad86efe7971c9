"""Defaults from `spikeattn.toml` or `pyproject.toml`, and --quiet: what a file may say, who wins, what is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spikeattn.cli.program import FAILED, USAGE

PROFILE = """
threads = 1
[profile]
model = "sdt_digits"
data = "digits"
pretrained = true
batch-size = 2
limit = 3
"""


def provenance(run: str) -> dict:
    return json.loads(Path(run, "model.json").read_text())["provenance"]


def test_a_file_gives_defaults_and_the_command_line_wins(spikeattn) -> None:
    Path("spikeattn.toml").write_text(PROFILE)
    done = spikeattn("profile", "--out", "run", "--limit", 2)
    assert done.code == 0 and ", 2 images" in done.out.splitlines()[0]
    taken = ["--model", "sdt_digits", "--data", "digits", "--pretrained", "--batch-size", "2", "--threads", "1"]
    assert f"defaults from spikeattn.toml: {' '.join(taken)}\n" in done.err
    found = provenance("run")
    assert found["config"] == {"file": "spikeattn.toml", "options": taken}
    assert found["inputs"]["batch_size"] == 2 and found["inputs"]["limit"] == 2
    # The command that is recorded makes the same run without the file.
    assert found["command"] == f"spikeattn profile --out run --limit 2 {' '.join(taken)}"
    Path("spikeattn.toml").write_text("threads = 1\nbatch_size = 4\n")
    assert spikeattn("energy", "run").code == 0, "the batch of a training step is another one"
    assert "defaults from" not in spikeattn("rates", "run").err, "nothing in the file is for this command"


def test_no_config_takes_nothing(spikeattn) -> None:
    Path("spikeattn.toml").write_text(PROFILE)
    done = spikeattn("profile", "--out", "run", "--no-config")
    assert (done.code, "--model" in done.error) == (USAGE, True)
    Path("spikeattn.toml").write_text("no toml")
    assert spikeattn("costs").code == FAILED and spikeattn("costs", "--no-config").code == 0
    assert spikeattn("costs", "--help").code == 0, "help is there whatever a file says"


def test_pyproject_has_a_table_and_spikeattn_toml_goes_first(spikeattn) -> None:
    Path("pyproject.toml").write_text(
        '[tool.ruff]\nline-length = 100\n[tool.spikeattn.costs]\nout = "of_project.csv"\n'
    )
    assert "wrote of_project.csv" in spikeattn("costs").err
    Path("spikeattn.toml").write_text('[costs]\nout = "own.csv"\n')
    assert "wrote own.csv" in spikeattn("costs").err
    Path("spikeattn.toml").unlink()
    Path("pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert "defaults" not in spikeattn("costs").err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("device = ", "spikeattn.toml: no TOML: Invalid value (at end of document)"),
        ('devise = "cpu"', "spikeattn.toml: devise: unknown key; did you mean 'device'? valid are device, threads"),
        (
            "limit = 2",
            "limit: unknown key; it is an option of profile, attend, report; put it in a table, such as [prof",
        ),
        ("[profil]\nlimit = 2", "profil: unknown key; did you mean 'profile'? valid are profile, structure"),
        ("[profile]\nlimits = 2", "profile.limits: unknown key; did you mean 'limit'? valid are model, data"),
        ("[profile]\nresume = true", "profile.resume: unknown key"),
        ('[profile]\nlimit = "two"', "profile.limit: Invalid value for '--limit'"),
        ("[profile]\nlimit = 0", "profile.limit: --limit 0: give 1 or more"),
        ("[profile]\nlimit = [1]", "profile.limit: a text or a number is needed, and this is [1]"),
        ("[profile]\nmodel_arg = [true]", "model_arg: a text or a number, or a list of some, is needed"),
        ('[profile]\npretrained = "yes"', "profile.pretrained: true or false is needed, and this is 'yes'"),
        ('[profile]\nweights = "emaa"', "profile.weights: --weights 'emaa': did you mean 'ema'?"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(spikeattn, content: str, message: str) -> None:
    Path("spikeattn.toml").write_text(content)
    done = spikeattn("costs")
    assert (done.code, done.out) == (FAILED, "")
    assert done.error.startswith("error: spikeattn.toml: ") and message in done.error
    assert len(done.err.splitlines()) == 1
    Path("spikeattn.toml").unlink()
    if content.startswith("["):
        Path("pyproject.toml").write_text(content.replace("[", "[tool.spikeattn.", 1))
        assert spikeattn("costs").error.startswith("error: pyproject.toml: tool.spikeattn.prof")


def test_quiet_leaves_results_and_warnings(spikeattn) -> None:
    ask = ["profile", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--limit", 2, "--out"]
    loud, quiet = spikeattn(*ask, "loud"), spikeattn(*ask, "quiet", "--quiet")
    assert "image/s" in loud.err and quiet.err == ""
    assert quiet.out.replace("quiet", "loud") == loud.out
    assert "warning    few-images: 2 images" in quiet.out
    assert spikeattn("costs", "-q", "--out", "costs.csv").err == "" and Path("costs.csv").is_file()
    assert "wrote" in spikeattn("costs", "--out", "costs.csv").err, "the next command is as loud as ever"
