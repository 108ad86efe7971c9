"""Help, exit codes, and failures that are one line on standard error."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch
import typer

import spikeattn as sa
from spikeattn.cli import app, report

COMMANDS = sorted(typer.main.get_command(app.app).commands)
PYTHON = [sys.executable, "-m", "spikeattn"]


def test_the_commands() -> None:
    expected = {"profile", "energy", "rates", "report", "models", "costs", "conventions"}
    assert expected <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_the_common_options(spikeattn, command) -> None:
    done = spikeattn(command, "--help")
    assert done.code == 0
    assert f"  spikeattn {command}" in done.out.partition("Example")[2]
    for option in ("--json", "--out", "--verbose"):
        assert option in done.out


def test_help_of_the_program_states_the_exit_codes(spikeattn) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        done = spikeattn(*arguments)
        assert done.code == 0
        assert "Exit codes: 0 done" in done.out


def _loaded(arguments: list[str]) -> set[str]:
    """Which of the libraries that take long to load a command has loaded when it has ended."""
    slow = ("torch", "timm", "spikingjelly", "matplotlib", "scipy.special", "scipy.stats", "pandas", "numpy")
    code = f"import sys; from spikeattn.cli import main; code = main({arguments!r})\n"
    code += f"print(code, *(name for name in {slow!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    code_of_exit, *names = done.stdout.splitlines()[-1].split()
    assert code_of_exit == "0", done.stderr
    return set(names)


def test_help_loads_nothing_slow() -> None:
    assert _loaded(["--help"]) == _loaded(["profile", "--help"]) == set()


def test_lists_load_the_tables_library_alone() -> None:
    assert _loaded(["models"]) | _loaded(["costs"]) | _loaded(["conventions"]) == {"pandas", "numpy"}


def test_a_finished_run_is_priced_and_rated_without_torch(tmp_path) -> None:
    """Nor scipy, matplotlib: the import of each takes longer than pricing a small run."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((40, 1, 16, 16), generator=generator)
    sa.profile(sa.create_model("sdt_digits", pretrained=True), images.split(20), out=tmp_path / "run")
    run = str(tmp_path / "run")
    for arguments in (["energy", run], ["energy", run, "--json"], ["rates", run]):
        assert _loaded(arguments) <= {"pandas", "numpy", "scipy.special"}
    assert _loaded(["energy", run]) == {"pandas", "numpy"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profil"], "No such command 'profil'"),
        (["--nope"], "No such option: --nope"),
        (["profile"], "Missing option '--model'"),
        (["profile", "--modell", "x"], "No such option: --modell"),
        (["rates"], "Missing argument 'RUN'"),
        (["energy"], "give either the folder of a run, or --rates CSV with --model NAME"),
        (["energy", "--rates", "x.csv"], "--rates needs the model"),
        (["rates", "x", "--format", "parquet"], "--format parquet is no text: give --out FILE"),
        (["rates", "x", "--out", "x.xlsx"], "--out x.xlsx: give --format, or one of the suffixes .csv"),
        (["rates", "x", "--tidy", "--format", "latex"], "--tidy is written as text, csv, parquet or json"),
        (["costs", "--out", "x.tex"], "--out x.tex: a table is written as .csv, .parquet, .json"),
    ],
)
def test_a_wrong_command_line(spikeattn, arguments, message) -> None:
    done = spikeattn(*arguments)
    assert done.code == app.USAGE
    assert message in done.error
    assert done.out == ""


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), app.INTERRUPTED, "interrupted"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.csv"),
            app.FAILED,
            "error: x.csv: No space left on device",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "x"), app.FAILED, "error: x: Permission denied"),
        (MemoryError(), app.FAILED, "error: out of memory; give a smaller --batch-size"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), app.FAILED, "give fewer --workers"),
        (ZeroDivisionError("a bug"), app.BUG, "ZeroDivisionError: a bug\nerror: this is an error in spikeattn itself"),
    ],
)
def test_what_goes_wrong_below(spikeattn, monkeypatch, raised, code, said) -> None:
    def fails(*arguments):
        raise raised

    monkeypatch.setattr(report, "_demo", fails)
    done = spikeattn("report")
    assert done.code == code
    assert said in done.err
    assert ("Traceback" in done.err) == (code == app.BUG)
    assert done.out == ""


def test_a_reader_that_has_seen_enough_and_a_full_disk() -> None:
    with subprocess.Popen([*PYTHON, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as closed:
        closed.stdout.close()
        assert closed.stderr.read() == ""
    assert closed.wait() == app.PIPE_CLOSED
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*PYTHON, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (app.FAILED, "error: No space left on device\n")


def test_no_two_modules_of_the_commands_import_each_other() -> None:
    imports: dict[str, set[str]] = {}
    for path in Path(app.__file__).parent.glob("*.py"):
        found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        inside = [node.module.removeprefix("spikeattn.cli").lstrip(".") for node in found if node.module]
        names = {name for name in inside if (path.parent / f"{name}.py").is_file()}
        imports[path.stem] = names | {
            each.name for node in found if node.module == "spikeattn.cli" for each in node.names
        }
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError
    assert order[-1] == "__init__" and "profile" in imports["app"]
