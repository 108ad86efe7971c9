"""Build the environments of ENVIRONMENTS, run the counting, energy and report tests in each, and write what was seen.

    python scripts/try_versions.py                  all of them, into reports/versions.md (make test-versions)
    python scripts/try_versions.py --only paper     one; the others' last results stay in the table

An environment is made once, below build/versions/ (about 6 GB each: torch from the package registry brings CUDA), and
kept; remove its folder to have it made anew. It needs its version of Python on the PATH, as `python3.10`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikeattn.compat.version import __version__

ROOT = Path(__file__).resolve().parents[1]
FOLDER, PAGE = ROOT / "build" / "versions", ROOT / "reports" / "versions.md"
TESTS = (
    "tests/compat",
    "tests/counting",
    "tests/energy",
    "tests/fast",
    "tests/tracing",
    "tests/models/test_nir_network.py",
    "tests/reporting",
    "tests/data",
)
SHOWN = ("torch", "torchvision", "spikingjelly", "timm", "numpy", "pandas", "pyarrow", "scipy", "matplotlib")
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "openpyxl")
LONGEST = 5400  # seconds for the tests of one environment, ten times what they take on two idle cores


@dataclass(frozen=True)
class Environment:
    """One set of versions.

    Attributes:
        python: the interpreter, by name.
        pins: what pip is told beside the package itself.
        why: what it stands for.
        frameworks: other frameworks and what they import, installed without what else they ask for: sinabs wants the
            drivers of its chips (samna) and an older nir, and its layers run without both.
    """

    python: str
    pins: tuple[str, ...]
    why: str
    frameworks: tuple[str, ...] = ()


# Its nodes cannot be imported without its data sets, and these not without what they read.
BRAINCOG = (
    "braincog", "einops", "seaborn", "tonic", "importRosbag", "dv", "lz4", "zstd", "Deprecated", "wrapt", "flatbuffers",
    "loguru", "scikit-learn", "joblib", "threadpoolctl", "requests", "urllib3", "idna", "certifi", "charset-normalizer",
)  # fmt: skip

ENVIRONMENTS = {
    "paper": Environment(
        "python3.10",
        ("torch==2.1.2", "torchvision==0.16.2", "spikingjelly==0.0.0.0.12", "timm==0.6.12", "numpy<2"),
        "what published repositories pin",
    ),
    "between": Environment(
        "python3.11",
        ("torch==2.4.1", "torchvision==0.19.1", "spikingjelly==0.0.0.0.14", "timm==0.9.16"),
        "SpikingJelly's last release before 2",
    ),
    "newest": Environment(
        "python3.13",
        ("spikingjelly>=2",),
        "the newest of everything that the registry has",
        ("snntorch", "norse", "sinabs", "nir", "nirtorch", "pbr", "h5py", *BRAINCOG),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=ENVIRONMENTS, action="append", help="an environment; may be repeated")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="in the place of the usual ones")
    parser.add_argument("--workers", type=int, default=2, help="processes that take a test file each (2)")
    parser.add_argument("--page", action="store_true", help="only write the page from the last results")
    args = parser.parse_args()
    failed = False
    for name in () if args.page else args.only or ENVIRONMENTS:
        record = tried(name, ENVIRONMENTS[name], args.tests, args.workers)
        failed |= bool(record["failed"]) or record["report"] != "runs"
        (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=1))
    PAGE.write_text(page({name: json.loads(path.read_text()) for name, path in results().items()}))
    sys.exit(failed)


def results() -> dict[str, Path]:
    return {name: path for name in ENVIRONMENTS if (path := FOLDER / f"{name}.json").is_file()}


def tried(name: str, environment: Environment, tests: Sequence[str], workers: int) -> dict[str, object]:
    """Make an environment where it is not there, and what its tests and the report say."""
    python = built(name, environment)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    asked = (
        f"from importlib.metadata import version; import json; print(json.dumps({{n: version(n) for n in {SHOWN}}}))"
    )
    versions = json.loads(subprocess.check_output([python, "-c", asked], env=clean, text=True))
    begun = time.monotonic()
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers), "--dist", "loadfile", *tests]
    told = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=LONGEST)
    seconds = round(time.monotonic() - begun)
    (FOLDER / f"{name}.log").write_text(told.stdout + told.stderr)
    counted = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", told.stdout)}
    if not counted.get("passed"):
        raise SystemExit(f"{name}: no test ran; see {FOLDER / f'{name}.log'}")
    failures = re.findall(r"^(?:FAILED|ERROR) (\S+)", told.stdout, re.MULTILINE)
    return {
        "python": subprocess.check_output([python, "-V"], text=True).split()[1],
        "versions": versions,
        "passed": counted["passed"],
        "skipped": counted.get("skipped", 0),
        "failed": failures,
        "tests": sorted(tests),
        "seconds": seconds,
        "report": reported(python, name, clean),
        "counts": counts_of_digits(python, name, clean),
        "size": sum(path.lstat().st_size for path in (FOLDER / name).resolve().rglob("*")),
    }


def built(name: str, environment: Environment) -> str:
    """The interpreter of an environment with this checkout and the tests' packages in it."""
    folder = FOLDER / name
    python = folder / "bin" / "python"
    if not python.exists():
        found = interpreter(environment.python, name)
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run([found, "-m", "venv", "--clear", folder], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # What a machine pins for everybody would hold back the newest of everything.
    free = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
    subprocess.run([*install, *environment.pins, ROOT, *TOOLS], env=free, check=True)
    if environment.frameworks:
        subprocess.run([*install, "--no-deps", *environment.frameworks], env=free, check=True)
    # As it is in the checkout now, whatever version number it bears.
    subprocess.run([*install, "--force-reinstall", "--no-deps", ROOT], env=free, check=True)
    return str(python)


def interpreter(name: str, environment: str) -> str:
    """Path of an interpreter that runs: pyenv puts each of its names on the PATH, and runs the chosen ones alone."""
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not on the PATH, and {environment} is tried with it")
    if subprocess.run([found, "-V"], capture_output=True).returncode:
        raise SystemExit(
            f"{found} does not run, and {environment} is tried with it; where pyenv holds it, choose every version "
            "that is needed: PYENV_VERSION=3.11.7:3.10.13:3.13.0 make test-versions"
        )
    return found


def reported(python: str, name: str, env: dict[str, str]) -> str:
    """Whether the installed package makes its report in an empty folder, as a new user has it."""
    empty = FOLDER / f"{name}-report"
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir()
    told = subprocess.run([python, "-m", "spikeattn", "report"], cwd=empty, env=env, capture_output=True, text=True)
    if told.returncode:
        return told.stderr.strip().rpartition("\n")[2]
    made = {path.suffix for path in empty.rglob("*.*")}
    return "runs" if {".html", ".svg", ".parquet"} <= made else f"lacks files: only {', '.join(sorted(made))}"


def counts_of_digits(python: str, name: str, env: dict[str, str]) -> str:
    """sha256 of what `profile` counts of sdt_digits on the digits: of the table's content, not of its file."""
    empty = FOLDER / f"{name}-digits"
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir()
    command = [python, "-m", "spikeattn", "profile", "--model", "sdt_digits", "--pretrained", "--data", "digits"]
    subprocess.run([*command, "--out", "run"], cwd=empty, env=env, check=True, capture_output=True)
    asked = (
        "import hashlib, pandas; table = pandas.read_parquet('run/counts.parquet'); "
        "print(hashlib.sha256(table.to_csv(index=False).encode()).hexdigest())"
    )
    return subprocess.check_output([python, "-c", asked], cwd=empty, env=env, text=True).strip()


def page(records: dict[str, dict]) -> str:
    """reports/versions.md."""
    lines = [
        "# Versions",
        "",
        f"spikeattn {__version__}, written by `make test-versions` (`scripts/try_versions.py`): three "
        "environments, in each the tests below and `spikeattn report` in an empty folder, as a new user has it. "
        "Tests whose networks are SpikingJelly 2's own are skipped under older versions.",
        "",
        "| | " + " | ".join(records) + " |",
        "| --- |" + " --- |" * len(records),
        row("stands for", [ENVIRONMENTS[name].why for name in records]),
        row("Python", [each["python"] for each in records.values()]),
        *(row(package, [each["versions"][package] for each in records.values()]) for package in SHOWN),
        *(row(f"tests {key}", [each[key] for each in records.values()]) for key in ("passed", "skipped")),
        row("tests failed", [len(each["failed"]) for each in records.values()]),
        row("`spikeattn report`", [each["report"] for each in records.values()]),
        row("counts of sdt_digits on digits, sha256", [f"{each['counts'][:16]}…" for each in records.values()]),
        row("on disk, GB", [f"{each['size'] / 1e9:.1f}" for each in records.values()]),
    ]
    for name, each in records.items():
        lines += ["", f"Tests of {name}: {', '.join(f'`{path}`' for path in each['tests'])}."]
        if each["failed"]:
            lines += ["", f"Failed in {name}:", "", *(f"- `{test}`" for test in each["failed"])]
    return "\n".join(lines) + "\n"


def row(title: str, cells: list[object]) -> str:
    return f"| {title} | " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
