"""Memory: the peak of a recorded pass beside that of a plain one, and whether it grows with the number of images."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch

import spikeattn as sa
from spikeattn.fast import prepare
from spikeattn.tracing.examine import plan

from .models import live_model, photos, plain, recorded
from .timing import write

WAYS = ("none", "plain", "plain-recorded", "fast-plain", "fast")
STEPS = (100, 500, 1000, 2000, 5000)
_SMALL = {"img_size": 32, "embed_dim": 64, "depth": 2, "num_classes": 10, "pooling_stat": "0011"}


def run(args: argparse.Namespace) -> None:
    """Each measurement in a process of its own: a peak never falls."""
    if args.only:  # the process itself
        print(json.dumps(_growth() if args.only == ["growth"] else _peak(args, args.only[0])))
        return
    rounds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way in WAYS:
            rounds[way].append(_apart(args, way))
            print(way, rounds[way][-1], file=sys.stderr, flush=True)
    peaks = {way: median(found) for way, found in rounds.items()}
    growth = _apart(args, "growth")
    where = "GPU memory" if args.device != "cpu" else "resident memory"
    rows = [(f"peak {where}, {args.images} images in batches of {args.batch_size}", "MB, median", "least", "most")]
    rows += [(way, f"{peaks[way]:.0f}", f"{min(all_):.0f}", f"{max(all_):.0f}") for way, all_ in rounds.items()]
    rows.append(("plain: recorded over not", f"{peaks['plain-recorded'] / peaks['plain']:.4f}", "", ""))
    rows.append(("fast: recorded over not", f"{peaks['fast'] / peaks['fast-plain']:.4f}", "", ""))
    grown = [("images profiled into a folder", "resident memory, MB"), *((n, f"{mb:.0f}") for n, mb in growth.items())]
    what = f"{args.model}, T=4, {args.rounds} rounds, alternating; growth: a network of 2 blocks at 32 px"
    write(Path(args.out), "memory", what, args.device, {"peaks": rounds, "growth": growth}, [rows, grown])


def _apart(args: argparse.Namespace, way: str) -> float | dict[str, float]:
    command = [sys.executable, sys.argv[0], "memory", "--only", way, "--model", args.model, "--device", args.device]
    command += ["--images", str(args.images), "--batch-size", str(args.batch_size)]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _peak(args: argparse.Namespace, way: str) -> float:
    images, _ = photos(sa.create_model(args.model), None, args.images)
    model = live_model(args.model, images, args.device)
    batches = [batch.to(args.device) for batch in images.split(args.batch_size)]
    made = plan(model, batches[0])
    if way in ("fast", "fast-plain"):
        net = prepare.prepare(model)
    else:
        net = model
    if args.device == "cpu":  # what the passes take, not what making the model took
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew (Linux, man 5 proc)
    else:
        torch.cuda.reset_peak_memory_stats()
    if way != "none":
        (recorded(net, made, batches) if way in ("fast", "plain-recorded") else plain(net, batches))()
    if args.device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e6
    return _status("VmHWM")


def _growth() -> dict[str, float]:
    """Resident memory after so many images of one run, which writes a part every half second."""
    import tempfile

    model = sa.models.SpikeDrivenTransformer(**_SMALL).eval()
    found: dict[str, float] = {}

    def batches():
        generator = torch.Generator().manual_seed(0)
        for number in range(max(STEPS) // 50):
            if number * 50 in STEPS:
                found[str(number * 50)] = _status("VmRSS")
            yield torch.randn((50, 3, 32, 32), generator=generator)
        found[str(max(STEPS))] = _status("VmRSS")

    with tempfile.TemporaryDirectory() as folder:
        sa.profile(model, batches(), Path(folder) / "run", save_every=0.5)
    return found


def _status(field: str) -> float:
    """VmRSS or VmHWM, its peak, of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1e3
