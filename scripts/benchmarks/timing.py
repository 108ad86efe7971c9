"""Alternating measurements in one process, pieces of them joined, and the files they go to."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

import spikeattn as sa

Round = dict[str, float]  # seconds by contestant


def alternate(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int,
    device: str,
    turn: Callable[[int], None] = lambda number: None,
    limit: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
    around: Mapping[str, Callable[[], AbstractContextManager[Any]]] | None = None,
) -> list[Round]:
    """Seconds of each contestant, one after another in every round, after one round that is not counted.

    Args:
        turn: called before each round with its number.
        limit: seconds after which no further round begins.
        clock: what is read before and after; `time.process_time` where other programs share the processor.
        around: what a contestant runs inside, entered before the clock is read, by its name.
    """
    found, begin = [], time.perf_counter()
    for number in range(rounds + 1):
        turn(number)
        times = {}
        for name, run in contestants.items():
            with (around or {}).get(name, nullcontext)():
                wait(device)
                start = clock()
                run()
                wait(device)
                times[name] = clock() - start
        found.append(times)
        print(f"round {number} of {rounds}", {k: round(v, 3) for k, v in times.items()}, file=sys.stderr, flush=True)
        if (time.perf_counter() - begin) * (number + 2) / (number + 1) > limit:
            break
    return found[1:]


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def medians(rounds: Sequence[Round]) -> Round:
    """Median seconds of each contestant."""
    names = dict.fromkeys(name for times in rounds for name in times)
    return {name: statistics.median(times[name] for times in rounds if name in times) for name in names}


def ratio(rounds: Sequence[Round], top: str, bottom: str) -> float | None:
    """Median over the rounds that have both of seconds of `top` over seconds of `bottom`."""
    pairs = [times[top] / times[bottom] for times in rounds if top in times and bottom in times]
    return statistics.median(pairs) if pairs else None


def joined(path: Path, what: str, rounds: list[Round], merge: bool) -> list[Round]:
    """The rounds, behind those of an earlier piece of the same measurement in the file."""
    if not merge or not path.is_file():
        return rounds
    earlier = json.loads(path.read_text())
    if earlier["what"] != what:
        sys.exit(f"error: {path} holds another measurement ({earlier['what']}); --merge joins pieces of one")
    return [*earlier["rounds"], *rounds]


def machine(device: str) -> dict[str, Any]:
    """Where it was measured."""
    return {
        "command": "python scripts/benchmark.py " + " ".join(sys.argv[1:]),
        "device": torch.cuda.get_device_name() if device != "cpu" else processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "spikeattn": sa.__version__,
    }


def processor() -> str:
    """Name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def write(
    folder: Path,
    name: str,
    what: str,
    device: str,
    result: Mapping[str, Any],
    tables: Sequence[Sequence[Sequence[str]]],
    notes: Sequence[str] = (),
) -> None:
    """NAME.json and NAME.md; also to standard output."""
    here = machine(device)
    lines = [f"# {name}", "", what, "", f"`{here['command']}`", ""]
    lines.append(f"{here['device']}, {here['threads']} threads, torch {here['torch']}")
    for table in tables:
        lines += ["", "| " + " | ".join(table[0]) + " |", "|" + "---|" * len(table[0])]
        lines += ["| " + " | ".join(row) + " |" for row in table[1:]]
    lines += [line for note in notes for line in ("", note)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"what": what, **here, **result}, indent=1) + "\n")
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)
