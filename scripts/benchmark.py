"""Time what spikeattn does against what it is compared with: one process, alternating, medians, ratios.

    python scripts/benchmark.py overhead                    # the recorded pass beside plain ones and other counters
    python scripts/benchmark.py overhead --device cuda --batch-size 64 --images 64
    python scripts/benchmark.py parity-cuda                 # spikes on the CPU against SpikingJelly's CUDA neurons

Results go to reports/benchmark/NAME.json and NAME.md with the command, the machine and the thread count.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.model import spike_driven_transformer as sj_sdt
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SimpleEnergyProfiler, SynOpCounter
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.models.neurons import implementation_in_use
from spikeattn.recording.counts import batch_table
from spikeattn.recording.recorder import Recorder
from spikeattn.recording.taps import plan

ROOT = Path(__file__).resolve().parents[1]


def spikingjelly_twin(model: nn.Module) -> nn.Module:
    """SpikingJelly's own Spike-driven Transformer with the weights of ours; its patch-embedding biases are zero."""
    config = model.config
    twin = sj_sdt.SpikeDrivenTransformer(
        config["time_steps"], config["in_chans"], config["num_classes"], config["embed_dim"],
        config["num_heads"], config["depth"], config["mlp_ratio"], config["pooling_stat"],
    )  # fmt: skip
    stages = {"": "stages.0", "1": "stages.1", "2": "stages.2", "3": "final_stage"}
    names = {f"patch_embed.proj_conv{k}": f"patch_embed.{v}.0" for k, v in stages.items()}
    names |= {f"patch_embed.proj_bn{k}": f"patch_embed.{v}.1" for k, v in stages.items()}
    mlp = {"fc1_conv": "fc1", "fc1_bn": "bn1", "fc2_conv": "fc2", "fc2_bn": "bn2"}
    state = {key: torch.zeros_like(value) for key, value in twin.state_dict().items()}
    for key, value in model.state_dict().items():
        path, _, leaf = key.rpartition(".")
        if path.endswith("talking_heads"):
            continue
        path = names.get(path, path).replace("block.", "blocks.")
        head, _, last = path.rpartition(".")
        path = f"{head}.{mlp[last]}" if last in mlp else path
        state[f"{path}.{leaf}"] = value
    twin.load_state_dict(state, strict=True)
    return twin.eval()


def live_model(name: str, images: Tensor, device: str) -> nn.Module:
    """An untrained model whose neurons fire: batch-norm statistics from two of the images."""
    torch.manual_seed(0)
    model = sa.create_model(name).to(device)
    calibrate_batch_norm(model, images[:2].to(device))
    return model


def photos(model: nn.Module, folder: str | None, n: int) -> tuple[Tensor, str]:
    """`n` images as the model takes them, and where they are from: photos of a folder, or seeded noise."""
    if folder is None:
        return torch.randn((n, model.in_chans, *model.img_size), generator=torch.Generator().manual_seed(0)), "noise"
    loader = sa.make_loader(sa.open_dataset(f"imagenet:{folder}", model), batch_size=n, limit=n)
    return next(iter(loader)).images, "photos"


def alternate(contestants: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each contestant, one after another in every round, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            if number:
                times[name].append(time.perf_counter() - start)
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return times


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def overhead(args: argparse.Namespace) -> None:
    """The recorded pass beside our own plain one, SpikingJelly's, and SpikingJelly under its counters."""
    device = args.device
    images, source = photos(sa.create_model(args.model), args.photos, args.images)
    model = live_model(args.model, images, device)
    twin = spikingjelly_twin(model).to(device)
    batches = [batch.to(device) for batch in images.split(args.batch_size)]
    made = plan(model, batches[0])
    recorder = Recorder(model, made)

    def over(net: nn.Module, each: Callable[[nn.Module, Tensor], Any]) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                for batch in batches:
                    each(net, batch)
                    functional.reset_net(net)

        return run

    def recorded(net: nn.Module, batch: Tensor) -> None:
        with recorder, recorder.watching(len(batch)) as tally:
            counts = tally.collect(net(batch))
        n = len(batch)
        batch_table(counts, range(n), ["x"] * n, [0] * n)

    def synops(net: nn.Module, batch: Tensor) -> None:
        with DispatchCounterMode([SynOpCounter()]):
            net(batch)

    def simple(net: nn.Module, batch: Tensor) -> None:
        profiler = SimpleEnergyProfiler()
        profiler.bind_model(net)
        with profiler:
            net(batch)

    contestants = {
        "SpikingJelly's SDT, plain": over(twin, lambda net, batch: net(batch)),
        "ours, plain": over(model, lambda net, batch: net(batch)),
        "ours, recorded with everything profile stores": over(model, recorded),
        "SpikingJelly's SDT under SynOpCounter": over(twin, synops),
        "SpikingJelly's SDT under SimpleEnergyProfiler": over(twin, simple),
    }
    times = alternate(contestants, args.rounds, device)
    medians = {name: statistics.median(values) for name, values in times.items()}
    paired = {
        "ours recorded / ours plain": ("ours, recorded with everything profile stores", "ours, plain"),
        "ours recorded / SpikingJelly plain": (
            "ours, recorded with everything profile stores",
            "SpikingJelly's SDT, plain",
        ),
        "SynOpCounter / SpikingJelly plain": (
            "SpikingJelly's SDT under SynOpCounter",
            "SpikingJelly's SDT, plain",
        ),
        "SimpleEnergyProfiler / SpikingJelly plain": (
            "SpikingJelly's SDT under SimpleEnergyProfiler",
            "SpikingJelly's SDT, plain",
        ),
    }
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[top], times[bottom], strict=True))
        for name, (top, bottom) in paired.items()
    }
    columns = len(made.ledger.tensors) * made.ledger.time_steps
    write(
        args,
        "overhead" + ("" if device == "cpu" else "-cuda"),
        f"{args.model}, {images.shape[-1]} px, T={made.ledger.time_steps}, {len(images)} {source} in batches of "
        f"{args.batch_size}, fp32, random weights with calibrated batch norms, {columns} tensor columns",
        {"seconds": times, "median_seconds": medians, "median_paired_ratios": ratios},
        [("", "median seconds"), *((k, f"{v:.3f}") for k, v in medians.items())],
        [("", "median of paired ratios"), *((k, f"{v:.3f}") for k, v in ratios.items())],
    )


def parity_cuda(args: argparse.Namespace) -> None:
    """Spike counts of the same exact-sum network on the CPU and on CUDA: every count must be the same."""
    from tests.models.sdt_oracle import exact_input, exact_weights

    rows = [("configuration", "spikes on the CPU", "different counts")]
    result = {}
    for name, options in {
        "32 px, T=4": {"img_size": 32, "num_classes": 10, "embed_dim": 64, "depth": 2, "pooling_stat": "0011"},
        "64 px, T=6, TET": {"img_size": 64, "embed_dim": 64, "depth": 3, "time_steps": 6, "tet": True},
        "8-512 at 224 px, T=4": {},
        "dvs, T=16": {"img_size": 64, "in_chans": 2, "embed_dim": 64, "depth": 2, "time_steps": 16, "dvs": True},
    }.items():
        model = sa.models.SpikeDrivenTransformer(**options).eval()
        exact_weights(model)
        shape = (6, model.in_chans, *model.img_size)
        images = exact_input(*((6, model.time_steps, *shape[1:]) if model.in_chans == 2 else shape))
        images = images.round().abs() if model.in_chans == 2 else images
        tables = {}
        for device in ("cpu", args.device):
            loader = [part.to(device) for part in images.split(3)]
            tables[device] = sa.profile(model.to(device), loader).counts
        names = [c for c in tables["cpu"].columns if c.startswith(("nnz:", "fan_nnz:", "pred:"))]
        cpu, gpu = (tables[device]._read(names) for device in tables)
        spikes = sum(cpu[c].to_numpy().sum() for c in names if c.startswith("nnz:"))
        different = sum(int((cpu[c].to_numpy() != gpu[c].to_numpy()).sum()) for c in names)
        rows.append((name, f"{int(spikes):,}", str(different)))
        result[name] = {"spikes": int(spikes), "different": different}
    write(args, "parity-cuda", f"neurons: {implementation_in_use(args.device)}", result, rows)


def write(
    args: argparse.Namespace, name: str, what: str, result: dict[str, Any], *tables: list[tuple[str, ...]]
) -> None:
    """reports/benchmark/NAME.json and NAME.md; also to standard output."""
    command = "python scripts/benchmark.py " + " ".join(sys.argv[1:])
    machine = {
        "command": command,
        "what": what,
        "device": torch.cuda.get_device_name() if args.device != "cpu" else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "spikeattn": sa.__version__,
    }
    where = f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}; one process, alternating, "
    where += f"{args.rounds} rounds after one that is not counted"
    lines = [f"# {name}", "", what, "", f"`{command}`", "", where]
    for table in tables:
        lines += ["", "| " + " | ".join(table[0]) + " |", "|" + "---|" * len(table[0])]
        lines += ["| " + " | ".join(row) + " |" for row in table[1:]]
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({**machine, **result}, indent=1) + "\n")
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def main() -> None:
    """Read the command line and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=["overhead", "parity-cuda"])
    parser.add_argument("--model", default="sdt_8_512")
    parser.add_argument("--device", default=None)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--photos", default=None, help="folder with val/<wnid>/*.JPEG; seeded noise without it")
    parser.add_argument("--out", default=str(ROOT / "reports" / "benchmark"))
    args = parser.parse_args()
    args.device = args.device or ("cuda" if args.benchmark == "parity-cuda" else "cpu")
    if args.device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"error: --device {args.device}: torch sees no CUDA device here")
    if args.threads:
        torch.set_num_threads(args.threads)
    {"overhead": overhead, "parity-cuda": parity_cuda}[args.benchmark](args)


if __name__ == "__main__":
    main()
