"""Long runs at the command line: stopped, resumed, in shards, verified."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import torch

import spikeattn as sa
from spikeattn.cli import app, inputs
from spikeattn.cli.launching import stored_command
from spikeattn.data import batches
from spikeattn.storage import parts

DIGITS = ("profile", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--limit", 24, "--batch-size", 4)
DIGITS += ("--threads", 1, "--device", "cpu", "--plain")
FILES = ("counts.parquet", "model.json")


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch):
    """Have a signal arrive while batch 4 is being read."""
    plain = batches.collate
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored

    def use(number: int | None) -> None:
        def collate(dataset, indices, batch):
            if batch == 4 and number is not None:
                signal.raise_signal(number)
            return plain(dataset, indices, batch)

        monkeypatch.setattr(batches, "collate", collate)

    yield use
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, app.INTERRUPTED), (signal.SIGTERM, 143)])
def test_a_stopped_run_prints_its_tables_and_the_command_that_ends_it(spikeattn, stops, number: int, code: int) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stops(number)
    done = spikeattn(*DIGITS, "--out", "run")
    assert done.code == code and "Traceback" not in done.err
    assert done.out.startswith("PARTIAL sdt_digits, T=4, 16 images")
    assert "warning    partial: 16 of 24 images" in done.out
    assert signal.getsignal(signal.SIGTERM) is before
    command = shlex.split(done.err.partition("To finish the run in run:\n")[2].splitlines()[0])
    stops(None)
    assert command[0] == "spikeattn" and spikeattn(*command[1:]).code == 0
    assert spikeattn(*DIGITS, "--out", "whole").code == 0
    assert Path("run/counts.parquet").read_bytes() == Path("whole/counts.parquet").read_bytes()


def test_who_presses_twice_loses_nothing(spikeattn, stops, monkeypatch) -> None:
    plain = parts.save

    def save(part, folder):
        signal.raise_signal(signal.SIGINT)
        return plain(part, folder)

    monkeypatch.setattr(parts, "save", save)
    before = signal.getsignal(signal.SIGINT)
    stops(signal.SIGINT)
    done = spikeattn(*DIGITS, "--out", "run")
    assert done.code == app.INTERRUPTED and done.out.startswith("PARTIAL sdt_digits, T=4, 16 images")
    assert signal.getsignal(signal.SIGINT) is before


def test_shards_are_merged_and_verified(spikeattn) -> None:
    for i in range(2):
        done = spikeattn(*DIGITS, "--shard", f"{i}/2", "--out", f"part{i}")
        assert done.code == 0 and "next: spikeattn merge" in done.out and "warning    shard: this is" in done.out
    missing = spikeattn("merge", "part1", "--out", "merged")
    assert missing.code == app.FAILED and "shard 0/2 of the run is missing" in missing.error
    merged = spikeattn("merge", "part1", "part0", "--out", "merged", "--json")
    assert merged.code == 0 and json.loads(merged.out)["summary"]["images"] == 24
    assert spikeattn(*DIGITS, "--out", "whole").code == 0
    assert Path("merged/counts.parquet").read_bytes() == Path("whole/counts.parquet").read_bytes()
    records = [json.loads(Path(run, "model.json").read_text()) for run in ("merged", "whole")]
    commands = [record["provenance"].pop("command") for record in records]
    assert records[0] == records[1] and "--shard" not in commands[0]
    checked = spikeattn("verify", "merged", "--batches", 2, "--json")
    assert checked.code == 0
    assert [c["result"] for c in json.loads(checked.out)["checks"]] == ["ok"] * 6


def test_a_changed_table_does_not_stand_the_check(spikeattn, run) -> None:
    good = spikeattn("verify", run)
    assert good.code == 0 and "every count is the same" in good.out
    content = bytearray((run / FILES[0]).read_bytes())
    copy = Path("copy")
    copy.mkdir()
    (copy / FILES[1]).write_bytes((run / FILES[1]).read_bytes())
    content[len(content) // 3] ^= 1
    (copy / FILES[0]).write_bytes(content)
    done = spikeattn("verify", copy, "--batches", 0)
    assert done.code == app.FAILED and "does not stand the check (file" in done.error


def test_a_run_whose_data_are_gone_is_checked_as_far_as_it_goes(spikeattn, run) -> None:
    wrong = spikeattn("verify", run, "--batches", -1)
    assert wrong.code == app.USAGE and "--batches -1: give 0 or more" in wrong.error
    copy = Path("moved")
    copy.mkdir()
    for name in FILES:  # its data have gone, and nobody says where to
        text = (run / name).read_bytes()
        (copy / name).write_bytes(text.replace(b'"data": "digits"', b'"data": "folder:gone"'))
    done = spikeattn("verify", copy)
    assert done.code == 0 and "ok        model    the weights are the run's" in done.out
    assert "not done  data     gone does not exist" in done.out and "not done  batches" in done.out
    assert "warning: NOT verified: data, batches; --checkpoint and --data say where they are now" in done.err


@pytest.mark.parametrize(
    ("options", "missing", "why"),
    [
        (["--data", "folder:nowhere"], ["data", "batches"], "nowhere does not exist"),
        (["--data", "nope"], ["data", "batches"], "unknown data 'nope'"),
        (["--checkpoint", "nope"], ["model", "data", "batches"], "checkpoint nope: there is no such file"),
    ],
)
def test_what_is_named_and_cannot_be_opened_is_a_failure(spikeattn, run, options, missing, why) -> None:
    done = spikeattn("verify", run, *options, "--json")
    assert done.code == app.FAILED
    assert f"NOT verified: {', '.join(missing)}. " in done.error and why in done.error
    record = json.loads(done.out)
    assert (record["passed"], record["failed"], record["not_done"]) == (False, [], missing)
    results = {check["name"]: check["result"] for check in record["checks"]}
    assert results == {name: "not done" if name in missing else "ok" for name in results} and len(results) == 6


def test_checking_the_files_alone_opens_nothing(spikeattn, run) -> None:
    done = spikeattn("verify", run, "--batches", 0, "--json")
    assert done.code == 0 and json.loads(done.out)["not_done"] == ["model", "data", "batches"]
    wrong = spikeattn("verify", run, "--batches", 0, "--data", "digits")
    assert wrong.code == app.USAGE and "--batches 0 checks the files alone; leave out --data" in wrong.error


def test_what_differs_between_shards_is_not_in_the_stored_command() -> None:
    words = ["profile", "--resume", "--shard", "1/4", "--out", "a b"]
    assert stored_command(words) == stored_command(["profile", "--shard=2/4", "--out", "a b"])
    assert stored_command(words) == "spikeattn profile --out 'a b'"


@pytest.mark.parametrize("options", [["--shard", "4/4"], ["--shard", "x"]])
def test_a_shard_that_cannot_be_is_a_wrong_command_line(spikeattn, options) -> None:
    done = spikeattn(*DIGITS, *options, "--out", "run")
    assert done.code == app.USAGE and "give i/n" in done.error


def test_nothing_asks_the_network(spikeattn, monkeypatch) -> None:
    def refuse(*arguments, **options):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert spikeattn(*DIGITS, "--out", "run").code == 0
    assert spikeattn("verify", "run").code == 0
    assert spikeattn("report", "run", "--out", "report").code == 0
    assert sa.Profile.load("run").n_images == 24


def test_a_run_of_an_older_version_is_verified_by_its_settings(spikeattn, run) -> None:
    """Until the second edition a run kept its command line, and no inputs; it is not read as a command."""
    record = json.loads((run / "model.json").read_text())
    del record["provenance"]["inputs"]
    record["provenance"]["command"] = "spikeattn profile --model os:system --data digits --out x"
    old = Path("old")
    shutil.copytree(run, old)
    (old / "model.json").write_text(json.dumps(record))
    done = spikeattn("verify", old)
    assert done.code == 0 and "every count is the same" in done.out
    record["provenance"]["inputs"] = {"model": "sdt_digits", "data": "digits", "batch_size": 0}
    (old / "model.json").write_text(json.dumps(record))
    done = spikeattn("verify", old)
    assert done.code == app.FAILED and "model.json: provenance.inputs.batch_size is 0" in done.error


def test_a_run_of_an_older_version_on_averaged_weights_is_verified_on_them(spikeattn) -> None:
    """A file may hold both; which of them the run took is in its settings."""
    net = sa.create_model("sdt_digits", pretrained=True)
    averaged = {name: value * 1.5 if value.is_floating_point() else value for name, value in net.state_dict().items()}
    torch.save({"state_dict": net.state_dict(), "state_dict_ema": averaged}, "both.pth.tar")
    told = ("--checkpoint", "both.pth.tar", "--weights", "ema", "--limit", 8, "--out", "run")
    assert spikeattn("profile", "--model", "sdt_digits", "--data", "digits", *told).code == 0
    path = Path("run") / "model.json"
    record = json.loads(path.read_text())
    del record["provenance"]["inputs"]
    path.write_text(json.dumps(record))
    done = spikeattn("verify", "run", "--checkpoint", "both.pth.tar")
    assert done.code == 0 and "every count is the same" in done.out, done.out + done.err


@pytest.mark.parametrize("options", [("--calibrate",), ("--time-steps", 2)])
def test_a_run_of_an_older_version_with_random_weights_is_made_again(spikeattn, options, monkeypatch) -> None:
    line = ("profile", "--model", "sdt_digits", *options, "--data", "digits", "--limit", 8, "--out", "old")
    assert spikeattn(*line).code == 0
    record = json.loads(Path("old/model.json").read_text())
    del record["provenance"]["inputs"]
    Path("old/model.json").write_text(json.dumps(record))
    done = spikeattn("verify", "old")
    assert done.code == 0 and "every count is the same" in done.out
    if "--calibrate" in options:  # other batch norms: another model, which is no answer
        monkeypatch.setattr(inputs, "CALIBRATION", 3)
        assert "not done  model" in spikeattn("verify", "old").out
