"""What `spikeattn --version` prints: this package, and what it runs on; what a report of an error has to say."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

from spikeattn.compat.installed import installed_version

PACKAGES = {"SpikingJelly": "spikingjelly", "timm": "timm", "numpy": "numpy"}


def installation() -> Iterator[tuple[str, str]]:
    """Names and values, one after the other: to import torch takes a second, to compile the kernels may take two."""
    yield "installed in", str(Path(__file__).parents[1])
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "torch", _torch()
    for name, package in PACKAGES.items():
        yield name, installed_version(package) or "not installed"
    yield "platform", platform.platform()
    yield "C kernels", _kernels()


def _torch() -> str:
    """Its version, what it was built for, and the GPU that it sees."""
    try:
        import torch
    except Exception as error:  # a library that it loads may be missing, or refuse a variable of the environment
        return f"{installed_version('torch') or 'not installed'}, which cannot be imported: {_reason(error)}"
    if cuda := torch.version.cuda:
        built = f"CUDA {cuda}"
    elif hip := torch.version.hip:
        built = f"ROCm {hip}"
    else:
        return f"{torch.__version__}, built for the CPU alone"
    seen = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return f"{torch.__version__}, built for {built}; {', '.join(seen) or 'no GPU that it can use'}"


def _kernels() -> str:
    """Whether the kernels of the fast path compile here."""
    try:
        from spikeattn.fast import native
    except Exception as error:  # it imports torch
        return f"not tried: {_reason(error)}"
    built = native.build()
    return f"compiled by {built.compiler}" if built.library else f"none, profiles run without: {built.reason}"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
