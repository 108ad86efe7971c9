"""Additions per second of the convolution of spikes, by firing rate; beside an earlier version.

Both versions run in a process of their own and take turns, so that the machine's moods meet them alike.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from .plan import Worker
from .timing import Round, medians, write

_ROOT = Path(__file__).resolve().parents[2]
_WORKER = Path(__file__).with_name("kernels_worker.py")
_ABOUT = {"native": "this processor's instructions", "avx2": "AVX2 alone"}


def run(args: argparse.Namespace) -> None:
    """Measure the processors of --only ("native", "avx2"), or both; the table goes to kernels.md."""
    checkouts = {"before": Path(args.before)} if args.before else {}
    checkouts["now"] = _ROOT
    head: list[str] = []
    rows, result = [], {}
    for processor in args.only or list(_ABOUT):
        rounds: list[Round] = []
        with ExitStack() as stack:
            workers = {
                name: stack.enter_context(Worker(folder, processor, _WORKER)) for name, folder in checkouts.items()
            }
            jobs = workers["now"].jobs
            for _ in range(args.rounds):
                rounds.append({f"{job} {name}": w.seconds(job) for job in jobs for name, w in workers.items()})
        result[processor] = found = medians(rounds)
        rates = list(dict.fromkeys(job.rpartition("@")[2] for job in jobs))
        head = ["convolution", "instructions", "version", *(f"rate {rate}" for rate in rates)]
        for shape in dict.fromkeys(job.rpartition("@")[0] for job in jobs):
            for name in checkouts:
                speeds = [f"{found[f'{shape}@{rate} {name}']:.1f}" for rate in rates]
                rows.append([shape, _ABOUT[processor], name, *speeds])
    what = "Convolutions of spikes on one thread, 10^9 additions per second of CPU time"
    notes = [f"Medians of {args.rounds} alternating rounds. Rate dense: torch's convolution, multiply-accumulates."]
    write(Path(args.out), "kernels", what, "cpu", {"speeds": result}, [[head, *rows]], notes)
