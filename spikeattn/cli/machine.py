"""Where a command computes: its device, its CPU threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikeattn.cli.options import WrongCommandLine
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    import torch


def set_threads(threads: int | None) -> None:
    """CPU threads of torch; None leaves its own choice."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def choose_device(name: str) -> torch.device:
    """The device of that name; an error where there is none."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise WrongCommandLine(f"--device {name!r}: valid are cpu, cuda, cuda:N (N from 0) and auto")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise SpikeattnError(f"--device {name}: torch sees no CUDA device here; use --device cpu")
        if number and int(number) >= torch.cuda.device_count():
            last = torch.cuda.device_count() - 1
            raise SpikeattnError(f"--device {name}: there are cuda:0 to cuda:{last} here")
    return torch.device(name)
