"""Parquet files read on the calling thread alone.

Arrow's thread pools are torn down beside threads that still run when Python ends soon after a read: once in many runs
the process aborts ("terminate called without an active exception", apache/arrow#34314). The pools start with the first
threaded or pre-buffered read, so none is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(file: BinaryIO, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of an opened Parquet file, or some of its columns; page checksums, where there are any, are verified.

    Args:
        columns: names of columns, in the order wanted; all by default.

    Raises:
        pyarrow.ArrowException, OSError: the file is damaged.
    """
    with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as opened:
        table = opened.read(None if columns is None else list(columns), use_threads=False)
    return table if columns is None else table.select(list(columns))
