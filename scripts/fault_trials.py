"""Kill runs, then resume them: the table must be that of a run nobody disturbed, bit for bit.

    python scripts/fault_trials.py                      # 40 runs killed at random moments, and at every step of writing
    python scripts/fault_trials.py --trials 5 --ranks   # and a rank of torchrun, killed in mid-run
    python scripts/fault_trials.py --trials 0 --steps 0 --commands 10   # attend, merge and report, ended and repeated

Every process is ended by SIGKILL, which nobody can catch. Random moments are spread over the duration of a run and the
resumed run is killed again, with less and less probability. Steps are: before, after and in the midst of every file
that a run writes, renames or removes. Results go to reports/faults/kill.json and .md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from spikeattn.cli import main as spikeattn

OUT = Path(__file__).resolve().parents[1] / "reports" / "faults"
DIGITS = ["profile", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--plain"]
DIGITS += ["--threads", "1", "--device", "cpu", "--batch-size", "4", "--save-every", "0"]


def child(arguments: list[str], log: Path, kill_at: int | None = None) -> int:
    """Start `spikeattn ARGUMENTS` in a process forked from this one, which has torch loaded; its number.

    Args:
        kill_at: the process kills itself at this step of writing.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if kill_at is not None:
            _kill_at(kill_at)
        code = spikeattn(arguments)
    finally:
        os._exit(code)


def _kill_at(step: int) -> None:
    """Have this process kill itself at a step of writing."""
    steps = iter(range(1, 1 << 30))

    def die(partly: Any = None) -> None:
        if next(steps) == step:
            if partly is not None:
                partly()
            os.kill(os.getpid(), signal.SIGKILL)

    plain = {name: getattr(Path, name) for name in ("replace", "unlink")}
    to_disk = os.fsync

    def fsync(number: int) -> None:
        die(lambda: os.ftruncate(number, os.fstat(number).st_size // 2))
        to_disk(number)

    def replace(self: Path, target: Path) -> Path:
        die()
        done = plain["replace"](self, target)
        die()
        return done

    def unlink(self: Path, missing_ok: bool = False) -> None:
        die()
        plain["unlink"](self, missing_ok=missing_ok)

    os.fsync, Path.replace, Path.unlink = fsync, replace, unlink  # type: ignore[assignment, method-assign]


def ended(pid: int) -> int:
    """Exit status of a child: its code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def digests(folder: Path) -> dict[str, str]:
    """Sha256 of the files of a run; the command line in model.json, which names the folder, is left out."""
    ledger = json.loads((folder / "model.json").read_text())
    ledger["provenance"].pop("command")
    return {
        "counts.parquet": hashlib.sha256((folder / "counts.parquet").read_bytes()).hexdigest(),
        "model.json": hashlib.sha256(json.dumps(ledger).encode()).hexdigest(),
    }


def outcome(folder: Path, wanted: dict[str, str], log: Path) -> str:
    """Resume a run to its end and compare; "same" or what is wrong."""
    code = ended(child([*DIGITS, "--resume", "--out", str(folder)], log))
    if code:
        return f"resume ended with {code}: {log.read_text()[-300:]}"
    if digests(folder) != wanted:
        return "another table"
    left = sorted(path.name for path in folder.iterdir())
    return "same" if left == ["counts.parquet", "model.json"] else f"left behind: {left}"


def random_trial(folder: Path, duration: float, wanted: dict[str, str], rng: random.Random) -> dict[str, Any]:
    """Kill a run, and its resumption, at random moments until one gets through; then compare."""
    log, kills = folder.with_suffix(".log"), []
    while not kills or rng.random() < 0.5:
        started = time.monotonic()
        pid = child([*DIGITS, "--resume", "--out", str(folder)], log)
        time.sleep(rng.uniform(0, duration))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        kills.append({"after_s": round(time.monotonic() - started, 3), "code": ended(pid)})
    parts = len(list((folder / "parts").glob("*.arrow"))) if folder.exists() else 0
    return {"kills": kills, "parts_left": parts, "outcome": outcome(folder, wanted, log)}


def step_trial(folder: Path, step: int, wanted: dict[str, str]) -> dict[str, Any] | None:
    """Kill a run at one step of writing, then compare; None where it has fewer steps."""
    log = folder.with_suffix(".log")
    code = ended(child([*DIGITS, "--resume", "--out", str(folder)], log, kill_at=step))
    return None if code == 0 else {"step": step, "code": code, "outcome": outcome(folder, wanted, log)}


def command_trial(name: str, place: Path, words: list[str], trials: int, rng: random.Random) -> dict[str, Any]:
    """Kill a command that makes a folder at random moments, then give it again: it must end well, with the same files.

    Args:
        words: the command line, to which --out is added.
    """
    log = place / f"{name}.log"
    started = time.monotonic()
    if code := ended(child([*words, "--out", str(place / name)], log)):
        sys.exit(f"the undisturbed {name} ended with {code}: {log.read_text()[-500:]}")
    duration, wanted = time.monotonic() - started, contents(place / name)
    record: dict[str, Any] = {"duration_s": round(duration, 2), "trials": []}
    for trial in range(trials):
        out, kills = place / f"{name}{trial}", []
        number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
        pid = child([*words, "--out", str(out)], log)
        delay = rng.uniform(0, duration)
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        kills.append({"after_s": round(delay, 3), "signal": number.name, "code": ended(pid)})
        code = ended(child([*words, "--out", str(out)], log))
        outcome = f"exit {code}: {log.read_text()[-300:]}" if code else compared(contents(out), wanted)
        record["trials"].append({"kills": kills, "outcome": outcome})
        shutil.rmtree(out, ignore_errors=True)
    return record


def contents(folder: Path) -> dict[str, str]:
    """Sha256 of every file in a folder; the folder's own name, which stands in some of them, is left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes().replace(str(folder).encode(), b"OUT")
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def compared(these: dict[str, str], wanted: dict[str, str]) -> str:
    """ "same", or the files in which two folders differ."""
    differing = [name for name in {**these, **wanted} if these.get(name) != wanted.get(name)]
    return f"other files: {', '.join(sorted(differing)[:8])}" if differing else "same"


def command_trials(place: Path, trials: int, rng: random.Random) -> dict[str, Any]:
    """`attend`, `merge` and `report`, each killed at random moments and repeated."""
    shards = [place / "shard0", place / "shard1"]
    for i, shard in enumerate(shards):
        if code := ended(child([*DIGITS, "--shard", f"{i}/2", "--out", str(shard)], shard.with_suffix(".log"))):
            sys.exit(f"shard {i} ended with {code}")
    attend = ["attend", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--limit", "3"]
    attend += ["--replicates", "20", "--threads", "1", "--device", "cpu"]
    commands = {
        "attend": attend,
        "merge": ["merge", *map(str, shards)],
        "report": ["report", str(place / "whole")],
    }
    return {name: command_trial(name, place, words, trials, rng) for name, words in commands.items()}


def rank_trial(folder: Path, images: int) -> dict[str, Any]:
    """Kill one of two ranks of torchrun in mid-run: the job must fail soon and name it; then resume with three."""
    DIGITS[-1] = str(images)
    alone = folder.with_name("alone")
    if code := ended(child([*DIGITS, "--out", str(alone)], alone.with_suffix(".log"))):
        sys.exit(f"the undisturbed run ended with {code}")
    wanted = digests(alone)
    launch = [sys.executable, "-m", "torch.distributed.run", "--master-port", "29631", "--nproc-per-node"]
    words = ["-m", "spikeattn", *DIGITS, "--resume", "--out", str(folder)]
    with folder.with_suffix(".log").open("w") as log:
        job = subprocess.Popen([*launch, "2", *words], stdout=log, stderr=log)
        while len(list((folder / "parts").glob("*.arrow"))) < 4 and job.poll() is None:
            time.sleep(0.05)
        victim = next(pid for pid in _children(job.pid) if _environment(pid).get("RANK") == "1")
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        code = job.wait()
        took = time.monotonic() - killed
        told = folder.with_suffix(".log").read_text()
        again = subprocess.run([*launch, "3", *words], stdout=log, stderr=log)
    return {
        "images": images,
        "exit": code,
        "seconds_until_the_job_failed": round(took, 2),
        "names_the_rank": "rank      : 1" in told and str(victim) in told,
        "parts_left": len(list((folder / "parts").glob("*.arrow"))),
        "outcome": "same" if again.returncode == 0 and digests(folder) == wanted else f"exit {again.returncode}",
    }


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{pid}\n" in status.read_text():
                found.append(int(status.parent.name))
    return found


def _environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def report(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    trials, steps = record["random"], record["steps"]
    kills = [kill for trial in trials for kill in trial["kills"]]
    lines = [
        "# Killed runs",
        "",
        f"`{record['command']}`: sdt_digits on {record['images']} digits in batches of 4, one part each; a run takes "
        f"{record['duration_s']:.1f} s.",
        "",
        f"- random moments: {len(trials)} trials, {sum(kill['code'] == -9 for kill in kills)} runs killed (of "
        f"{len(kills)}), {sum(trial['outcome'] == 'same' for trial in trials)} tables equal, bit for bit, to that of "
        "the undisturbed run",
        f"- steps of writing: {len(steps)} (all from the first file to the last removal), "
        f"{sum(step['outcome'] == 'same' for step in steps)} tables equal",
    ]
    for name, done in record.get("commands", {}).items():
        tries = done["trials"]
        ways = ", ".join(sorted({kill["signal"] for trial in tries for kill in trial["kills"]}))
        lines.append(
            f"- `{name}` ended {len(tries)} times at random moments of its {done['duration_s']} s ({ways}) and given "
            f"again: {sum(trial['outcome'] == 'same' for trial in tries)} times the same files"
        )
    if rank := record.get("rank"):
        lines.append(
            f"- one of two ranks of torchrun killed in a run of {rank['images']} images: the job failed "
            f"{rank['seconds_until_the_job_failed']} s later"
            f"{' and named it' if rank['names_the_rank'] else ' WITHOUT naming it'}; resumed with three ranks: "
            f"{rank['outcome']} table"
        )
    others = [trial for done in record.get("commands", {}).values() for trial in done["trials"]]
    failed = [trial for trial in [*trials, *steps, *others] if trial["outcome"] != "same"]
    lines += [f"- FAILED: {json.dumps(trial)}" for trial in failed]
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--steps", type=int, default=1000, help="try at most so many steps of writing")
    parser.add_argument("--commands", type=int, default=0, help="end attend, merge and report so many times each")
    parser.add_argument("--ranks", action="store_true", help="also kill a rank of torchrun")
    parser.add_argument("--add", action="store_true", help="add to the results that are there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    DIGITS.extend(["--limit", str(options.images)])
    torch.set_num_threads(1)
    for name in (
        "sklearn.datasets",
        "spikeattn.runs.run",
        "spikeattn.reporting.tables.run_tables",
        "spikeattn.reporting.tables.sheets",
    ):
        importlib.import_module(name)  # once, not in every process
    rng, place = random.Random(options.seed), Path(tempfile.mkdtemp(prefix="fault-trials-"))
    try:
        whole = place / "whole"
        started = time.monotonic()
        if code := ended(child([*DIGITS, "--out", str(whole)], whole.with_suffix(".log"))):
            sys.exit(f"the undisturbed run ended with {code}: {whole.with_suffix('.log').read_text()[-500:]}")
        duration = time.monotonic() - started
        wanted = digests(whole)
        record: dict[str, Any] = {
            "command": "python scripts/fault_trials.py " + " ".join(sys.argv[1:]),
            "images": options.images,
            "duration_s": duration,
            "random": [random_trial(place / f"random{i}", duration, wanted, rng) for i in range(options.trials)],
            "steps": [],
        }
        if options.add:
            earlier = json.loads((options.out / "kill.json").read_text())
            record["random"] = earlier["random"] + record["random"]
            record["steps"] = earlier["steps"]
            record |= {name: earlier[name] for name in ("commands", "rank") if name in earlier}
            record["command"] = f"{earlier['command']}; {record['command']}"
        for step in range(len(record["steps"]) + 1, len(record["steps"]) + options.steps + 1):
            done = step_trial(place / f"step{step}", step, wanted)
            if done is None:
                break
            record["steps"].append(done)
        if options.commands:
            record["commands"] = command_trials(place, options.commands, rng)
        if options.ranks:
            record["rank"] = rank_trial(place / "ranks", 200)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "kill.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.out / "kill.md").write_text(report(record))
    print(report(record))
    others = [trial for done in record.get("commands", {}).values() for trial in done["trials"]]
    good = all(trial["outcome"] == "same" for trial in [*record["random"], *record["steps"], *others])
    return 0 if good and record.get("rank", {}).get("outcome", "same") == "same" else 1


if __name__ == "__main__":
    sys.exit(main())
