"""One process with one network that spikeattn does not know: `foreign` asks it for seconds and peak memory.

python foreign_worker.py NETWORK CLONES IMAGES ROUNDS SECONDS    prints one line of JSON
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import spikeattn as sa  # noqa: E402  # the checkout that this file stands in, wherever it is started
from benchmarks.networks import NETWORKS, address_of  # noqa: E402
from benchmarks.timing import alternate, wait  # noqa: E402
from spikeattn.counting.probe import probed_plan  # noqa: E402
from spikeattn.counting.recorder import Recorder  # noqa: E402
from spikeattn.models.calibrate import calibrate_batch_norm  # noqa: E402
from spikeattn.models.neuron_names import neuron_predicate  # noqa: E402
from spikeattn.storage.counts import batch_table  # noqa: E402
from spikeattn.structure.reading import with_structure  # noqa: E402
from spikeattn.tracing import neurons  # noqa: E402
from spikeattn.tracing.modes import in_eval  # noqa: E402
from spikeattn.tracing.taps import Plan  # noqa: E402

_FIRST = 8  # images of the batch that start-up and memory are quoted for


def main() -> None:
    name, clones, images, rounds, seconds, threads = sys.argv[1:7]
    torch.set_num_threads(int(threads))
    network = NETWORKS[name]
    torch.manual_seed(0)
    address = address_of(network, Path(clones))
    model = sa.load_model(address, **network.arguments) if address else network.build()
    model.eval()
    shown = torch.randn(_FIRST, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    calibrate_batch_norm(model, shown[:2])
    spiking = neuron_predicate(model, list(network.neurons))
    with in_eval(model):
        print(json.dumps(measured(model, spiking, shown, int(images), int(rounds), float(seconds))))


def measured(
    model: nn.Module, spiking: neurons.NeuronPredicate, shown: Tensor, images: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Rounds of a plain and a recorded pass, of start-up beside a plain batch of 8, and peaks of memory."""
    made = examined(model, spiking, shown)  # once before anything is timed: imports, the compilation of kernels
    alone = made.one_image
    batch = shown[:1] if alone else shown[:images]
    passes = alternate(
        {"plain": lambda: plain(model, batch), "recorded": lambda: recorded(model, made, batch)}, rounds, "cpu",
        limit=seconds,
    )  # fmt: skip
    first = shown[:1] if alone else shown
    starts = alternate(
        {"plain": lambda: plain(model, first), "examined": lambda: examined(model, spiking, first)},
        max(1, rounds // 4), "cpu", limit=seconds,
    )  # fmt: skip
    peaks = {
        "plain": peak(lambda: plain(model, first)),
        "recorded": peak(lambda: recorded(model, made, first)),
        "examined": peak(lambda: examined(model, spiking, first)),
    }
    return {
        "passes": passes,
        "starts": starts,
        "peaks": peaks,
        "batch": len(batch),
        "first": len(first),
        "time_steps": made.ledger.time_steps,
        "tensors": len(made.ledger.tensors),
        "uncounted": len(made.ledger.uncounted),
        "parameters": sum(each.numel() for each in model.parameters()),
    }


def examined(model: nn.Module, spiking: neurons.NeuronPredicate, images: Tensor) -> Plan:
    """What a run does with its first batch before it counts: trace, plan, probe, structure."""
    with torch.no_grad():
        made = probed_plan(model, images, neurons=spiking)
        with_structure(made.ledger, model, images, lambda net, x: net(x), spiking, None)
    return made


@torch.no_grad()
def plain(model: nn.Module, batch: Tensor) -> None:
    model(batch)
    neurons.reset(model)


@torch.no_grad()
def recorded(model: nn.Module, made: Plan, batch: Tensor) -> None:
    """Everything that `profile` stores of a batch: counts on the host, checked, as a table."""
    with Recorder(model, made) as recorder:
        neurons.reset(model)
        with recorder.watching(len(batch)) as tally:
            recorder.show(batch)
            sent = tally.send(model(batch))
        batch_table(sent.result(), range(len(batch)), ["x"] * len(batch), [0] * len(batch))
        neurons.reset(model)


def peak(run: Callable[[], Any]) -> float:
    """Peak of resident memory in MB while something runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew (man 5 proc)
    run()
    wait("cpu")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


if __name__ == "__main__":
    main()
