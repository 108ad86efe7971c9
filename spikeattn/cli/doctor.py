"""`spikeattn doctor`: what this machine offers, which way a profile would take on it, and what is slow and why."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.options import Device, Json, Verbose, WrongCommandLine
from spikeattn.cli.output import note, print_json, to_json, write_file
from spikeattn.cli.terminal import say
from spikeattn.compat.installed import installed_version
from spikeattn.compat.version import __version__

if TYPE_CHECKING:
    import torch

PACKAGES = ("spikingjelly", "timm", "triton", "numpy", "pyarrow", "pillow")
_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


def doctor(
    model: Annotated[str, typer.Option(metavar="NAME", help="The model that a profile is meant for.")] = "sdt_8_512",
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the record there, as .json.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """What this machine offers, which way `profile` would take on it, and what is slow and why.

    \b
    Examples:
      spikeattn doctor
      spikeattn doctor --model sdt_digits --json
    """
    if out is not None and out.suffix != ".json":
        raise WrongCommandLine(f"--out {out}: the record is written as .json")
    record = examine(model, device)
    if out is not None:
        write_file(out, to_json(record).encode())
        note(f"wrote {out}")
        return
    if as_json:
        print_json(record)
        return
    for title in ("machine", "versions", "kernels", "profile"):
        say(title)
        width = max(len(key) for key in record[title])
        for key, value in record[title].items():
            say(f"  {key:<{width}}  {'none' if value is None else value}")
    say("slow")
    for finding in record["slow"] or ["nothing found"]:
        say(f"  {finding}")


def examine(model: str, device: str) -> dict[str, Any]:
    """The whole record: machine, versions, kernels, profile, and a list of sentences on what is slow."""
    import torch

    from spikeattn.cli.machine import choose_device
    from spikeattn.fast import native, prepare
    from spikeattn.models import create_model, implementation_in_use

    place = choose_device(device)
    torch.manual_seed(0)
    net = create_model(model).to(place)
    built = native.build()
    path = prepare.choose(net, None)
    why = _why(net, path)
    return {
        "machine": _machine(place),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "spikeattn": __version__,
            **{package: installed_version(package) for package in PACKAGES},
        },
        "kernels": {
            "C compiler": built.compiler,
            "flags": " ".join(built.flags) or None,
            "library": None if built.library is None else str(built.library),
            "problem": built.reason or None,
            "neurons on this device": implementation_in_use(place),
        },
        "profile": {
            "model": model,
            "device": str(place),
            "path": path,
            "why": why,
            "multiply-accumulates": f"{prepare.work(net):,} per image",
            "tf32": bool(place.type == "cuda" and torch.backends.cudnn.allow_tf32),
        },
        "slow": list(_slow(net, place, path, why)),
    }


def _machine(place: torch.device) -> dict[str, Any]:
    import torch

    flags = _cpu("flags").split() or _cpu("Features").split()
    return {
        "processor": _cpu("model name") or platform.processor() or platform.machine(),
        "vector units": next((unit for flag, unit in _UNITS.items() if flag in flags), None),
        "cores": _cores(),
        "torch threads": torch.get_num_threads(),
        "GPU": torch.cuda.get_device_name(place) if place.type == "cuda" else None,
        "system": platform.platform(),
    }


def _why(net: Any, path: str) -> str:
    from spikeattn.fast import prepare

    if path != prepare.PLAIN:
        return "a fast copy with the same modules gives the same spikes but for rounding; --plain turns it off"
    if reason := prepare.unsupported(net):
        return reason
    return "the model is so small that neither way takes long; --fast asks for the fast copy all the same"


def _slow(net: Any, place: torch.device, path: str, why: str) -> Any:
    """Sentences on what costs time here, and what to do."""
    import torch

    from spikeattn.fast import native, prepare
    from spikeattn.models import implementation_in_use

    if path == prepare.PLAIN and prepare.unsupported(net):
        yield f"the model runs as it is, several times slower than its fast copy would: {why}"
    threads, cores = torch.get_num_threads(), _cores()
    if place.type == "cpu" and threads < cores:
        yield f"torch uses {threads} of {cores} cores; --threads {cores} uses all of them"
    if place.type == "cpu" and threads > cores:
        yield f"torch uses {threads} threads on {cores} cores, which wait for each other; --threads {cores}"
    if place.type == "cpu" and torch.cuda.is_available():
        yield "there is a GPU here that --device cpu leaves idle"
    built = native.build()
    if place.type == "cpu" and built.library is not None and not built.threads:
        yield "the C compiler has no OpenMP, so the fast path uses one thread"
    if place.type == "cpu" and built.library is not None and not any("native" in flag for flag in built.flags):
        yield "the C compiler does not know -march=native, so the fast path uses no wide vectors"
    if place.type == "cuda" and implementation_in_use(place).startswith("torch"):
        yield "SpikingJelly's neurons run in plain torch on CUDA; install triton, or give --neurons auto"
    if place.type == "cuda" and not torch.backends.cudnn.allow_tf32:
        yield "TF32 is off: convolutions run in full fp32, several times slower, and exactly as on other cards"


def _cpu(key: str) -> str:
    """The first entry of a key in /proc/cpuinfo; empty where there is none."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
