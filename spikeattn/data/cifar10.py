"""CIFAR-10 from two parquet files of encoded images, the form in which public mirrors hold it.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009): 50,000 training and 10,000 test images of
32x32 pixels, 10 classes. Files of JPEGs are lossy copies of the original pixels; what the file holds is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spikeattn.data.events import CIFAR10
from spikeattn.data.images import ImageDataset
from spikeattn.errors import SpikeattnError, unknown

LAYOUT = "expected PATH/train.parquet and PATH/test.parquet with columns image (encoded bytes) and label (0 to 9)"
SPLITS = ("train", "test")


@dataclass(frozen=True)
class InColumn:
    """The bytes of one encoded image: a row of an Arrow column, which keeps them all in memory."""

    column: pa.ChunkedArray
    row: int

    def read(self) -> bytes:
        return self.column[self.row].as_py() or b""


def open_cifar10(path: str | Path, model: Any = None, *, split: str | None = None, spec: str = "") -> ImageDataset:
    """The test images of CIFAR-10 (or `split="train"`), in the order of the file.

    Args:
        path: folder of `train.parquet` and `test.parquet`. The images are bytes, or structs with a field `bytes`, in a
            column `image` or `img`.
        model: gives the transform (`pretrained_cfg`, `img_size`, `in_chans`).
        split: "train" or "test".
        spec: what the user typed, for the provenance.

    Raises:
        SpikeattnError: no such file, other columns, or labels beyond 0 to 9.
    """
    taken = split or "test"
    if taken not in SPLITS:
        raise unknown("split of CIFAR-10", taken, SPLITS)
    file = Path(path).expanduser() / f"{taken}.parquet"
    if not file.is_file():
        raise SpikeattnError(f"{file} does not exist; {LAYOUT}")
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise SpikeattnError(f"{file} cannot be read as parquet ({error}); {LAYOUT}") from error
    pictures = next((name for name in ("image", "img") if name in table.column_names), None)
    if pictures is None or "label" not in table.column_names or not table.num_rows:
        raise SpikeattnError(f"{file} holds {table.num_rows} rows of {', '.join(table.column_names)}; {LAYOUT}")
    column, labels = table[pictures], table["label"].to_pylist()
    if pa.types.is_struct(column.type):
        column = pa.chunked_array([chunk.field("bytes") for chunk in column.chunks])
    strange = sorted({str(label) for label in labels if label not in range(len(CIFAR10))})
    if strange:
        raise SpikeattnError(f"{file}: label {', '.join(strange[:5])} is none of 0 to 9; {LAYOUT}")
    files = [(f"{taken}/{row:05d}", InColumn(column, row), label) for row, label in enumerate(labels)]
    return ImageDataset("cifar10", spec or f"cifar10:{path}", taken, files, list(CIFAR10), "the file's labels", model)
