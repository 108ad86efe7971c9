"""One process with one network and whatever version of spikeattn stands first on its path: `plan` asks it for times.

    python plan_worker.py NETWORK

Every line on standard input is a job: forward, plan or structure. It answers each with the CPU seconds that it took;
the CPU's, since a machine with other work on it moves the wall clock by half.
"""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.tracing import neurons
from spikeattn.tracing.examine import plan

_SIZE = 224  # pixels, the size of ImageNet that the figures of start-up are quoted for


def build(network: str) -> nn.Module:
    """A network by its name or address; arguments of its factory follow a question mark: FILE.py:NAME?T=4&depth=2."""
    address, _, query = network.partition("?")
    pairs = (word.partition("=") for word in query.split("&") if word)
    options = {key: ast.literal_eval(value) for key, _, value in pairs}
    torch.manual_seed(0)
    return sa.load_model(address, **options).eval()


def shown(model: nn.Module) -> Tensor:
    """Two images of noise; one alone for a network that mixes the images of a batch."""
    images = torch.randn(2, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    try:
        plan(model, images)
    except SpikeattnError as error:
        if "mixes images" not in str(error):
            raise
        return images[:1]
    return images


def jobs(model: nn.Module, images: Tensor) -> dict[str, Callable[[], Any]]:
    """What is timed: a plain pass over one image, the plan, the structure (of versions that infer one)."""

    def forward() -> None:
        neurons.reset(model)
        with torch.no_grad():
            model(images[:1])
        neurons.reset(model)

    found: dict[str, Callable[[], Any]] = {"forward": forward, "plan": lambda: plan(model, images)}
    if callable(getattr(sa, "structure", None)):
        found["structure"] = lambda: sa.structure(model, images)
    return found


def main() -> None:
    """Answer until the input ends."""
    torch.set_num_threads(1)
    model = build(sys.argv[1])
    todo = jobs(model, shown(model))
    for run in todo.values():  # the first time loads what is loaded once
        run()
    print("\t".join(todo), flush=True)
    for line in sys.stdin:
        start = time.process_time()
        todo[line.strip()]()
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    main()
