"""A GPU: images per second by precision and batch size, recorded and not, beside the convolutions alone."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SimpleEnergyProfiler, SynOpCounter
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.fast import prepare
from spikeattn.models.neuron_backend import implementation_in_use
from spikeattn.tracing.examine import plan

from .models import convolutions, live_model, photos, plain, published_loop, recorded, spikingjelly_twin
from .timing import alternate, medians, ratio, write

BATCHES = 10  # forward passes per measurement; the last one has none after it to hide its counts behind


@contextlib.contextmanager
def precision(name: str) -> Iterator[torch.dtype]:
    """Convolutions and matrix products in "fp32", "tf32" or "bf16"; the dtype of the fast copy's convolutions."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    try:
        yield torch.bfloat16 if name == "bf16" else torch.float32
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def run(args: argparse.Namespace) -> None:
    """The whole page; every part stands for itself, and one that fails is named in its place."""
    device = args.device
    images, source = photos(sa.create_model(args.model), args.photos, max(args.batches))
    model = live_model(args.model, images, device)
    made = plan(model, images[:2].to(device))
    results: dict[str, Any] = {"neurons": implementation_in_use(device), "sweep": {}}
    what = f"{args.model}, {images.shape[-1]} px, T={model.time_steps}, {source}, random weights with calibrated norms"
    tables: list[Any] = []
    for part in (_sweep, _counters, _decoding, _kernels, _precisions):
        name = part.__name__.strip("_")
        if args.only and name not in args.only:
            continue
        try:
            tables.append(part(args, model, made, images, results))
        except Exception as error:
            tables.append([(name, "failed"), ("", f"{type(error).__name__}: {str(error)[:300]}")])
        torch.cuda.empty_cache()
        write(Path(args.out), "gpu", what, device, results, tables)  # again with every part: a later one may not end


def _fitting(ways: dict[str, Any]) -> dict[str, Any]:
    """The ways that fit into the GPU's memory: each runs once."""
    found = {}
    for way, run in ways.items():
        try:
            run()
            found[way] = run
        except torch.OutOfMemoryError:
            print(f"{way}: out of memory", file=sys.stderr)
        torch.cuda.empty_cache()
    return found


def _sweep(args: argparse.Namespace, model: nn.Module, made: Any, images: Tensor, results: dict[str, Any]) -> Any:
    """Images per second of every way, for every precision and batch size."""
    rows = [
        ("precision", "batch", "SpikingJelly", "ours, plain", "plain, recorded", "fast, not counting", "fast, recorded",
         "convolutions alone", "plain: recorded / not", "fast: recorded / not", "fast recorded / SpikingJelly plain",
         "share of the convolution ceiling")
    ]  # fmt: skip
    twin = spikingjelly_twin(model).to(args.device)
    for name in args.precisions:
        with precision(name) as dtype:
            quick, silent = prepare.prepare(model, dtype), prepare.prepare(model, dtype, count=False)
            for size in args.batches:
                batches = [images[:size].to(args.device)] * BATCHES
                ways = {
                    "fast, not counting": plain(silent, batches),
                    "fast, recorded": recorded(quick, made, batches),
                    "convolutions alone": _times(convolutions(model, batches[0], dtype), BATCHES),
                }
                if name != "bf16":  # the published networks run in bf16 under autocast only, which is another network
                    ways |= {
                        "SpikingJelly": plain(twin, batches),
                        "ours, plain": plain(model, batches),
                        "plain, recorded": recorded(model, made, batches),
                    }
                rounds = alternate(_fitting(ways), args.rounds, args.device)
                speed = {way: size * BATCHES / seconds for way, seconds in medians(rounds).items()}
                pairs = [
                    ("plain, recorded", "ours, plain"), ("fast, recorded", "fast, not counting"),
                    ("fast, recorded", "SpikingJelly"), ("convolutions alone", "fast, recorded"),
                ]  # fmt: skip
                ratios = [ratio(rounds, *pair) for pair in pairs]
                results["sweep"][f"{name} {size}"] = {
                    "rounds": rounds,
                    "images_per_second": speed,
                    "ratios": {" / ".join(pair): value for pair, value in zip(pairs, ratios, strict=True)},
                }
                rows.append((
                    name, str(size),
                    *(f"{speed[w]:.0f}" if w in speed else "out of memory" if w in ways else "" for w in rows[0][2:8]),
                    *("" if r is None else f"{r:.3f}" for r in ratios),
                ))  # fmt: skip
                print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
                torch.cuda.empty_cache()
    return rows


def _times(run: Any, n: int) -> Any:
    def several() -> None:
        for _ in range(n):
            run()

    return several


def _counters(args: argparse.Namespace, model: nn.Module, made: Any, images: Tensor, results: dict[str, Any]) -> Any:
    """The published script's loop and SpikingJelly's counters beside the fast path."""
    batches = [images[:64].to(args.device)] * BATCHES
    twin, quick = spikingjelly_twin(model).to(args.device), prepare.prepare(model)

    @torch.no_grad()
    def synops() -> None:
        for batch in batches:
            with DispatchCounterMode([SynOpCounter()]):
                twin(batch)
            fast_reset(twin)

    @torch.no_grad()
    def simple() -> None:
        for batch in batches:
            profiler = SimpleEnergyProfiler()
            profiler.bind_model(twin)
            with profiler:
                twin(batch)
            fast_reset(twin)

    ways = {
        "fast, recorded": recorded(quick, made, batches),
        "plain, recorded": recorded(model, made, batches),
        "the published script's loop": published_loop(model, batches, model.time_steps),
        "SynOpCounter": synops,
        "SimpleEnergyProfiler": simple,
    }
    with precision("tf32"):
        rounds = alternate(ways, args.rounds, args.device)
    results["counters"] = {"rounds": rounds}
    rows = [("tf32, batch 64", "images/s", "times the fast path's seconds")]
    for name, seconds in medians(rounds).items():
        rows.append((name, f"{64 * BATCHES / seconds:.0f}", f"{ratio(rounds, name, 'fast, recorded'):.2f}"))
    return rows


def fast_reset(net: nn.Module) -> None:
    from spikingjelly.activation_based import functional

    functional.reset_net(net)


def _precisions(args: argparse.Namespace, model: nn.Module, made: Any, images: Tensor, results: dict[str, Any]) -> Any:
    """How far tf32 and bf16 move the rates of fp32, over all tensors."""
    from spikeattn.counting.recorder import Recorder

    rates: dict[str, Tensor] = {}
    for name in ("fp32", "tf32", "bf16"):
        with precision(name) as dtype:
            net = prepare.prepare(model, dtype)
            batch = images[:64].to(args.device)
            with torch.no_grad(), Recorder(net, made) as recorder, recorder.watching(len(batch)) as tally:
                counts = tally.collect(net(batch)).counts
        names = [t.name for t in made.ledger.tensors if t.name != "input"]
        rates[name] = torch.tensor([counts["nnz", t].mean() / made.ledger.tensor(t).elements for t in names])
    results["rates"] = {name: dict(zip(names, values.tolist(), strict=True)) for name, values in rates.items()}
    rows = [("rates of all tensors, against fp32", "largest difference", "mean difference", "mean rate")]
    for name, values in rates.items():
        moved = (values - rates["fp32"]).abs()
        rows.append((name, f"{moved.max():.2e}", f"{moved.mean():.2e}", f"{values.mean():.5f}"))
    return rows


def _kernels(args: argparse.Namespace, model: nn.Module, made: Any, images: Tensor, results: dict[str, Any]) -> Any:
    """Where the time of the recorded fast pass goes."""
    batch = images[:64].to(args.device)
    rows = [("kernel (tf32, batch 64)", "ms per batch", "calls")]
    with precision("tf32"):
        way = recorded(prepare.prepare(model), made, [batch] * BATCHES)
        way()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as trace:
            way()
            torch.cuda.synchronize()
    found = [(e.key, e.device_time_total / 1e3 / BATCHES, e.count / BATCHES) for e in trace.key_averages()]
    found.sort(key=lambda entry: -entry[1])
    results["kernels"] = found
    total = sum(ms for _, ms, _ in found)
    rows += [(name[:90], f"{ms:.3f}", f"{calls:.0f}") for name, ms, calls in found[:22]]
    return [*rows, ("all", f"{total:.2f}", "")]


def _decoding(args: argparse.Namespace, model: nn.Module, made: Any, images: Tensor, results: dict[str, Any]) -> Any:
    """Images per second from JPEG files to the finished result, in processes that read ahead."""
    rows = [("from JPEG files (tf32, batch 64)", "images", "images/s")]
    if args.photos is None:
        return [*rows, ("no --photos given", "", "")]
    dataset = sa.open_dataset(f"imagenet:{args.photos}", model)
    for plain_path in (False, True):
        for workers in (args.workers,):
            with precision("tf32"), tempfile.TemporaryDirectory() as folder:
                loader = sa.make_loader(dataset, 64, workers, pin_memory=True)
                start = time.perf_counter()
                done = sa.profile(model, loader, Path(folder) / "run", plain=plain_path)
                seconds = time.perf_counter() - start
            name = f"sa.profile, {'plain' if plain_path else 'fast'}, {workers} workers"
            rows.append((name, str(done.n_images), f"{done.n_images / seconds:.0f}"))
    start, read = time.perf_counter(), 0
    for batch in sa.make_loader(dataset, 64, args.workers, pin_memory=True):
        read += len(batch.images)
    rows.append((f"reading alone, {args.workers} workers", str(read), f"{read / (time.perf_counter() - start):.0f}"))
    results["decoding"] = rows[1:]
    return rows
