"""A step of training, forward, backward and update, with `sa.FiringRate` around it and without."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

import spikeattn as sa

from .timing import alternate, joined, medians, ratio, write

NAMES = {
    "plain": "the step alone",
    "followed": "followed by FiringRate",
    "recorded": "recorded by sa.record",
}
RATIOS = [("followed", "plain"), ("recorded", "plain")]
BAR = 1.10  # what following may cost


def run(args: argparse.Namespace) -> None:
    """Measure the step of one network, alternating, and write the page of all rounds so far."""
    device = args.device
    torch.manual_seed(0)
    model = sa.create_model(args.model).to(device).train()
    generator = torch.Generator().manual_seed(0)
    size = (args.images, model.in_chans, *model.img_size)
    images = torch.randn(size, generator=generator).to(device)
    labels = torch.randint(model.num_classes, (args.images,), generator=generator).to(device)
    batches = list(zip(images.split(args.batch_size), labels.split(args.batch_size), strict=True))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    rate, recording = sa.FiringRate(model), sa.record(model)
    contestants: dict[str, Callable[[], Any]] = {
        "plain": lambda: _steps(model, optimiser, batches, nullcontext()),
        "followed": lambda: _steps(model, optimiser, batches, rate),
        "recorded": lambda: _steps(model, optimiser, batches, recording),
    }
    wanted = args.only or list(NAMES)
    what = (
        f"{args.model}, {images.shape[-1]} px, T={model.time_steps}, {len(batches)} steps of {args.batch_size} images "
        "a round: forward, backward, SGD with momentum, fp32; the network is traced in the round that is not counted"
        + ("; seconds of the processor" if args.cpu_time else "")
    )
    name = f"training-{args.model}" + ("" if device == "cpu" else "-cuda")
    clock = time.process_time if args.cpu_time else time.perf_counter
    chosen = {key: contestants[key] for key in wanted}
    rounds = alternate(chosen, args.rounds, device, limit=args.seconds, clock=clock)
    rounds = joined(Path(args.out) / f"{name}.json", what, rounds, args.merge)
    middle = medians(rounds)
    seconds = [("", "median seconds per step", "rounds")]
    seconds += [(NAMES[k], f"{middle[k] / len(batches):.3f}", str(sum(k in r for r in rounds))) for k in middle]
    ratios = {f"{a} / {b}": ratio(rounds, a, b) for a, b in RATIOS}
    pairs = [("", "median of paired ratios")]
    pairs += [(f"{NAMES[a]} / {NAMES[b]}", f"{r:.3f}") for a, b in RATIOS if (r := ratios[f"{a} / {b}"]) is not None]
    places = sum(layer.size for layer in rate.epoch().layout.layers) if rate.seen else 0
    notes = [f"The bar is {BAR:.2f}. FiringRate counts {places:,} neurons and channels one by one beside all else."]
    result = {"median_seconds": middle, "ratios": ratios, "rounds": rounds}
    write(Path(args.out), name, what, device, result, [seconds, pairs], notes)


def _steps(model: nn.Module, optimiser: Any, batches: list[tuple[Tensor, Tensor]], around: Any) -> None:
    with around:
        for images, labels in batches:
            optimiser.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(images), labels).backward()
            optimiser.step()
            functional.reset_net(model)
