"""CIFAR-10 from two parquet files of encoded images, the form in which public mirrors hold it.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009): 50,000 training and 10,000 test images of
32x32 pixels, 10 classes. Files of JPEGs are lossy copies of the original pixels; what the file holds is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spikeattn.data.disk import expanded, read_regular
from spikeattn.data.events import CIFAR10
from spikeattn.data.image_files import content_of
from spikeattn.data.images import ImageDataset
from spikeattn.errors import SpikeattnError, unknown

LAYOUT = "expected PATH/train.parquet and PATH/test.parquet with columns image (encoded bytes) and label (0 to 9)"
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
_TEXT = (pa.types.is_string, pa.types.is_large_string)
SPLITS = ("train", "test")


@dataclass(frozen=True)
class InColumn:
    """The bytes of one encoded image: a row of Arrow columns, which keep them in memory, or the file that it names.

    Attributes:
        contents, paths: columns of bytes, and of paths from `folder`; a row has one of them.
        folder: where the parquet file lies.
    """

    contents: pa.ChunkedArray | None
    paths: pa.ChunkedArray | None
    row: int
    folder: Path

    def read(self) -> bytes:
        if self.contents is not None and (content := self.contents[self.row].as_py()) is not None:
            return content
        name = self.paths[self.row].as_py() if self.paths is not None else None
        if not name:
            raise ValueError("its row holds no image")
        if not (self.folder / name).is_file():
            raise ValueError(
                f"its row holds a path and no bytes, and there is no file {name!r} from the parquet file on"
            )
        return read_regular(str(self.folder / name))


def open_cifar10(path: str | Path, model: Any = None, *, split: str | None = None, spec: str = "") -> ImageDataset:
    """The test images of CIFAR-10 (or `split="train"`), in the order of the file.

    Args:
        path: folder of `train.parquet` and `test.parquet`. The images are bytes, paths from that folder, or structs of
            `bytes` and `path`, in a column `image` or `img`.
        model: gives the transform (`pretrained_cfg`, `img_size`, `in_chans`).
        split: "train" or "test".
        spec: what the user typed, for the provenance.

    Raises:
        SpikeattnError: no such file, other columns, or labels beyond 0 to 9.
    """
    taken = split or "test"
    if taken not in SPLITS:
        raise unknown("split of CIFAR-10", taken, SPLITS)
    folder = expanded(path)
    file = folder / f"{taken}.parquet"
    if not file.is_file():
        held = f"; PATH holds {content_of(folder)}" if folder.is_dir() else ""
        raise SpikeattnError(f"{file} does not exist; {LAYOUT}{held}")
    try:
        with pq.ParquetFile(
            file.open("rb")
        ) as opened:  # an opened file: pyarrow takes names such as s3:x for addresses
            table = opened.read()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise SpikeattnError(f"{file} cannot be read as parquet ({reason}); {LAYOUT}") from error
    names = table.column_names
    pictures = next((name for name in ("image", "img") if names.count(name) == 1), None)
    if pictures is None or names.count("label") != 1 or not table.num_rows:
        raise SpikeattnError(f"{file} holds {table.num_rows} rows of {', '.join(names)}; {LAYOUT}")
    contents, paths = _images(table[pictures], f"{file}: its column {pictures}")
    labels = _labels(table["label"], str(file))
    files = [(f"{taken}/{row:05d}", InColumn(contents, paths, row, folder), label) for row, label in enumerate(labels)]
    return ImageDataset("cifar10", spec or f"cifar10:{path}", taken, files, list(CIFAR10), "the file's labels", model)


def _images(column: pa.ChunkedArray, where: str) -> tuple[pa.ChunkedArray | None, pa.ChunkedArray | None]:
    """The bytes and the paths of images, as far as a column holds them: bytes, text, or structs of both.

    Raises:
        SpikeattnError: it holds neither.
    """
    columns = {"": column}
    if pa.types.is_struct(column.type):
        columns = {name: pc.struct_field(column, name) for name in ("bytes", "path") if _has(column.type, name)}
    contents = next((one for one in columns.values() if _is_any(one.type, _BYTES)), None)
    paths = next((one for one in columns.values() if _is_any(one.type, _TEXT)), None)
    if contents is None and paths is None:
        raise SpikeattnError(
            f"{where} is of type {column.type}; images are encoded bytes, paths, or structs of bytes and path; {LAYOUT}"
        )
    return contents, paths


def _labels(column: pa.ChunkedArray, where: str) -> list[int]:
    """The labels of all rows.

    Raises:
        SpikeattnError: they are no whole numbers from 0 to 9.
    """
    labels = column.to_pylist()
    if not pa.types.is_integer(_values(column.type)):
        raise SpikeattnError(
            f"{where}: label is of type {column.type}, such as {labels[0]!r}; labels are whole numbers; {LAYOUT}"
        )
    strange = Counter(str(label) for label in labels if label not in range(len(CIFAR10)))
    if strange:
        names = ", ".join(sorted(strange)[:5])
        raise SpikeattnError(
            f"{where}: label {names} is none of 0 to 9, in {strange.total()} of {len(labels)} rows; {LAYOUT}"
        )
    return labels


def _has(kind: pa.StructType, name: str) -> bool:
    return kind.get_field_index(name) >= 0  # -1 also where there are several


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_any(kind: pa.DataType, tests: Iterable[Callable[[pa.DataType], bool]]) -> bool:
    return any(test(_values(kind)) for test in tests)
