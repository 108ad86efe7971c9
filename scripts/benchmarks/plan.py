"""What examining a network costs, plan and structure, in plain passes over one image; beside an earlier version.

Both versions run in a process of their own and take turns, so that the machine's moods meet them alike.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from .timing import Round, medians, ratio, write

_ROOT = Path(__file__).resolve().parents[2]
_WORKER = Path(__file__).with_name("plan_worker.py")


class Worker:
    """A process that times one thing with the spikeattn of one checkout."""

    def __init__(self, checkout: Path, thing: str, script: Path = _WORKER) -> None:
        environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
        self._script = script
        self._process = subprocess.Popen(
            [sys.executable, str(script), thing],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.jobs = self._answer().rstrip("\n").split("\t")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def seconds(self, job: str) -> float:
        """CPU seconds of one run, or what else the script measures."""
        assert self._process.stdin is not None
        self._process.stdin.write(job + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"error: {self._script.name} ended; its message stands above")
        return line


def _rounds(network: str, before: str | None, number: int) -> list[Round]:
    """Seconds by job, those of the earlier version with "before " in front."""
    checkouts = {"": _ROOT} | ({"before ": Path(before)} if before else {})
    found = []
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(folder, network)) for name, folder in checkouts.items()}
        for _ in range(number):
            times = {name + job: worker.seconds(job) for name, worker in workers.items() for job in worker.jobs}
            times["all"] = times["plan"] + times["structure"]
            if before:
                times["before all"] = times["before plan"] + times.get("before structure", 0.0)
            found.append(times)
    return found


def run(args: argparse.Namespace) -> None:
    """Time every network of `--only`; the table goes to plan.md."""
    head = ["network", "forward s", "plan s", "structure s", "both / forward"]
    head += ["before / forward", "both / before"] if args.before else []
    rows, rounds = [head], {}
    for network in args.only or [args.model]:
        name = network.rpartition("/")[2]
        rounds[name] = taken = _rounds(network, args.before, args.rounds)
        found = medians(taken)
        row = [name, *(f"{found[job]:.2f}" for job in ("forward", "plan", "structure"))]
        row.append(f"{ratio(taken, 'all', 'forward'):.2f}")
        if args.before:
            row += [f"{ratio(taken, 'before all', 'before forward'):.2f}", f"{ratio(taken, 'all', 'before all'):.2f}"]
        rows.append(row)
    what = "plan and structure at 224 px on one thread, CPU seconds, in passes over one image"
    notes = [f"Medians of {args.rounds} alternating rounds; ratios of the same round. Random weights, images of noise."]
    write(Path(args.out), "plan", what, "cpu", {"rounds": rounds}, [rows], notes)
