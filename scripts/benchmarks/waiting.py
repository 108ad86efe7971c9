"""How long a user waits for a command: to its end where it only lists or reads, and in silence where it works.

Standard error is a terminal of its own (pty), and what arrives there is timed: the first sign, the first bar of images,
and the longest time in which nothing came.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from statistics import median

from .timing import write

_DEMO = ["--model", "sdt_digits", "--pretrained", "--data", "digits"]
COMMANDS = {
    "--help": ["--help"],
    "models": ["models"],
    "energy RUN": ["energy", "RUN"],
    "rates RUN": ["rates", "RUN"],
    "profile": ["profile", *_DEMO, "--out", "OUT"],
    "attend": ["attend", *_DEMO, "--limit", "8", "--run", "RUN", "--out", "OUT"],
    "report RUN": ["report", "RUN", "--out", "OUT"],
    "report": ["report", "--out", "OUT"],
}
_BAR = "image/s"  # what tqdm writes at the end of a bar of images; "?image/s" before the first of them


def run(args: argparse.Namespace) -> None:
    """Every command once a round, alternating; the table goes to waiting.md."""
    chosen = args.only or list(COMMANDS)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        demo = Path(scratch) / "run"
        _watched(["profile", *_DEMO, "--out", str(demo)])
        for number in range(args.rounds):
            for name in chosen:
                out = Path(scratch) / f"{number} {name}"
                words = [{"RUN": str(demo), "OUT": str(out)}.get(word, word) for word in COMMANDS[name]]
                found[name].append(_watched(words))
                print(name, found[name][-1], file=sys.stderr, flush=True)
    rows = [("command", "first sign, s", "bar of images, s", "longest silence, s", "whole, s")]
    for name, measured in found.items():
        middle = {key: median(each.get(key, float("nan")) for each in measured) for key in measured[0]}
        shown = (middle.get(key) for key in ("sign", "bar", "silence", "seconds"))
        rows.append((name, *("" if value is None else f"{value:.2f}" for value in shown)))
    what = f"Seconds that a user waits, the model and data of the demo; medians over {args.rounds} round(s)"
    write(Path(args.out), "waiting", what, "cpu", {"commands": found}, [rows])


def _watched(words: list[str]) -> dict[str, float]:
    """One command, its standard error read as it comes."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))  # a new one has no width, in which tqdm draws nothing
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "spikeattn", *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    said, times, found = b"", [0.0], dict[str, float]()
    while process.poll() is None:
        if not select.select([ours], [], [], 0.02)[0]:
            continue
        try:
            said += os.read(ours, 1 << 16)
        except OSError:  # the terminal is gone with the last who wrote to it
            break
        times.append(time.perf_counter() - start)
        if "bar" not in found and _BAR.encode() in said:
            found["bar"] = times[-1]
    process.wait()
    times.append(time.perf_counter() - start)
    os.close(ours)
    if process.returncode:
        sys.exit(f"error: spikeattn {' '.join(words)} ended with {process.returncode}: {said.decode()}")
    if len(times) > 2:
        found |= {"sign": times[1], "silence": max(b - a for a, b in zip(times, times[1:], strict=False))}
    return found | {"seconds": times[-1]}
