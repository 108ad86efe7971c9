"""What the first batch costs: examining a network (trace, plan, probe), in plain passes over a batch of 8 at 224 px.

To compare two versions, run it once from each checkout with --merge into the same folder, or put the other checkout
first on PYTHONPATH; the version is a column.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.model import maxformer, qkformer, spikformer
from torch import nn

import spikeattn as sa
from benchmarks.timing import alternate, medians
from spikeattn.models.calibrate import calibrate_batch_norm

_BATCH, _SIZE = 8, 224  # what the figures of start-up are quoted for


def networks() -> dict[str, Callable[[], nn.Module]]:
    """SpikingJelly's transformers at the size of ImageNet, with few channels: their operations are as many."""
    return {
        "spikformer": lambda: spikformer.Spikformer(4, 3, _SIZE, _SIZE, 16, 1000, 192, 4, 4, 4),
        "qkformer": lambda: qkformer.QKFormer(4, 3, 1000, 192, (1, 2, 4), (1, 1, 2), 4.0, "token"),
        "maxformer": lambda: maxformer.MaxFormer(4, 3, 1000, 192, (1, 1, 2)),
    }


def run(args: argparse.Namespace) -> None:
    """Seconds of a plain pass and of `sa.profile` on one batch, alternating; the table goes to startup.md."""
    rows = ["| network | plain s | profile of one batch s | in plain batches |", "|---|---|---|---|"]
    images = torch.randn(_BATCH, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    chosen = args.only or list(networks())
    for name in chosen:
        torch.manual_seed(0)
        model = networks()[name]().eval()
        calibrate_batch_norm(model, images[:2])

        def plain(model: nn.Module = model) -> None:
            functional.reset_net(model)
            with torch.no_grad():
                model(images)
            functional.reset_net(model)

        def profiled(model: nn.Module = model) -> Any:
            return sa.profile(model, [images])

        found = medians(alternate({"plain": plain, "profile": profiled}, args.rounds, "cpu", limit=args.seconds))
        ratio = found["profile"] / found["plain"]
        rows.append(f"| {name} | {found['plain']:.2f} | {found['profile']:.2f} | {ratio:.2f} |")
        print(rows[-1], flush=True)
    where = Path(args.out)
    where.mkdir(parents=True, exist_ok=True)
    head = (
        f"# What the first batch costs\n\n`scripts/benchmark.py startup --rounds {args.rounds}` on a CPU, "
        f"{torch.get_num_threads()} thread(s), batch of {_BATCH} at {_SIZE} px, T = 4; random weights, medians of "
        "alternating rounds. The profile includes the counted pass itself.\n\n"
    )
    (where / "startup.md").write_text(head + "\n".join(rows) + "\n")
