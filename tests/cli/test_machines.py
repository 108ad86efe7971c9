"""Machines as they are: users without an account, closed and full streams, odd variables, paths that look like URLs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spikeattn.cli import app, main
from spikeattn.cli.program import BUG, FAILED
from spikeattn.compat import environment
from spikeattn.errors import SpikeattnError
from spikeattn.runs.ranks import join, launched
from spikeattn.runs.result import Profile
from spikeattn.storage.counts import Counts

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ["profile", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--limit", "4", "--plain"]
RANKS = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
posix = pytest.mark.skipif(os.name != "posix", reason="users, streams and names of files as POSIX has them")


def no_account(number: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {number}")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user number without an account, a name and a home; returns the temporary folder."""
    import pwd

    monkeypatch.setattr(pwd, "getpwuid", no_account)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "MPLCONFIGDIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # so that it is as before when the test ends
        monkeypatch.delenv(name)
    monkeypatch.setattr(environment.tempfile, "tempdir", str(tmp_path))
    return tmp_path


@posix
def test_a_user_without_an_account_gets_a_name_and_a_home_of_its_own(nobody):
    import getpass

    with pytest.raises(KeyError):
        getpass.getuser()
    environment.complete()
    home = Path.home()
    assert getpass.getuser() == f"user{os.getuid()}"
    assert home == nobody / f"spikeattn-{os.getuid()}" and home.stat().st_mode & 0o777 == 0o700


@posix
def test_a_folder_that_others_can_write_to_is_no_home(nobody):
    (nobody / f"spikeattn-{os.getuid()}").mkdir(mode=0o777)
    (nobody / f"spikeattn-{os.getuid()}").chmod(0o777)
    environment.complete()
    assert os.environ["HOME"] == "/"


@posix
def test_caches_move_only_where_the_home_is_read_only(nobody, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr(environment.os, "access", lambda path, mode: path != "/")  # root may write everywhere
    environment.complete()
    own = nobody / f"spikeattn-{os.getuid()}"
    assert (os.environ["MPLCONFIGDIR"], os.environ["TRITON_CACHE_DIR"]) == (
        str(own / "matplotlib"),
        str(own / "triton"),
    )
    monkeypatch.delenv("MPLCONFIGDIR")
    monkeypatch.setenv("HOME", str(nobody))
    environment.complete()
    assert "MPLCONFIGDIR" not in os.environ


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_torch_can_be_imported_by_a_user_without_an_account(tmp_path):
    """The fault of torch that `environment` stands for, in a process of its own; root may read on where others not."""
    code = """if True:
        import os, pwd, sys
        def no_account(number): raise KeyError("getpwuid(): uid not found")
        pwd.getpwuid = no_account
        if sys.argv[1] == "with": import spikeattn
        import torch._dynamo
    """
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    ends = [
        subprocess.run([sys.executable, "-c", code, word], env=clean, capture_output=True, text=True, check=False)
        for word in ("with", "without")
    ]
    assert ends[0].returncode == 0, ends[0].stderr
    if ends[1].returncode == 0:
        pytest.skip("this torch needs no user name")


@pytest.mark.parametrize(
    ("name", "text"),
    [("WORLD_SIZE", "abc"), ("WORLD_SIZE", "0"), ("RANK", "abc"), ("RANK", "-1"), ("RANK", "2"), ("RANK", "²")]
    + [("LOCAL_RANK", "x"), ("MASTER_PORT", "abc"), ("MASTER_PORT", "70000")],
)
def test_variables_of_torchrun_that_are_no_numbers(monkeypatch, name, text):
    for variable, value in (RANKS | {name: text}).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SpikeattnError, match=f"{name}={text!r}; torchrun sets a whole number from"), join():
        pass


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
def test_an_empty_variable_is_none(monkeypatch, name):
    for variable, value in (RANKS | {name: ""}).items():
        monkeypatch.setenv(variable, value)
    assert not launched()


def run(command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "SA": f"{sys.executable} -m spikeattn", **extra}
    return subprocess.run(["sh", "-c", command], env=environ, capture_output=True, text=True, check=False)


@posix
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_take_nothing_and_hide_no_result(tmp_path, closed):
    done = run(f"$SA {' '.join(PROFILE)} --out {tmp_path / 'run'} {closed}")
    assert done.returncode == 0 and sorted(os.listdir(tmp_path / "run")) == ["counts.parquet", "model.json"]
    assert run(f"$SA energy {tmp_path / 'nowhere'} {closed}").returncode == FAILED


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_and_broken_streams_end_in_one_sentence(tmp_path):
    done = run("$SA costs >/dev/full")
    assert done.returncode == FAILED and done.stderr.splitlines() == ["error: No space left on device"]
    assert run(f"$SA energy {tmp_path} 2>/dev/full").returncode == FAILED
    done = run("($SA costs; echo $? >&2) | true")
    assert done.stderr == "141\n"


def test_any_name_of_a_backend_is_none_of_our_business(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "garbage")
    assert main(["costs"]) == 0
    assert os.environ["MPLBACKEND"] == "agg"


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("libx.so: cannot allocate memory in static TLS block"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_a_fault_of_the_machine(monkeypatch, capsys, error):
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(app.typer.main, "get_command", fail)
    assert main(["costs"]) == FAILED != BUG
    assert "memory" in capsys.readouterr().err


def test_a_library_that_refuses_a_variable_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "fussy.py").write_text("import os\nint(os.environ['FUSSY'])\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FUSSY", "garbage")

    def load(*arguments: object, **options: object) -> None:
        exec("import fussy", {"__name__": "spikeattn.command"})

    monkeypatch.setattr(app.typer.main, "get_command", load)
    assert main(["costs"]) == FAILED
    assert "fussy cannot be imported (ValueError: invalid literal for int()" in capsys.readouterr().err


NAMES = ["run:1", "s3:bucket", "http:x", "a b\nc", "50%20#x", "é漢", "~x", "-out"]


@posix
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_is_written_resumed_and_read(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    try:
        os.mkdir(name), os.rmdir(name)
    except OSError:
        pytest.skip("this file system takes no such name")
    command = [*PROFILE, "--batch-size", "2", "--out", name]
    assert main(command) == 0, capsys.readouterr().err
    assert main([*command, "--resume"]) == 0, capsys.readouterr().err
    there = f"./{name}"
    assert main(["rates", there, "--out", f"{there}.csv"]) == 0, capsys.readouterr().err
    assert main(["energy", there, "--out", f"{there}.parquet"]) == 0, capsys.readouterr().err


@posix
def test_a_rate_table_of_any_name_is_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = ROOT / "spikeattn" / "energy" / "tables" / "table_s1_sdt_8_512.csv"
    Path("http:x.csv").write_bytes(table.read_bytes())
    assert main(["energy", "--rates", "http:x.csv", "--model", "sdt_8_512"]) == 0, capsys.readouterr().err


@posix
def test_a_count_table_is_read_by_its_own_name(tmp_path, monkeypatch, capsys):
    """From within its folder: no part of the path but the name itself, which looks like an address."""
    monkeypatch.chdir(tmp_path)
    assert main([*PROFILE, "--out", "run"]) == 0
    ledger = Profile.load("run").ledger
    Path("run/counts.parquet").rename("gs:x")
    counts = Counts.load("gs:x", ledger)
    assert counts.n_images == len(counts.rows) == 4
