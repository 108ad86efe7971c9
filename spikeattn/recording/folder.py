"""The folder of a run: parts written while it runs, `counts.parquet` and `model.json` when it has ended.

A part holds whole batches and carries its checksum in its name. Files appear whole or not at all; a lock keeps a second
process out.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from spikeattn.errors import SpikeattnError
from spikeattn.recording.counts import FILE, Counts
from spikeattn.recording.ledger import Ledger

LEDGER = "model.json"
_PARTS = "parts"
_META = b"spikeattn"


@dataclass(frozen=True)
class Part:
    """Rows of whole batches, with what a merged run needs to know of them.

    Attributes:
        batches: numbers of the batches, also of those whose images could all not be read.
        flags: value flags by tensor, joined over the batches.
        skipped: (id, reason) of images that could not be read.
        table: the rows; None where every image was skipped.
    """

    batches: tuple[int, ...]
    flags: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    table: pa.Table | None = None


class RunFolder:
    """Exclusive access to the folder of a run, as a context manager.

    Args:
        path: the folder; made if absent.
        resume: continue what an interrupted run left; without it the folder must not hold one.

    Raises:
        SpikeattnError: not writable, in use by another process, or already holding a run.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path, self.resume = Path(path), resume
        self._lock: Any = None

    def __enter__(self) -> RunFolder:
        try:
            (self.path / _PARTS).mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise SpikeattnError(
                f"{self.path}: cannot write the run there ({error.strerror}); give another folder"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise SpikeattnError(
                f"{self.path}: another process is writing this run; wait for it, or give another folder"
            ) from error
        try:
            self._check_empty()
        except SpikeattnError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        (self.path / ".lock").unlink(missing_ok=True)
        self._lock.close()
        parts = self.path / _PARTS
        if parts.is_dir() and not any(parts.iterdir()):
            parts.rmdir()

    def _check_empty(self) -> None:
        if self.finished():
            if not self.resume:
                raise SpikeattnError(f"{self.path}: holds a finished run; give another folder, or delete it first")
        elif not self.resume and any((self.path / _PARTS).glob("*.arrow")):
            raise SpikeattnError(
                f"{self.path}: holds an interrupted run; continue it with resume, or give another folder"
            )

    def finished(self) -> bool:
        """Whether the folder holds a complete run."""
        return (self.path / FILE).is_file() and (self.path / LEDGER).is_file()

    def parts(self) -> list[Part]:
        """What an interrupted run has left, oldest batches first; a damaged part is an error that names it."""
        return [_read(path) for path in sorted((self.path / _PARTS).glob("*.arrow"))]

    def write(self, part: Part) -> None:
        """Write one part; it appears whole or not at all."""
        content = _pack(part)
        digest = hashlib.sha256(content).hexdigest()[:16]
        target = self.path / _PARTS / f"{min(part.batches):08d}-{digest}.arrow"
        _write(target, content)

    def save_ledger(self, ledger: Ledger) -> None:
        """Write `model.json`, already when the run starts: a resumed run is compared with it."""
        _write(self.path / LEDGER, ledger.to_json().encode())

    def ledger(self) -> Ledger | None:
        """The ledger of the run that is being resumed, if it got that far."""
        path = self.path / LEDGER
        return Ledger.load(path) if path.is_file() else None

    def discard(self) -> None:
        """Drop what an attempt without a single image has written, so that the folder can be used again."""
        for path in (self.path / _PARTS).glob("*.arrow"):
            path.unlink()
        (self.path / LEDGER).unlink(missing_ok=True)

    def finish(self, counts: Counts, ledger: Ledger) -> None:
        """Write the final ledger and count table, then drop the parts."""
        self.save_ledger(ledger)
        counts.save(self.path / FILE)
        for path in (self.path / _PARTS).glob("*.arrow"):
            path.unlink()


class PartWriter:
    """Collects batches into parts, at most one per `seconds`: files of a folder, or `done` in memory without one."""

    def __init__(self, folder: RunFolder | None, seconds: float = 30.0) -> None:
        self._folder, self._seconds = folder, seconds
        self._last = time.monotonic()
        self._waiting: list[Part] = []
        self.done: list[Part] = []

    def add(self, part: Part) -> None:
        """Take one batch."""
        self._waiting.append(part)
        if time.monotonic() - self._last >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._waiting:
            joined = join(self._waiting)
            if self._folder is not None:
                self._folder.write(joined)
            else:
                self.done.append(joined)
        self._waiting, self._last = [], time.monotonic()


def join(parts: list[Part]) -> Part:
    """Several parts as one; flags are joined by or."""
    flags: dict[str, tuple[bool, ...]] = {}
    for part in parts:
        for name, values in part.flags.items():
            known = flags.get(name, (False,) * len(values))
            flags[name] = tuple(a or b for a, b in zip(known, values, strict=True))
    tables = [part.table for part in parts if part.table is not None]
    return Part(
        batches=tuple(number for part in parts for number in part.batches),
        flags=flags,
        skipped=tuple(item for part in parts for item in part.skipped),
        table=pa.concat_tables(tables) if tables else None,
    )


def _pack(part: Part) -> bytes:
    meta = {"batches": part.batches, "flags": part.flags, "skipped": part.skipped, "empty": part.table is None}
    table = part.table if part.table is not None else pa.table({})
    table = table.combine_chunks().replace_schema_metadata({_META: json.dumps(meta)})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _read(path: Path) -> Part:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest()[:16] != path.stem.rpartition("-")[2]:
        raise SpikeattnError(
            f"{path}: damaged (its checksum does not match its name); delete it and resume, its batches run again"
        )
    table = pa.ipc.open_file(io.BytesIO(content)).read_all()
    meta = json.loads(table.schema.metadata[_META])
    return Part(
        tuple(meta["batches"]),
        {name: tuple(values) for name, values in meta["flags"].items()},
        tuple((item[0], item[1]) for item in meta["skipped"]),
        None if meta["empty"] else table.replace_schema_metadata(None),
    )


def _write(target: Path, content: bytes) -> None:
    part = target.with_name(target.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SpikeattnError(f"{target}: cannot write ({error.strerror}); what was written before is intact") from error
