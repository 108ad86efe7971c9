"""Seconds and memory of the commands that read a finished run, by its number of images.

The run is made from a small real one: its ledger, and its rows over and over, each image's counts times a share of its
own between 0.8 and 1, so that no two are alike. What the commands print of it means nothing; how long they take does
not depend on it.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

import spikeattn as sa
from spikeattn.compat.python_names import file_sha256
from spikeattn.data.division import Shard
from spikeattn.storage import parts
from spikeattn.storage.columns import counted
from spikeattn.storage.counts import FILE, write_counts
from spikeattn.storage.folder import LEDGER, PARTS
from spikeattn.storage.ledger import Ledger

from .models import live_model, photos
from .timing import write

COMMANDS = {
    "energy": ["energy", "RUN"],
    "energy, by component": ["energy", "RUN", "--energy-model", "compute+memory"],
    "rates": ["rates", "RUN"],
    "compare": ["compare", "RUN"],
    "verify, files": ["verify", "RUN", "--batches", "0"],
    "report": ["report", "RUN", "--out", "OUT"],
    "merge": ["merge", "SHARDS", "--out", "OUT"],
}
_REAL = 8  # images that are really counted
_GROUP = 1 << 14  # rows made at a time: 52 MB of 400 columns
_PER_PART = 2048  # images of a part of a shard: some 30 s of a GPU's pass
_SHARDS = 4
_LOOK = 0.01  # seconds between two looks at a command's memory


def run(args: argparse.Namespace) -> None:
    """Every command in a process of its own; the table goes to rows.md."""
    chosen = args.only or list(COMMANDS)
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    try:
        _measure(args, chosen, found)
    finally:  # a million rows take half an hour: whoever stops it keeps what was measured
        if found:
            _write(args, found)


def _measure(args: argparse.Namespace, chosen: list[str], found: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        small = _small_run(args, Path(scratch) / "small")
        columns = len(small.counts.columns)
        for rows in args.rows:
            folder = Path(scratch) / str(rows)
            _make_run(small, rows, folder / "run")
            if "merge" in chosen:
                _make_shards(small, rows, folder)
            for _ in range(args.rounds):
                for name in chosen:
                    done = _measured(COMMANDS[name], folder) | {"columns": columns}
                    found.setdefault(name, {}).setdefault(str(rows), []).append(done)
                    print(rows, name, done, file=sys.stderr, flush=True)
            shutil.rmtree(folder)


def _write(args: argparse.Namespace, found: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    columns = next(each["columns"] for by_rows in found.values() for many in by_rows.values() for each in many)
    what = f"A run of {args.model} with {columns} columns; counts made from {_REAL} real images, see scripts/benchmarks"
    unit = [(f"{rows:,}", field) for rows in args.rows for field in ("seconds", "memory")]
    table = [("command", *(f"{rows} images: {'s' if field == 'seconds' else 'MB'}" for rows, field in unit))]
    for name, by_rows in found.items():
        cells = []
        for rows in args.rows:
            measured = by_rows.get(str(rows), [])
            for field, digits in (("seconds", 1), ("memory", 0)):
                cells.append(f"{median(m[field] for m in measured):.{digits}f}" if measured else "not measured")
        table.append((name, *cells))
    notes = [
        "Seconds are of the whole command, medians over "
        f"{args.rounds} round(s). MB: the peak of the process's own memory (RssAnon, looked at every "
        f"{1000 * _LOOK:.0f} ms); pages of mapped files, which the system takes back at will, are not in it.",
    ]
    write(Path(args.out), "rows", what, "cpu", {"commands": found}, [table], notes)


def _small_run(args: argparse.Namespace, folder: Path) -> sa.Profile:
    """A few images really counted: a ledger, and rows to make others from."""
    images, _ = photos(sa.create_model(args.model), args.photos, _REAL)
    return sa.profile(live_model(args.model, images, "cpu"), images.split(4), out=folder)


def _groups(small: sa.Profile, rows: int, size: int = _GROUP, final: bool = True) -> Iterator[pa.Table]:
    """The rows of a made run, `size` at a time; with counts as a part holds them (float64) unless `final`."""
    real = small.counts._read(small.counts.columns)  # the whole table: no command needs it so
    generator = np.random.default_rng(0)
    for start in range(0, rows, size):
        index = np.arange(start, min(start + size, rows))
        share = generator.uniform(0.8, 1, len(index))
        made = {}
        for name, column in zip(real.column_names, real.columns, strict=True):
            values = column.to_numpy(zero_copy_only=False)[index % len(real)]
            if counted(name):
                values = np.floor(values * share).astype(column.type.to_pandas_dtype() if final else np.float64)
            made[name] = values
        made["label"] = index % 1000
        made["index"], made["id"] = index, pa.array([f"{i:08d}.JPEG" for i in index])
        yield pa.table(made)


def _make_run(small: sa.Profile, rows: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    write_counts(_groups(small, rows, 1 << 16), small.ledger, folder / FILE)
    with (folder / FILE).open("rb") as file:
        provenance = {**small.ledger.provenance, "counts_sha256": file_sha256(file)}
    replace(small.ledger, provenance=provenance).save(folder / LEDGER)


def _make_shards(small: sa.Profile, rows: int, folder: Path) -> None:
    """The same run as the folders of `spikeattn profile --shard i/4`."""
    assert small.path is not None
    plain = replace(small.ledger, warnings=())
    origin, flags = parts.origin(plain), {t.name: (False,) * (4 if t.name == "input" else 3) for t in plain.tensors}
    per_shard = {i: folder / f"shard{i}" for i in range(_SHARDS)}
    ledgers: dict[int, Ledger] = {}
    for i, place in per_shard.items():
        ledgers[i] = replace(plain, provenance={**plain.provenance, "shard": str(Shard(i, _SHARDS))})
        (place / PARTS).mkdir(parents=True)
        ledgers[i].save(place / PARTS / LEDGER)
    for number, table in enumerate(_groups(small, rows, _PER_PART, final=False)):
        part = parts.Part((number,), flags=flags, table=table, **origin)
        parts.save(part, per_shard[number % _SHARDS] / PARTS)
    for i, place in per_shard.items():
        write_counts(_groups(small, 1), ledgers[i], place / FILE)  # merge reads the parts
        ledgers[i].save(place / LEDGER)


def _measured(command: list[str], folder: Path) -> dict[str, float]:
    """Seconds, seconds of the processor and MB of one command."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    words: list[str] = []
    for word in command:
        words += [str(folder / f"shard{i}") for i in range(_SHARDS)] if word == "SHARDS" else [word]
    words = [{"RUN": str(folder / "run"), "OUT": str(out)}.get(word, word) for word in words]
    start, before, peak = time.perf_counter(), _cpu(), 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-m", "spikeattn", *words], stdout=said, stderr=said)
        while process.poll() is None:
            peak = max(peak, _own_memory(process.pid))
            time.sleep(_LOOK)
        seconds = time.perf_counter() - start
        if process.returncode:
            said.seek(0)
            sys.exit(f"error: spikeattn {' '.join(words)} ended with {process.returncode}: {said.read().decode()}")
    return {"seconds": seconds, "cpu": _cpu() - before, "memory": peak / 1e3}


def _cpu() -> float:
    """Seconds that processes which have ended have kept the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _own_memory(pid: int) -> int:
    """kB of a process that belong to no file; 0 where it has ended."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("RssAnon")), 0)
    except (OSError, ProcessLookupError):
        return 0
