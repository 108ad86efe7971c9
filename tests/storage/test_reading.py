"""A finished run is read, rated and priced without torch: its two files are all that is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pytest

import spikeattn as sa
from spikeattn.storage import counts as counts_module
from spikeattn.storage.parquet import read_parquet
from tests.counting.networks import batches, tiny_sdt
from tests.models.sdt_oracle import exact_input

READ = """
import sys
import spikeattn as sa
profile = sa.Profile.load(sys.argv[1])
profile.rates(), profile.operations(), profile.over_time(), profile.components(energy_model="compute")
print(profile.energy().total.value, profile.summary()["ann_macs"], len(sa.sweep(profile)))
sys.exit("torch" in sys.modules)
"""


def test_a_run_is_read_without_torch_and_gives_the_same_numbers(tmp_path) -> None:
    profile = sa.profile(tiny_sdt(), batches(exact_input(4, 3, 16, 16), 2), out=tmp_path / "run")
    done = subprocess.run([sys.executable, "-c", READ, tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [float(number) for number in done.stdout.split()]
    assert found == [profile.energy().total.value, profile.summary()["ann_macs"], len(sa.sweep(profile))]


THREADS = """
import sys
from pathlib import Path
import spikeattn as sa
import scipy.stats  # loaded at the first interval, with threads of its own
from pyarrow.parquet import read_table
from spikeattn.storage import parts

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

run = Path(sys.argv[1])
profile = sa.Profile.load(run)
before = threads()
profile.rates().to_parquet(run / "rates.parquet")
profile.operations(), profile.counts.rows, profile.energy(), profile.save(run / "copy")
written = parts.Part((0,), table=profile.counts._read(profile.counts.columns), **parts.origin(profile.ledger))
parts.load(parts.save(written, run))
print(threads() - before)
read_table(run / "counts.parquet")
print(threads() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc, which Linux has")
def test_reading_a_run_starts_no_thread_of_arrow(tmp_path) -> None:
    """Its pools make Python abort at exit, once in many runs; the second number shows that they would be seen."""
    sa.profile(tiny_sdt(), batches(exact_input(4, 3, 16, 16), 2), out=tmp_path / "run")
    done = subprocess.run([sys.executable, "-c", THREADS, tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode in (0, -6), done.stderr  # the second number's read may be the one that aborts
    ours, threaded = map(int, done.stdout.split())
    assert ours == 0 < threaded


def test_a_column_is_read_once_as_long_as_there_is_room(tmp_path, monkeypatch) -> None:
    sa.profile(tiny_sdt(), batches(exact_input(4, 3, 16, 16), 2), out=tmp_path / "run")
    asked = list[int]()

    def noting(file: BinaryIO, columns: Sequence[str] | None = None) -> pa.Table:
        asked.append(len(columns or ()))
        return read_parquet(file, columns)

    monkeypatch.setattr(counts_module, "read_parquet", noting)
    counts = sa.Profile.load(tmp_path / "run").counts
    measure, name = counts.keys[0]
    first = counts.column(measure, name)
    expected = first.copy()
    first[:] = -1  # a column belongs to whoever asks for it
    again = counts.column(measure, name)
    assert (again == expected).all() and again.dtype == expected.dtype
    assert (counts.beside(counts.ledger).column(measure, name) == expected).all() and len(asked) == 1
    assert counts.rows.equals(sa.Profile.load(tmp_path / "run").counts.rows)

    monkeypatch.setattr(counts_module, "_KEPT", 0)
    small = sa.Profile.load(tmp_path / "run").counts
    asked.clear()
    assert (small.column(measure, name) == small.column(measure, name)).all() and len(asked) == 2
