"""Parts: whole batches of a run in one Arrow file each, with what a merged run needs to know of them.

A part carries the checksum of its content in its name, and says which model and which settings its counts belong to.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from spikeattn.boundary import file_text, schema
from spikeattn.errors import SpikeattnError
from spikeattn.storage import files
from spikeattn.storage.ledger import SETTINGS, Ledger
from spikeattn.storage.ledger_rows import Number

_META = b"spikeattn"
_CHUNK = 1 << 22  # bytes of a file that are hashed at once: parts of long runs need not fit into memory
_EXPECTED = "what spikeattn writes into a part; delete it and resume: its batches run again, all others are kept"


@dataclass(frozen=True)
class _Meta:
    """What a part says of itself, beside its rows; `empty` where it has none."""

    batches: tuple[Number, ...]
    flags: Mapping[str, tuple[bool, ...]]
    skipped: tuple[tuple[Number, str, str], ...]
    empty: bool
    ledger: str
    settings: Annotated[Mapping[str, Any], SETTINGS]
    extremes: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Rows of whole batches.

    Attributes:
        batches: numbers of the batches, also of those whose images could all not be read.
        flags: value flags by tensor, joined over the batches.
        skipped: (index, id, reason) of images that could not be read.
        table: the rows; None where every image was skipped.
        ledger: hash of the ledger the counts belong to.
        settings: what the counts were made with.
        source: the file it was read from, None in memory.
        extremes: the smallest and the largest value by tensor; the smallest and largest of all batches.
    """

    batches: tuple[int, ...]
    flags: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    skipped: tuple[tuple[int, str, str], ...] = ()
    table: pa.Table | None = None
    ledger: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: Path | None = None
    extremes: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Images in it, unreadable ones included."""
        return len(self.skipped) + (0 if self.table is None else self.table.num_rows)


class PartWriter:
    """Collects batches into parts, at most one per `seconds`.

    Args:
        write: takes a part that is complete; without it parts stay in memory, in `done`.
        seconds: how much work an interruption may cost.

    Attributes:
        origin: what parts say of their origin, see the function `origin`; to be set once the model is known.
        waiting, done: batches that are in no part yet, and parts in memory.
        numbers: of all batches so far.
    """

    def __init__(self, write: Callable[[Part], None] | None, seconds: float) -> None:
        self._write, self._seconds = write, seconds
        self._last = time.monotonic()
        self.waiting: list[Part] = []
        self.done: list[Part] = []
        self.origin: dict[str, Any] = {}
        self.numbers: set[int] = set()

    def add(self, part: Part) -> None:
        """Take one batch."""
        self.waiting.append(part)
        self.numbers |= set(part.batches)
        if time.monotonic() - self._last >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting; it is kept until it has been written, and until its `origin` is known."""
        if self.waiting and (self.origin or self._write is None):
            part = replace(join(self.waiting), **self.origin)
            if self._write is not None:
                self._write(part)
            else:
                self.done.append(part)
            self.waiting = []
        self._last = time.monotonic()


def join(parts: Sequence[Part]) -> Part:
    """Several parts as one, of no known origin."""
    tables = [part.table for part in parts if part.table is not None]
    return Part(
        batches=tuple(number for part in parts for number in part.batches),
        flags=joined_flags(parts),
        skipped=tuple(item for part in parts for item in part.skipped),
        table=pa.concat_tables(tables) if tables else None,
        extremes=joined_extremes(parts),
    )


def joined_flags(parts: Iterable[Part]) -> dict[str, tuple[bool, ...]]:
    """Value flags by tensor over all parts, joined by or."""
    flags: dict[str, tuple[bool, ...]] = {}
    for part in parts:
        for name, values in part.flags.items():
            known = flags.get(name, (False,) * len(values))
            flags[name] = tuple(a or b for a, b in zip(known, values, strict=True))
    return flags


def joined_extremes(parts: Iterable[Part]) -> dict[str, tuple[float, float]]:
    """The smallest and the largest value by tensor over all parts."""
    found: dict[str, tuple[float, float]] = {}
    for part in parts:
        for name, (low, high) in part.extremes.items():
            known = found.get(name, (low, high))
            found[name] = (min(low, known[0]), max(high, known[1]))
    return found


def origin(ledger: Ledger) -> dict[str, Any]:
    """What a part says of its origin, as keywords of `Part`."""
    return {"ledger": ledger.hash(), "settings": ledger.provenance.get("settings", {})}


def save(part: Part, folder: Path) -> Path:
    """Write a part into a folder under the name of its first batch and its checksum."""
    content = _pack(part)
    target = folder / f"{min(part.batches):08d}-{hashlib.sha256(content).hexdigest()[:16]}.arrow"
    files.write(target, content)
    return target


def load(path: Path) -> Part:
    """Read a part, its table mapped into memory.

    Raises:
        SpikeattnError: the file is not what was written under this name.
    """
    damaged = f"{path}: damaged (its checksum does not match its name)"
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise SpikeattnError(f"{path}: cannot be read ({error.strerror})") from error
    if digest.hexdigest()[:16] != path.stem.rpartition("-")[2]:
        raise SpikeattnError(f"{damaged}; delete it and resume: its batches run again, all others are kept")
    try:
        # Not pa.memory_map, which refuses names that are no UTF-8; the mapping lives as long as the table.
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SpikeattnError(
            f"{path}: no part of this version of spikeattn ({' '.join(str(error).split())}); give another folder"
        ) from error
    where = f"{path}, its metadata"
    record = file_text.parse_json((table.schema.metadata or {}).get(_META, b""), where, _EXPECTED)
    meta = schema.read(_Meta, record, where, others=True)
    rows = None if meta.empty else table.replace_schema_metadata(None)
    return Part(meta.batches, meta.flags, meta.skipped, rows, meta.ledger, meta.settings, path, meta.extremes)


def _pack(part: Part) -> bytes:
    meta = _Meta(part.batches, part.flags, part.skipped, part.table is None, part.ledger, part.settings, part.extremes)
    table = part.table if part.table is not None else pa.table({})
    table = table.combine_chunks().replace_schema_metadata({_META: json.dumps(asdict(meta))})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
