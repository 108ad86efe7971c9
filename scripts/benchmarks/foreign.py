"""Networks of other people at their real sizes: recorded beside plain, start-up beside plain batches, peak memory."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from .networks import NETWORKS, at_hand
from .timing import medians, ratio, write

# Bars of recorded / plain: as the network is, of 0/1 spikes and of integers; and with its neurons run by kernels.
_BARS = {False: 1.05, True: 1.10}
_FUSED_BAR = "SpikingJelly: Spikformer", 0.60, 0.70  # of SpikingJelly's Spikformer, and of the others


def run(args: argparse.Namespace) -> None:
    """Every network at hand, each in a process of its own, in which its contestants alternate."""
    clones = None if args.clones is None else Path(args.clones).resolve()
    there = at_hand(clones)
    chosen = [name for name in there if args.only is None or any(word in name for word in args.only)]
    found = {name: _apart(args, name, clones) for name in chosen}
    threads = torch.get_num_threads()
    what = (
        f"Networks of other people, ImageNet size (224 px), {threads} thread(s), fp32, noise, random weights with "
        f"calibrated batch norms; {args.rounds} alternating rounds or more on {args.batch_size} image(s). Recorded: "
        "all that `profile` stores of a batch after its first, with plain=True; by kernels: as `profile` does itself, "
        "every spike the same bit by bit; folded: with fold=True, batch norms taken into the convolutions, which may "
        "flip spikes (see the notes). Start-up: what a run does with its first batch of 8 before it counts, in plain "
        "passes over that batch. Memory: peak of a recorded pass over 8 images over that of a plain one, resident."
    )
    rows = [("network", "T", "parameters", "plain s/image", "recorded / plain", "bar", "by kernels / plain",
             "folded / plain", "bar", "start-up", "memory", "by kernels", "folded")]  # fmt: skip
    rows += [_row(name, found[name]) for name in chosen if "error" not in found[name]]
    notes = [f"{name}: {found[name]['error']}" for name in chosen if "error" in found[name]]
    notes += [
        f"{name}: no kernels: {each['fused']}" for name, each in found.items() if isinstance(each.get("fused"), str)
    ]
    notes += [
        f"{name}: {each['folded']['pairs']} batch norms folded, {each['folded']['flips'][0]:,} of "
        f"{each['folded']['flips'][1]:,} values of neurons are others on the first images."
        for name, each in found.items()
        if isinstance(each.get("folded"), dict) and each["folded"]["pairs"]
    ]
    notes += [f"Not measured: {name}: no clone at hand." for name in NETWORKS if name not in there]
    write(Path(args.out), f"foreign-{threads}", what, "cpu", {"networks": found}, [rows], notes)


def _apart(args: argparse.Namespace, name: str, clones: Path | None) -> dict[str, Any]:
    worker = Path(__file__).with_name("foreign_worker.py")
    command = [sys.executable, worker, name, clones or "-", args.batch_size, args.rounds, args.seconds]
    done = subprocess.run([*map(str, command), str(torch.get_num_threads())], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return {"error": f"the process ended with {done.returncode}; its last words are above"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(_row(name, answer), file=sys.stderr, flush=True)
    return answer


def _row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    plain = medians(found["passes"])["plain"] / found["batch"]
    start, peaks = ratio(found["starts"], "examined", "plain"), found["peaks"]
    ratios = [
        _text(ratio(found["passes"], "recorded", "plain")),
        f"{_BARS[NETWORKS[name].integer]:.2f}",
        *(_text(ratio(found["passes"], way, "plain")) for way in ("fused", "folded")),
        f"{_FUSED_BAR[1] if name.startswith(_FUSED_BAR[0]) else _FUSED_BAR[2]:.2f}",
        f"{start:.2f}",
    ]
    memory = [_text(peaks[way] / peaks["plain"] if way in peaks else None) for way in ("recorded", "fused", "folded")]
    return (name, str(found["time_steps"]), f"{found['parameters'] / 1e6:.1f} M", f"{plain:.3f}", *ratios, *memory)


def _text(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"
