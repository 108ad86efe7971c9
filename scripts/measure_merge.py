"""Time the merge of a long run: parts of several ranks into one count table.

    python scripts/measure_merge.py --images 50000 --columns 1080

The counts are random, Poisson with a mean of its own for every column, as those of a trained network are; the parts are
those of 8 ranks with batches of 32. Prints a JSON record; nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from spikeattn.storage import parts
from spikeattn.storage.counts import row_groups, write_counts
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor
from spikeattn.storage.parts import Part

T = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--columns", type=int, default=1080, help="tensors times 4 time steps")
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--parts", type=int, default=8, help="parts of each rank")
    options = parser.parse_args()
    names = [f"tensor{i}" for i in range(options.columns // T)]
    ledger = Ledger(T, False, tuple(CountedTensor(name, (1 << 20,), 1 << 20) for name in names), ())
    rng = np.random.RandomState(0)
    means = np.exp(rng.uniform(np.log(100), np.log(100_000), len(names)))
    batches = [range(start, min(start + 32, options.images)) for start in range(0, options.images, 32)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for rank in range(options.ranks):
            mine = list(enumerate(batches))[rank :: options.ranks]
            for piece in np.array_split(np.arange(len(mine)), options.parts):
                taken = [mine[i] for i in piece]
                index = [i for _, batch in taken for i in batch]
                columns = {"index": pa.array(index, pa.int64()), "id": pa.array([f"n0/{i}.JPEG" for i in index])}
                columns["label"] = pa.array([i % 1000 for i in index], pa.int64())
                for name, mean in zip(names, means, strict=True):
                    for t in range(1, T + 1):
                        columns[f"nnz:{name}:{t}"] = rng.poisson(mean, len(index)).astype(np.float64)
                numbers = tuple(number for number, _ in taken)
                parts.save(Part(numbers, table=pa.table(columns), **parts.origin(ledger)), folder)
        stored = sum(path.stat().st_size for path in folder.glob("*.arrow"))
        wall, cpu = time.monotonic(), time.process_time()
        tables = [parts.load(path).table for path in sorted(folder.glob("*.arrow"))]
        written = write_counts(row_groups([t for t in tables if t is not None], ledger), ledger, folder / "c.parquet")
        record = {
            "images": options.images,
            "columns": options.columns,
            "parts": options.ranks * options.parts,
            "part_bytes_per_image": stored / options.images,
            "merge_wall_s": round(time.monotonic() - wall, 2),
            "merge_cpu_s": round(time.process_time() - cpu, 2),
            "table_bytes_per_image": written.stat().st_size / options.images,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
