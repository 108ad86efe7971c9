"""The per-image count table: one row per image, one column per count and time step, in Arrow and Parquet.

Columns (`columns` names them) are `index`, `id`, `label`, a prediction after each step, and the measures nnz (non-zero
elements of a tensor), abs (sum of |value|, where that is another number), fan_nnz and fan_abs (fan-out-weighted, for
synapses whose fan-out depends on the position), pairs and pairs_abs (spike pairs of a matrix product). Rows are sorted
by index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spikeattn.boundary import file_text, schema
from spikeattn.errors import SpikeattnError
from spikeattn.storage import columns, files
from spikeattn.storage.columns import Key
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import Size
from spikeattn.storage.parquet import read_parquet

FILE = "counts.parquet"
_META = b"spikeattn"
_EXPECTED = "what spikeattn writes into a count table; profile again or restore it"
_LARGEST = 1 << 53  # float64, in which parts are kept, holds every whole number up to here
_KEPT = 1 << 27  # bytes of columns that a table keeps once they are read: of 50,000 images nearly all
_ROW_GROUP = 1 << 16  # small row groups multiply size and reading time of a table with a thousand columns


@dataclass(frozen=True)
class _Origin:
    """What a count table says of itself: the hashes of the ledger and of the settings that it belongs to."""

    ledger: str
    settings: str | None = None
    time_steps: Size | None = None


@dataclass(frozen=True)
class BatchCounts:
    """What one forward pass gave.

    Attributes:
        counts: [T, B] float64 by (measure, name); all but "abs" of real tensors are whole numbers.
        predictions: [T, B] class after steps 1..t; [1, B] where the model gives no logits per step; [0, B] where its
            output is no [B, classes].
        flags: value flags by tensor (see counting.value_flags); a fourth one on the input: it varies over time.
        batch: number of images B.
        extremes: the smallest and the largest value of tensors that are not 0/1 by construction, in their units.
    """

    counts: dict[Key, np.ndarray]
    predictions: np.ndarray
    flags: dict[str, tuple[bool, ...]]
    batch: int
    extremes: dict[str, tuple[float, float]] = field(default_factory=dict)


class Counts:
    """The count table of a run, read column by column; `ledger` says what the columns mean.

    Attributes:
        ledger: structure the counts belong to.
        n_images: rows of the table.
        time_steps: T.
        holds: what must live as long as this table, such as the temporary folder that it is read from.
    """

    holds: Any = None

    def __init__(self, table: pa.Table | Path, ledger: Ledger) -> None:
        self.ledger = ledger
        self._table = table
        self._read_before: dict[str, pa.ChunkedArray] = {}  # a report asks for most columns eight times
        if isinstance(table, Path):
            with table.open("rb") as file:
                metadata = pq.read_metadata(file)
            self.columns: tuple[str, ...] = tuple(metadata.schema.names)
            self.n_images: int = metadata.num_rows
        else:
            self.columns, self.n_images = tuple(table.column_names), table.num_rows
        self._known = frozenset(self.columns)
        self.time_steps: int = ledger.time_steps

    @classmethod
    def load(cls, path: str | Path, ledger: Ledger) -> Counts:
        """The table of a `counts.parquet`; a damaged file, or one of another model, is an error."""
        path = Path(path)
        if not path.is_file():
            raise SpikeattnError(f"{path}: no such file; expected the {FILE} that a finished profile run writes")
        try:
            with path.open("rb") as file:
                meta = (pq.read_schema(file).metadata or {}).get(_META)
        except (pa.ArrowInvalid, OSError) as error:
            raise SpikeattnError(
                f"{path}: not a readable Parquet file ({error}); profile again or restore it"
            ) from error
        if meta is None:
            raise SpikeattnError(f"{path}: a Parquet file, but no count table of spikeattn")
        where = f"{path}, its metadata"
        origin = schema.read(_Origin, file_text.parse_json(meta, where, _EXPECTED), where, others=True)
        if origin.ledger != ledger.hash():
            raise SpikeattnError(
                f"{path}: the counts belong to another model or input size than the model.json beside them; take both "
                "files from the same run"
            )
        if origin.settings != ledger.settings_hash():
            raise SpikeattnError(
                f"{path}: the counts were made with other weights, data or settings than the model.json beside them "
                "says; take both files from the same run"
            )
        return cls(path, ledger)

    def beside(self, ledger: Ledger) -> Counts:
        """The same table under a ledger with other labels."""
        same = Counts(self._table, ledger)
        same.holds, same._read_before = self.holds, self._read_before
        return same

    def _read(self, names: Sequence[str]) -> pa.Table:
        if not isinstance(self._table, Path):
            return self._table.select(names)
        kept = self._read_before
        if all(name in kept for name in names):
            return pa.table({name: kept[name] for name in names})
        table = self._read_file(self._table, names)
        if table.nbytes + sum(column.nbytes for column in kept.values()) <= _KEPT:
            kept |= zip(table.column_names, table.columns, strict=True)
        return table

    @staticmethod
    def _read_file(path: Path, names: Sequence[str]) -> pa.Table:
        try:
            with path.open("rb") as file:  # a path such as run:1/counts.parquet is an address to pyarrow
                return read_parquet(file, names)
        except (pa.ArrowException, OSError) as error:
            raise SpikeattnError(
                f"{path}: damaged ({' '.join(str(error).split())}); profile again or restore it"
            ) from error

    @property
    def rows(self) -> pd.DataFrame:
        """What identifies the images: index, id, label (-1 unknown) and the predictions pred_1..pred_T there are."""
        steps = {name: t for name in self.columns if (t := columns.predicted(name)) is not None}
        names = {name: f"pred_{t}" for name, t in steps.items()}
        return self._read([*columns.IMAGE, *names]).to_pandas(use_threads=False).rename(columns=names)

    @property
    def keys(self) -> list[Key]:
        """(measure, name) of everything that was counted."""
        return list(dict.fromkeys(c.key for c in map(columns.counted, self.columns) if c is not None))

    def has(self, measure: str, name: str) -> bool:
        """Whether the table holds a measure of a tensor, synapse or product."""
        return columns.count(measure, name, 1) in self._known

    def column(self, measure: str, name: str) -> NDArray[Any]:
        """Counts [N, T]: int64, or float64 for the sum of |value| of a real tensor.

        [N, 1] for what has no split over time steps: the operation joins them, or runs once per image behind them.
        """
        if measure == "abs" and not self.has("abs", name):
            measure = "nnz"  # binary: the two are the same number
        elif measure in ("fan_abs", "pairs_abs") and not self.has(measure, name):
            measure = {"fan_abs": "fan_nnz", "pairs_abs": "pairs"}[measure]
        if not self.has(measure, name):
            raise SpikeattnError(f"the count table has no {measure!r} of {name!r}; it was not counted in this run")
        there = [columns.count(measure, name, t) for t in range(1, self.time_steps + 1)]
        table = self._read([column for column in there if column in self._known])
        return np.stack([column.to_numpy() for column in table.columns], axis=1)

    def fan(self, synapse: str, by: str = "abs") -> NDArray[Any]:
        """Additions [N, T] at the weights of a synapse: each spike times the weights it meets.

        Args:
            by: "abs" counts an integer spike by its value, "nnz" as one.
        """
        entry = self.ledger.synapse(synapse)
        if entry.fan_out is None:
            return self.column(f"fan_{by}", synapse)
        column = self.column(by, entry.input)
        if column.size and int(column.max()) * entry.fan_out * self.time_steps >= 1 << 63:
            raise SpikeattnError(
                f"synapse {synapse} adds 2**63 times or more on one image, more than a table of whole numbers holds"
            )
        return column * entry.fan_out

    def save(self, path: str | Path) -> Path:
        """Write the table as Parquet; the file appears whole or not at all."""
        table = self._table if isinstance(self._table, pa.Table) else self._read(self.columns)
        groups = (table.slice(start, _ROW_GROUP) for start in range(0, table.num_rows, _ROW_GROUP))
        return write_counts(groups, self.ledger, path)


def write_counts(groups: Iterable[pa.Table], ledger: Ledger, path: str | Path) -> Path:
    """Write tables of rows, one row group each, as the count table of a ledger; at least one."""
    path = Path(path)
    origin = asdict(_Origin(ledger.hash(), ledger.settings_hash(), ledger.time_steps))
    writer: pq.ParquetWriter | None = None
    with files.whole(path) as file:
        try:
            for group in groups:
                group = group.combine_chunks().replace_schema_metadata({_META: json.dumps(origin)})
                if writer is None:
                    writer = pq.ParquetWriter(file, group.schema, compression="zstd", write_page_checksum=True)
                writer.write_table(group, row_group_size=_ROW_GROUP)
        finally:
            if writer is not None:
                writer.close()
    return path


def batch_table(counts: BatchCounts, index: Sequence[int], ids: Sequence[str], labels: Sequence[int]) -> pa.Table:
    """The rows of one batch; counts are float64 until the whole run decides which tensors are real."""
    made: dict[str, Any] = {
        "index": pa.array(index, pa.int64()),
        "id": pa.array(ids, pa.string()),
        "label": pa.array(labels, pa.int64()),
    }
    T = max(values.shape[0] for values in counts.counts.values())
    first = T - len(counts.predictions) + 1
    for t, row in enumerate(counts.predictions, start=first):
        made[columns.prediction(t)] = pa.array(row, pa.int64())
    # Of one array: to make hundreds of a few numbers each takes longer.
    together = pa.array(np.concatenate([values.ravel() for values in counts.counts.values()]), pa.float64())
    start = 0
    for (measure, name), values in counts.counts.items():
        for t in range(1, len(values) + 1):
            made[columns.count(measure, name, t)] = together.slice(start, values.shape[1])
            start += values.shape[1]
    return pa.table(made)


def merge(tables: Iterable[pa.Table], ledger: Ledger) -> pa.Table:
    """All rows, sorted by index, in their final types, as one table; see `row_groups`."""
    return pa.concat_tables(list(row_groups(list(tables), ledger))).combine_chunks()


def row_groups(tables: Sequence[pa.Table], ledger: Ledger) -> Iterator[pa.Table]:
    """All rows, sorted by index, in tables of the size of a row group; only one of these is in memory at a time.

    Final types are int64, but float64 for sums of |value| of real tensors.

    Raises:
        SpikeattnError: an index stands twice, or the tables have different columns.
    """
    names = tables[0].column_names
    if stranger := next((table for table in tables if sorted(table.column_names) != sorted(names)), None):
        differing = sorted(set(stranger.column_names) ^ set(names))
        raise SpikeattnError(
            f"the parts of this run do not count the same: {', '.join(differing[:3])} stands in some of them only; "
            "they come from different versions or models"
        )
    tables = [_by_index(table.select(names)) for table in tables]
    positions = [table["index"].to_numpy() for table in tables]
    everything = np.sort(np.concatenate(positions))
    if (repeated := np.flatnonzero(everything[1:] == everything[:-1])).size:
        raise SpikeattnError(
            f"image number {everything[repeated[0]]} stands twice in the counts; batches must not overlap"
        )
    real = {("abs", t.name) for t in ledger.tensors if t.kind == "real"}
    real |= {("fan_abs", s.name) for s in ledger.synapses if ledger.tensor(s.input).kind == "real"}
    for start in range(0, len(everything), _ROW_GROUP):
        first, last = everything[start], everything[min(start + _ROW_GROUP, len(everything)) - 1]
        pieces = []
        for table, index in zip(tables, positions, strict=True):
            low, high = np.searchsorted(index, first), np.searchsorted(index, last, side="right")
            if high > low:
                pieces.append(table.slice(low, high - low))
        yield _typed(_by_index(pa.concat_tables(pieces).combine_chunks()), real)


def _by_index(table: pa.Table) -> pa.Table:
    index = table["index"].to_numpy()
    return table if bool((index[1:] >= index[:-1]).all()) else table.take(pa.array(np.argsort(index, kind="stable")))


def _typed(table: pa.Table, real: set[Key]) -> pa.Table:
    typed = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        whole = pa.types.is_floating(column.type) and (
            (counted := columns.counted(name)) is None or counted.key not in real
        )
        if whole and (pc.max(column).as_py() or 0) >= _LARGEST:
            raise SpikeattnError(
                f"column {name} holds a count of 2**53 or more, beyond which whole numbers are not exact here; profile "
                "fewer time steps, or smaller images"
            )
        typed[name] = column.cast(pa.int64()) if whole else column
    return pa.table(typed)
