"""Everything that `profile` stores, beside plain passes, the published script's loop and other counters."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SimpleEnergyProfiler, SynOpCounter
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.fast import prepare
from spikeattn.tracing.examine import plan

from .models import Run, convolutions, live_model, photos, plain, published_loop, recorded, spikingjelly_twin
from .timing import alternate, joined, medians, ratio, write

NAMES = {
    "sj": "SpikingJelly's SDT, plain",
    "plain": "ours, plain",
    "plain-recorded": "ours, recorded as it is",
    "fast": "ours, recorded on the fast path",
    "fast-plain": "the fast path, its counts left alone",
    "floor": "its convolutions alone (dense, channels-last, by torch)",
    "loop": "the published script's loop (re-implemented)",
    "synop": "SpikingJelly's SDT under SynOpCounter",
    "simple": "SpikingJelly's SDT under SimpleEnergyProfiler",
    "neurobench": "ours under NeuroBench's SynapticOperations",
    "syops": "ours under syops (shimmed)",
}
RATIOS = [
    ("fast", "sj"), ("fast", "floor"), ("fast", "fast-plain"), ("fast", "plain"), ("plain-recorded", "plain"),
    ("plain-recorded", "sj"), ("loop", "fast"), ("loop", "plain-recorded"), ("synop", "sj"), ("synop", "fast"),
    ("simple", "sj"), ("simple", "fast"), ("neurobench", "plain"), ("syops", "plain"),
]  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Measure the contestants of --only, or all, and write the page of all rounds so far."""
    device = args.device
    images, source = photos(sa.create_model(args.model), args.photos, args.images)
    model = live_model(args.model, images, device)
    batches = [batch.to(device) for batch in images.split(args.batch_size)]
    made = plan(model, batches[0])
    current = batches[:1]  # each round measures one batch, all contestants the same
    contestants, absent = _contestants(args, model, made, current)

    def turn(number: int) -> None:
        current[0] = batches[number % len(batches)]

    what = (
        f"{args.model}, {images.shape[-1]} px, T={made.ledger.time_steps}, {len(images)} {source} in batches of "
        f"{args.batch_size}, one batch per round, fp32, random weights with calibrated batch norms, "
        f"{len(made.ledger.tensors) * made.ledger.time_steps} tensor columns"
    )
    name = "overhead" + ("" if device == "cpu" else "-cuda")
    rounds = alternate(contestants, args.rounds, device, turn, args.seconds)
    rounds = joined(Path(args.out) / f"{name}.json", what, rounds, args.merge)
    middle = medians(rounds)
    count = {key: sum(key in times for times in rounds) for key in middle}
    seconds = [("", "median seconds", "rounds")]
    seconds += [(NAMES[key], f"{middle[key]:.3f}", str(count[key])) for key in NAMES if key in middle]
    ratios = {f"{a} / {b}": ratio(rounds, a, b) for a, b in RATIOS}
    pairs = [("", "median of paired ratios")]
    pairs += [(f"{NAMES[a]} / {NAMES[b]}", f"{r:.3f}") for a, b in RATIOS if (r := ratios[f"{a} / {b}"]) is not None]
    result = {"median_seconds": middle, "ratios": ratios, "absent": absent, "rounds": rounds}
    notes = [f"Not measured: {NAMES[key]}: {reason}." for key, reason in absent.items()]
    write(Path(args.out), name, what, device, result, [seconds, pairs], notes)


def _contestants(
    args: argparse.Namespace, model: nn.Module, made: object, batches: Sequence[Tensor]
) -> tuple[dict[str, Run], dict[str, str]]:
    """What takes part, and why the others of --only do not."""
    twin = spikingjelly_twin(model).to(args.device)
    quick = prepare.prepare(model)

    def each(net: nn.Module, one: Callable[[Tensor], None]) -> Run:
        @torch.no_grad()
        def several() -> None:
            for batch in batches:
                one(batch)
                functional.reset_net(net)

        return several

    def synops(batch: Tensor) -> None:
        with DispatchCounterMode([SynOpCounter()]):
            twin(batch)

    def simple(batch: Tensor) -> None:
        profiler = SimpleEnergyProfiler()
        profiler.bind_model(twin)
        with profiler:
            twin(batch)

    found: dict[str, Run] = {
        "sj": plain(twin, batches),
        "plain": plain(model, batches),
        "plain-recorded": recorded(model, made, batches),
        "fast": recorded(quick, made, batches),
        "fast-plain": plain(quick, batches),
        "floor": convolutions(model, batches[0]),
        "loop": published_loop(model, batches, model.time_steps),
        "synop": each(twin, synops),
        "simple": each(twin, simple),
    }
    absent, wanted = {}, args.only or list(NAMES)
    for key, package, make in (("neurobench", "neurobench", _neurobench), ("syops", "syops", _syops)):
        if key not in wanted:
            continue
        if find_spec(package) is None:
            absent[key] = f"the package {package} is not installed here"
            continue
        try:
            found[key] = make(model, batches)
            found[key]()
        except Exception as error:  # other people's code under a SpikingJelly that it was not written for
            found.pop(key, None)
            absent[key] = f"it fails on this network ({type(error).__name__}: {error})"
    return {key: found[key] for key in wanted if key in found}, {k: v for k, v in absent.items() if k in wanted}


def _neurobench(model: nn.Module, batches: Sequence[Tensor]) -> Run:
    """NeuroBench's synaptic operations: its hooks, and its effective and dense operations after each batch."""
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    @torch.no_grad()
    def run() -> None:
        wrapped, metric = TorchModel(model), SynapticOperations()
        wrapped.register_hooks()
        try:
            for batch in batches:
                wrapped.reset_hooks()
                metric(wrapped, wrapped(batch), (batch, torch.zeros(len(batch))))
                functional.reset_net(model)
        finally:
            wrapped.cleanup_hooks()

    return run


def _syops(model: nn.Module, batches: Sequence[Tensor]) -> Run:
    """syops-counter, with the names of SpikingJelly's old releases that it imports; it counts a fraction (see docs)."""
    from spikingjelly.activation_based import neuron

    for name in ("IFNode", "LIFNode", "ParametricLIFNode"):
        if not hasattr(neuron, f"MultiStep{name}"):
            setattr(neuron, f"MultiStep{name}", type(f"MultiStep{name}", (getattr(neuron, name),), {}))
    from syops import get_model_complexity_info

    shape = tuple(batches[0].shape[1:])

    @torch.no_grad()
    def run() -> None:
        loader = [(batch, torch.zeros(len(batch))) for batch in batches]
        get_model_complexity_info(model, shape, loader, as_strings=False, print_per_layer_stat=False)

    return run
