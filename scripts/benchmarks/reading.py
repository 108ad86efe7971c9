"""The share that reading JPEG files has in a run: photos decoded and prepared, beside the recorded pass over them.

Alternating in one process; the ratio is the median of those of each round, so that a busy machine moves it little.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

import spikeattn as sa
from spikeattn.data.workers import usable_cores, workers_for
from spikeattn.fast import prepare
from spikeattn.tracing.examine import plan

from .models import live_model, recorded
from .timing import alternate, medians, ratio, write

_MANY = 1000  # batches: more than workers


def run(args: argparse.Namespace) -> None:
    """A table for one device, in fp32."""
    if args.photos is None:
        sys.exit("error: give --photos DIR with val/<wnid>/*.JPEG; noise needs no decoding")
    dataset = sa.open_dataset(f"imagenet:{args.photos}", sa.create_model(args.model))
    chosen = list(range(0, len(dataset), max(1, len(dataset) // args.batch_size)))[: args.batch_size]

    def read() -> torch.Tensor:
        found: list[Any] = [dataset[i] for i in chosen]
        return torch.stack([image for image, _ in found])

    images = read()
    model = live_model(args.model, images, args.device)
    batch = images.to(args.device)
    ways = {"reading": read, "pass": recorded(prepare.prepare(model), plan(model, batch), [batch])}
    clock = time.process_time if args.cpu_time else time.perf_counter
    rounds = alternate(ways, args.rounds, args.device, limit=args.seconds, clock=clock)
    seconds = {name: value / len(chosen) for name, value in medians(rounds).items()}
    beside = ratio(rounds, "reading", "pass")
    assert beside is not None  # every round has both
    gpu = args.device != "cpu"
    rows = [
        ("per image", ""),
        ("reading, one core, ms", f"{1e3 * seconds['reading']:.2f}"),
        ("recorded pass, ms", f"{1e3 * seconds['pass']:.2f}"),
        ("reading over pass", f"{beside:.4f}"),
        ("share of a run that reads in the process itself", f"{beside / (1 + beside):.2%}"),
        ("cores usable here", str(usable_cores())),
        ("workers that keep up with the pass", f"{beside:.1f}"),
        ("workers by default", str(workers_for(True, _MANY, gpu))),
    ]
    what = f"{args.model}, batches of {len(chosen)} photos of {args.photos and Path(args.photos).name}"
    name = "reading-cuda" if gpu else "reading"
    write(Path(args.out), name, what, args.device, {"rounds": rounds, "ratio": beside}, [rows])
