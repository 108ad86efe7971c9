"""One process with one network that spikeattn does not know: `foreign` asks it for seconds and peak memory.

python foreign_worker.py NETWORK CLONES IMAGES ROUNDS SECONDS    prints one line of JSON
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from math import ceil
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
from spikeattn.fast import foreign  # noqa: E402
from spikeattn.fast.seen_pass import SeenPass  # noqa: E402
from spikeattn.models.calibrate import calibrate_batch_norm  # noqa: E402
from spikeattn.models.neuron_names import neuron_predicate  # noqa: E402
from spikeattn.storage.counts import batch_table  # noqa: E402
from spikeattn.structure.reading import with_structure  # noqa: E402
from spikeattn.tracing import neurons  # noqa: E402
from spikeattn.tracing.examine import call_model  # noqa: E402
from spikeattn.tracing.modes import in_eval  # noqa: E402
from spikeattn.tracing.taps import Plan  # noqa: E402

_FIRST = 8  # images of the batch that start-up and memory are quoted for
_LEAST = 3.0  # seconds of plain passes: a median of a few of a small network's is noise
_STARTS = 3  # rounds of start-up, at least


def main() -> None:
    name, clones, images, rounds, seconds, threads = sys.argv[1:7]
    torch.set_num_threads(int(threads))
    network = NETWORKS[name]
    torch.manual_seed(0)
    address = address_of(network, Path(clones))
    model = sa.load_model(address, **network.arguments) if address else network.build()
    model.eval()
    shown = torch.randn(_FIRST, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    if network.statistics:
        with torch.no_grad():
            model.train()(shown[:2])
        neurons.reset(model.eval())
    calibrate_batch_norm(model, shown[:2])
    spiking = neuron_predicate(model, list(network.neurons))
    with in_eval(model):
        print(json.dumps(measured(model, spiking, shown, int(images), int(rounds), float(seconds))))


def measured(
    model: nn.Module, spiking: neurons.NeuronPredicate, shown: Tensor, images: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Rounds of a plain and a recorded pass, of start-up beside a plain batch of 8, and peaks of memory."""
    made, fusion = examined(model, spiking, shown)  # once before anything is timed: imports, the compiled kernels
    first = shown[:1] if made.one_image else shown
    batch = first[:images]
    folded = foreign.fuse(model, made, first, call_model, fold=True)
    ways = {"recorded": Recording(model, made, batch)}
    for name, kernels in (("fused", fusion), ("folded", folded)):
        if isinstance(kernels, foreign.Fusion) and (name == "fused" or kernels.pairs):
            ways[name] = Recording(model, made, batch, kernels)
    contestants = {"plain": lambda: plain(model, batch)} | {name: partial(way, batch) for name, way in ways.items()}
    rounds = max(rounds, ceil(_LEAST / _seconds(lambda: plain(model, batch))))
    passes = alternate(contestants, rounds, "cpu", limit=seconds, around={name: way.open for name, way in ways.items()})
    begin = {"plain": lambda: plain(model, first), "examined": lambda: examined(model, spiking, first)}
    starts = alternate(begin, max(_STARTS, rounds // 4), "cpu", limit=seconds)
    peaks = {"plain": peak(lambda: plain(model, first))}
    for name, way in ways.items():
        with way.open():
            peaks[name] = peak(partial(way, first))
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
        "fused": fusion if isinstance(fusion, str) else {"neurons": len(fusion.neurons), "layers": len(fusion.layers)},
        "folded": folded if isinstance(folded, str) else {"pairs": len(folded.pairs), "flips": flips(folded)},
        "all_neurons": len(made.neurons),
    }


def examined(
    model: nn.Module, spiking: neurons.NeuronPredicate, images: Tensor
) -> tuple[Plan, foreign.Fusion | str]:  # fmt: skip
    """What a run does with its first batch before it counts: trace, plan, probe, structure, kernels and their trial."""
    with torch.no_grad():
        seen = SeenPass()
        made = probed_plan(model, images, seen=seen, neurons=spiking)
        with_structure(made.ledger, model, images, call_model, spiking, None)
        return made, foreign.fuse(model, made, images, call_model, expected=seen)


@torch.no_grad()
def plain(model: nn.Module, batch: Tensor) -> None:
    """A pass and nothing else."""
    model(batch)
    neurons.reset(model)


class Recording:
    """Everything that `profile` stores of a batch: counts on the host, checked, as a table.

    `open` is what a run does once for all its batches: hooks, the kernels in their places, and a first batch, which
    shows the recorder how its tensors lie in memory.
    """

    def __init__(self, model: nn.Module, made: Plan, first: Tensor, fusion: foreign.Fusion | None = None) -> None:
        self._model, self._made, self._first, self._fusion = model, made, first, fusion

    @contextmanager
    def open(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self._fusion is not None:
                stack.enter_context(self._fusion)
            self._recorder = stack.enter_context(Recorder(self._model, self._made))
            if self._fusion is not None:
                self._recorder.take_from(self._fusion)
            self(self._first)
            yield

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> None:
        neurons.reset(self._model)
        with self._recorder.watching(len(batch)) as tally:
            self._recorder.show(batch)
            sent = tally.send(self._model(batch))
        batch_table(sent.result(), range(len(batch)), ["x"] * len(batch), [0] * len(batch))
        neurons.reset(self._model)


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def flips(folded: foreign.Fusion) -> tuple[int, int]:
    """Values of neurons that folding changed on the first images, and how many there are."""
    changed, values = (sum(each[place] for each in folded.flipped.values()) for place in (0, 1))
    return changed, values


def peak(run: Callable[[], Any]) -> float:
    """Peak of resident memory in MB while something runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew (man 5 proc)
    run()
    wait("cpu")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


if __name__ == "__main__":
    main()
