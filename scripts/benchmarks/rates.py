"""The fast path at firing rates set by us: spike convolutions cost what their inputs fire, dense ones do not."""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.fast import prepare
from spikeattn.tracing.examine import plan

from . import avx2
from .models import Run, convolutions, live_model, photos, plain, recorded, spikingjelly_twin
from .timing import write

RATES = (0.02, 0.05, 0.1, 0.2, 0.4)
# Table S1 of Yao et al. (NeurIPS 2023): rates of SDT-8-512 trained on ImageNet
_TABLE = Path(sa.__file__).parent / "energy" / "tables" / "table_s1_sdt_8_512.csv"
_SAMPLE = 200_000  # values per time step by which a neuron's rate is judged
_HALVINGS = 20  # of an interval of offsets as wide as the values


def run(args: argparse.Namespace) -> None:
    """Measure every setting of --only, or all: "photos", "trained" and rates; the page grows with each of them."""
    images, source = photos(sa.create_model(args.model), args.photos, args.batch_size)
    what = (
        f"{args.model}, {images.shape[-1]} px, one batch of {len(images)} {source}, fp32, random weights, batch norms "
        "calibrated on the batch and then shifted so that neurons fire at the rates named; vectors of "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    name = f"rates{avx2.suffix()}-{torch.get_num_threads()}"
    file = Path(args.out) / f"{name}.json"
    settings: dict[str, Any] = {}
    if args.merge and file.is_file() and (earlier := json.loads(file.read_text()))["what"] == what:
        settings = earlier["settings"]
    for setting in args.only or ["photos", "trained", *map(str, RATES)]:
        settings[setting] = _measure(setting, images, args)
        rows = [("neurons fire at", "by element", "by MACs", *_HEADER, "rounds", "load")]
        for each, found in settings.items():
            rates = [f"{found[key]:.3f}" for key in ("by_element", "by_macs")]
            rounds = found["rounds"]
            rows.append((each, *rates, *_cells(rounds), str(len(rounds)), f"{found['load']:.1f}"))
        write(Path(args.out), name, what, "cpu", {"settings": settings}, [rows], _notes())


def _measure(setting: str, images: Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """Rates and rounds of one setting, and how busy the machine was."""
    model = live_model(args.model, images, "cpu")
    if setting != "photos":
        set_rates(model, images[:2], _published(model) if setting == "trained" else lambda path: float(setting))
    by_element, by_macs = measured_rates(model, images)
    contestants: dict[str, Run] = {
        "fast": recorded(prepare.prepare(model), plan(model, images), [images]),
        "floor": convolutions(model, images),
        "sj": plain(spikingjelly_twin(model), [images]),
    }
    rounds = _alternate(contestants, args.rounds, args.seconds)
    return {"by_element": by_element, "by_macs": by_macs, "load": os.getloadavg()[0], "rounds": rounds}


def _notes() -> list[str]:
    kept = {key: value for key, value in os.environ.items() if key.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    return [
        f"Allocator: the C library's, with {kept or 'its defaults'}.",
        "photos: as calibrated. trained: each neuron's rate in the paper's Table S1. By element: mean over the "
        "neurons' outputs; by MACs: mean over the inputs of convolutions of spikes, weighted by their "
        "multiply-accumulates, behind pools and masks. Seconds are medians, ratios medians of the same round's. load: "
        f"the machine's load average over the last minute, on {os.cpu_count()} cores; this process is 1 or 2 of it.",
    ]


_HEADER = ("recorded, s", "convolutions alone, s", "SpikingJelly, s", "recorded / convolutions", "of CPU time",
           "recorded / SpikingJelly", "of CPU time")  # fmt: skip


def _alternate(contestants: Mapping[str, Run], rounds: int, limit: float) -> list[dict[str, float]]:
    """Wall and CPU seconds ("NAME cpu") of each contestant; a first round is not counted."""
    found, begin = [], time.perf_counter()
    for number in range(rounds + 1):
        times = {}
        for name, each in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            each()
            times[name], times[f"{name} cpu"] = time.perf_counter() - wall, time.process_time() - cpu
        found.append(times)
        print(f"round {number} of {rounds}", {k: round(v, 3) for k, v in times.items()}, file=sys.stderr, flush=True)
        if number and time.perf_counter() - begin > limit:
            break
    return found[1:]


def _cells(rounds: list[dict[str, float]]) -> list[str]:
    """Median seconds, and medians of paired ratios."""
    seconds = [statistics.median(times[name] for times in rounds) for name in ("fast", "floor", "sj")]
    pairs = [("fast", "floor"), ("fast cpu", "floor cpu"), ("fast", "sj"), ("fast cpu", "sj cpu")]
    ratios = [statistics.median(times[a] / times[b] for times in rounds) for a, b in pairs]
    return [f"{value:.3f}" for value in (*seconds, *ratios)]


def _published(model: nn.Module) -> Callable[[str], float]:
    """The published rate of each neuron, mean over the time steps."""
    with _TABLE.open() as file:
        rows = {(row["part"], row["tensor"]): float(row["average"]) for row in csv.DictReader(file)}
    names = model.paper_names()

    def rate(path: str) -> float:
        name = names[path]
        return rows["SPS" if name.block is None else f"Block{name.block + 1}", name.role]

    return rate


def _norm_before(path: str) -> str:
    """The batch norm whose bias shifts what a neuron receives."""
    parent, _, name = path.rpartition(".")
    if parent == "patch_embed":
        return f"{parent}.{name.replace('lif', 'bn')}"
    root, _, part = parent.rpartition(".")  # block.N
    if name == "shortcut_lif":
        number = int(root.rpartition(".")[2])
        return f"block.{number - 1}.mlp.fc2_bn" if number else "patch_embed.rpe_bn"
    if name == "fc1_lif":
        return f"{root}.attn.proj_bn"
    return f"{parent}.{'fc1_bn' if name == 'fc2_lif' else name.replace('lif', 'bn')}"


def _neurons(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Neurons behind a convolution or a shortcut; the gates and the head's read sums of spikes and means."""
    for path, module in model.named_modules():
        name = path.rpartition(".")[2]
        if name.startswith(("proj_lif", "shortcut_lif", "q_lif", "k_lif", "v_lif", "fc1_lif", "fc2_lif")):
            yield path, module


@contextmanager
def _hooked(model: nn.Module, register: Callable[[str, nn.Module], Any]) -> Iterator[None]:
    handles = [register(path, module) for path, module in model.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            if handle is not None:
                handle.remove()


@torch.no_grad()
def set_rates(model: nn.Module, images: Tensor, rate_of: Callable[[str], float]) -> None:
    """Shift the batch norms' biases so that each neuron fires at `rate_of(path)` on the images, in place."""
    neurons, norms = dict(_neurons(model)), dict(model.named_modules())

    def register(path: str, module: nn.Module) -> Any:
        if path not in neurons:
            return None

        def shift(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            offset = _offset(args[0], rate_of(path))
            args[0].add_(offset)  # in place: shortcuts that begin here are shifted too, as by the bias
            norms[_norm_before(path)].bias.add_(offset)

        return module.register_forward_pre_hook(shift)

    with _hooked(model, register):
        plain(model, [images])()


def _offset(x: Tensor, rate: float) -> float:
    """What to add to the input [T, ...] of a LIF neuron (time constant 2, threshold 1) for it to fire at a rate."""
    flat = x.flatten(1)
    flat = flat[:, :: max(1, flat.shape[1] // _SAMPLE)].contiguous()
    low, high = -float(flat.max()) - 1, 4 - float(flat.min())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _rate(flat + middle) > rate else (middle, high)
    return (low + high) / 2


def _rate(x: Tensor) -> float:
    v, fired = torch.zeros_like(x[0]), 0.0
    for each in x:
        v = v + (each - v) / 2
        spikes = (v >= 1).float()
        v, fired = v * (1 - spikes), fired + float(spikes.mean())
    return fired / len(x)


@torch.no_grad()
def measured_rates(model: nn.Module, images: Tensor) -> tuple[float, float]:
    """Mean firing rate of the neurons by element, and of what convolutions of spikes receive by their MACs."""
    neurons = dict(_neurons(model))
    elements, macs = [0.0, 0], [0.0, 0]

    def register(path: str, module: nn.Module) -> Any:
        def neuron(module: nn.Module, args: Any, spikes: Tensor) -> None:
            elements[0] += float(spikes.sum(dtype=torch.float64))
            elements[1] += spikes.numel()

        def convolution(module: nn.Conv2d, args: tuple[Tensor, ...], y: Tensor) -> None:
            work = module.weight.numel() * y[:, :, 0].numel()
            macs[0] += work * float(args[0].mean(dtype=torch.float64))
            macs[1] += work

        if path in neurons:
            return module.register_forward_hook(neuron)
        if isinstance(module, nn.Conv2d) and path != "patch_embed.proj_conv":
            return module.register_forward_hook(convolution)
        return None

    with _hooked(model, register):
        plain(model, [images])()
    return elements[0] / elements[1], macs[0] / macs[1]
