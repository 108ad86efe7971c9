"""Time and memory of the intervals on a large count table, and what single precision does to their limits.

    python scripts/time_intervals.py

writes reports/statistics/speed.md. The table is simulated: skewed firing rates, one column per tensor and time step.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np

from spikeattn.stats import bootstrap
from spikeattn.stats.intervals import mean_intervals

PAGE = """\
# Time and memory of the intervals

`{command}` on {machine}, numpy {numpy}: {images:,} images x {columns} columns, 2000 replicates, one thread.

| | |
| --- | --- |
| CPU time | {cpu:.2f} s |
| wall time (other programs ran, load {load:.1f}) | {wall:.2f} s |
| table | {table:.0f} MB |
| memory beside the table, at most | {memory:.0f} MB |
| largest change of a limit through single precision | {change:.1e} of the interval's width |
| CPU time in double precision | {double:.2f} s |
| same bits on a second call | {same} |
"""


def simulated(images: int, columns: int) -> np.ndarray:
    """Rates [images, columns]: beta distributed, from nearly silent and skewed to busy."""
    rng, table = np.random.default_rng(0), np.empty((images, columns))
    for column, shape in enumerate(np.geomspace(0.1, 10, columns)):
        table[:, column] = rng.beta(shape, 10, images)
    return table


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if platform.system() == "Linux" else 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--columns", type=int, default=400)
    folder = Path(__file__).resolve().parents[1] / "reports" / "statistics"
    parser.add_argument("--out", type=Path, default=folder, help="folder (default: reports/statistics)")
    options = parser.parse_args()
    table = simulated(options.images, options.columns)
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    found = mean_intervals(table, ceiling=1.0)
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - start}
    memory = peak() - before
    again = mean_intervals(table, ceiling=1.0)
    bootstrap.DOUBLE_BELOW, cpu = len(table) + 1, time.process_time()
    double = mean_intervals(table, ceiling=1.0)
    apart = np.maximum(np.abs(found.low - double.low), np.abs(found.high - double.high))
    text = PAGE.format(
        command="python scripts/time_intervals.py",
        machine=f"{platform.machine()} {platform.system()}, Python {platform.python_version()}",
        numpy=np.__version__,
        images=options.images,
        columns=options.columns,
        load=os.getloadavg()[0],
        table=table.nbytes / 1e6,
        memory=memory,
        change=(apart / (double.high - double.low)).max(),
        double=time.process_time() - cpu,
        same=bool((found.low == again.low).all() and (found.high == again.high).all()),
        **seconds,
    )  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "speed.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
