"""Which digits of a profile to trust: one model, the same images, other batch sizes, layouts, precisions, devices.

    python scripts/which_digits.py --model sdt_digits --images 360
    python scripts/which_digits.py --model sdt_8_512 --images 16 --threads 1
    python scripts/which_digits.py --model sdt_8_512 --images 256 --device cuda

Each variant runs on the images that the reference ran on. Spikes are compared one by one, rates, operations and energy
as `spikeattn.profile` gives them, the differences beside the interval over images. sdt_digits has trained weights and
real digits; other models are untrained, calibrated, and see crops of the two photographs that scikit-learn ships.
Results go to reports/faults/digits-NAME.json and .md.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.tracing.neurons import find_neurons, is_spiking_neuron, reset

_BITS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)
OUT = Path(__file__).resolve().parents[1] / "reports" / "faults"


@dataclass(frozen=True)
class Variant:
    """How a run differs from the reference."""

    name: str
    batch: int = 32
    channels_last: bool = False
    dtype: torch.dtype = torch.float32
    tf32: bool = False
    threads: int = 1
    device: str = "cpu"


def variants(device: str, threads: int, batches: list[int]) -> list[Variant]:
    """The reference first."""
    base: dict[str, Any] = {"threads": threads, "device": device}
    found = [Variant("reference", **base), Variant("the same again", **base)]
    found += [Variant(f"batch size {n}", batch=n, **base) for n in batches]
    found += [Variant("channels_last", channels_last=True, **base)]
    if device == "cuda":
        found += [Variant("tf32", tf32=True, **base), Variant("CPU", threads=threads)]
    else:
        found += [Variant(f"{n} threads", threads=n) for n in (1, 2) if n != threads]
    return [*found, Variant("bf16", dtype=torch.bfloat16, **base)]


def photographs(n: int) -> Tensor:
    """`n` crops of 224 x 224 pixels, [n, 3, 224, 224], normalised as ImageNet."""
    rng = np.random.RandomState(0)
    crops = []
    for i in range(n):
        photo = load_sample_images().images[i % 2]
        y, x = rng.randint(photo.shape[0] - 224), rng.randint(photo.shape[1] - 224)
        crops.append(torch.from_numpy(photo[y : y + 224, x : x + 224].copy()).permute(2, 0, 1) / 255)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (torch.stack(crops) - mean) / std


def model_and_images(name: str, n: int) -> tuple[nn.Module, Tensor]:
    """The network in eval mode, and its input."""
    if name == "sdt_digits":
        net = sa.create_model(name, pretrained=True)
        return net, sa.open_dataset("digits", net).images[:n]
    torch.manual_seed(0)
    net, images = sa.create_model(name), photographs(n)
    calibrate_batch_norm(net, images[:8])
    return net, images


def run(net: nn.Module, images: Tensor, variant: Variant) -> tuple[sa.Profile, list[np.ndarray], Tensor]:
    """The profile of a variant, its spikes (packed bits [N, bytes] per neuron layer) and logits."""
    torch.set_num_threads(variant.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = variant.tf32
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    net = copy.deepcopy(net).to(variant.device, variant.dtype, memory_format=layout)

    def forward(model: nn.Module, x: Tensor) -> Tensor:
        return model(x.to(variant.dtype).contiguous(memory_format=layout))

    batches = list(images.split(variant.batch))
    profile = sa.profile(net, batches, forward=forward)
    layers = find_neurons(net, is_spiking_neuron)
    seen: dict[str, list[np.ndarray]] = {path: [] for path in layers}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Tensor) -> None:
            bits = out.transpose(0, 1).flatten(1).ne(0)  # [B, T * elements]
            bits = nn.functional.pad(bits, (0, -bits.shape[1] % 8)).unflatten(1, (-1, 8))
            seen[path].append((bits * _BITS.to(out.device)).sum(-1, dtype=torch.uint8).cpu().numpy())

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in layers.items()]
    logits = []
    with torch.no_grad():
        for batch in batches:
            reset(net)
            logits.append(forward(net, batch.to(variant.device)).float().cpu())
    for handle in handles:
        handle.remove()
    return profile, [np.concatenate(bits) for bits in seen.values()], torch.cat(logits)


def compared(reference: tuple[sa.Profile, list[np.ndarray], Tensor], other: tuple) -> dict[str, Any]:
    """How far a variant lies from the reference."""
    (own, spikes, logits), (theirs, their_spikes, their_logits) = reference, other
    flips = np.zeros(len(logits), dtype=np.int64)
    for a, b in zip(spikes, their_spikes, strict=True):
        flips += np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int64)
    total = sum(int(np.bitwise_count(a).sum(dtype=np.int64)) for a in spikes)
    rates, others = (p.rates()[lambda t: t["t"] == "mean"].reset_index(drop=True) for p in (own, theirs))
    gap = (others["nonzero_rate"] - rates["nonzero_rate"]).abs()
    half = (rates["ci_high"] - rates["ci_low"]) / 2
    energy, their_energy = own.energy(), theirs.energy()
    interval = (energy.total.high - energy.total.low) / 2
    moved = their_energy.total.value - energy.total.value
    sops, their_sops = (int(p.operations()["sops"].sum()) for p in (own, theirs))
    return {
        "images_with_a_flip": int((flips > 0).sum()),
        "flipped_spikes_per_spike": int(flips.sum()) / total,
        "predictions_changed": int((logits.argmax(1) != their_logits.argmax(1)).sum()),
        "sops_relative": (their_sops - sops) / sops,
        "largest_rate_difference": float(gap.max()),
        "largest_rate_difference_over_interval": float((gap / half.where(half > 0)).max()),
        "largest_image_energy_relative": float(np.max(np.abs(their_energy.per_image / energy.per_image - 1))),
        "energy_relative": moved / energy.total.value,
        "energy_over_interval": abs(moved) / interval,
    }


def table(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    lines = [
        f"# Which digits move: {record['model']}, {record['images']} images, {record['device']}",
        "",
        f"`{record['command']}`; {record['machine']}, torch {record['torch']}. Reference: fp32, batch size 32, "
        f"{record['threads']} CPU threads: {record['energy_mj']:.6g} mJ ± {record['interval_mj']:.2g} (95 %), "
        f"{record['sops']:,} SOPs, {record['spikes']:,} spikes.",
        "",
        "| variant | images with a flipped spike | flipped / spikes | predictions changed | SOPs | largest rate "
        "difference | / its interval | one image's energy, at most | mean energy | / its interval |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in record["variants"].items():
        lines.append(
            f"| {name} | {row['images_with_a_flip']} | {row['flipped_spikes_per_spike']:.2g} | "
            f"{row['predictions_changed']} | {row['sops_relative']:+.2g} | {row['largest_rate_difference']:.2g} | "
            f"{row['largest_rate_difference_over_interval']:.2g} | {row['largest_image_energy_relative']:.2g} | "
            f"{row['energy_relative']:+.2g} | {row['energy_over_interval']:.2g} |"
        )
    lines += ["", "Differences of SOPs and energies are relative; an interval is half its width.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sdt_digits")
    parser.add_argument("--images", type=int, default=360)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--cpu-images", type=int, default=16, help="images of the variant on the CPU, beside CUDA")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    net, images = model_and_images(options.model, options.images)
    record: dict[str, Any] = {}
    reference = None
    for variant in variants(options.device, options.threads, options.batches):
        few = variant.device != options.device and options.model != "sdt_digits"
        taken = images[: options.cpu_images] if few else images
        result = run(net, taken, variant)
        print(variant.name, file=sys.stderr)
        if reference is None:
            reference = result
            total = result[0].energy().total
            record = {
                "command": "python scripts/which_digits.py " + " ".join(sys.argv[1:]),
                "model": options.model,
                "images": len(images),
                "device": torch.cuda.get_device_name() if options.device == "cuda" else "CPU",
                "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
                "torch": torch.__version__,
                "threads": options.threads,
                "energy_mj": total.value,
                "interval_mj": (total.high - total.low) / 2,
                "sops": int(result[0].operations()["sops"].sum()),
                "spikes": sum(int(np.bitwise_count(bits).sum(dtype=np.int64)) for bits in result[1]),
                "variants": {},
            }
            continue
        beside = run(net, taken, Variant("few", threads=options.threads, device=options.device)) if few else reference
        name = f"{variant.name} ({len(taken)} images)" if few else variant.name
        record["variants"][name] = compared(beside, result)
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"digits-{options.model}-{options.device}"
    target.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    target.with_suffix(".md").write_text(table(record))
    print(table(record))


if __name__ == "__main__":
    main()
