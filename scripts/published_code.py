"""Profile the authors' unedited code of published networks and compare every image with brute force.

    python scripts/published_code.py CLONES                                 under the interpreter that runs this
    python scripts/published_code.py CLONES --python build/versions/paper/bin/python      another (may be repeated)

CLONES holds a git clone of each repository of NETWORKS as `owner+name`; one that is absent is left out and said. Each
network runs in a process of its own, image by image; the oracle recomputes every convolution, linear layer and product
(tests/counting/brute_force.py). Writes reports/published/code.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "reports" / "published" / "code.md"
IMAGES = 2


@dataclass(frozen=True)
class Published:
    """A published network.

    Attributes:
        repository, address: owner/name and FILE.py:factory.
        shape: of an image.
        arguments: of the factory.
        package: the part of SpikingJelly that the code imports, where older versions do not have it.
    """

    repository: str
    address: str
    shape: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    package: str = ""


_CIFAR = {"img_size_h": 32, "img_size_w": 32, "in_channels": 3, "num_classes": 10, "patch_size": 4}
_SPIKFORMER = {**_CIFAR, "embed_dims": 384, "num_heads": 12, "mlp_ratios": 4, "depths": 4, "sr_ratios": 1}
_SDT = {**_CIFAR, "embed_dims": 256, "num_heads": 8, "mlp_ratios": 4, "depths": 2, "sr_ratios": 1}
_SDT |= {"pooling_stat": "0011"}  # conf/cifar10/2_256_300E_t4.yml
NETWORKS = {
    "Spikformer-4-384, CIFAR-10": Published(
        "ZK-Zhou/spikformer", "cifar10/model.py:spikformer", (3, 32, 32), {**_SPIKFORMER, "T": 4}
    ),
    "Spikformer-8-512, ImageNet": Published("ZK-Zhou/spikformer", "imagenet/model.py:spikformer", (3, 224, 224)),
    "Spikingformer-4-384, CIFAR-10": Published(
        "zhouchenlin2096/Spikingformer", "cifar10/model.py:Spikingformer", (3, 32, 32), {**_SPIKFORMER, "T": 4}
    ),
    "QKFormer-4-384, CIFAR-10": Published(
        "zhouchenlin2096/QKFormer", "cifar10/model.py:QKFormer", (3, 32, 32), {**_SPIKFORMER, "T": 4}
    ),
    "QKFormer-10-384, ImageNet": Published(
        "zhouchenlin2096/QKFormer", "imagenet/qkformer.py:QKFormer_10_384", (3, 224, 224), {"T": 4}
    ),
    "SDT-2-256, CIFAR-10": Published(
        "BICLab/Spike-Driven-Transformer", "model/spikeformer.py:sdt", (3, 32, 32), {**_SDT, "T": 4}
    ),
    "SDT-V2-8-384, ImageNet": Published(
        "BICLab/Spike-Driven-Transformer-V2",
        "classification/models.py:metaspikformer_8_384",
        (3, 224, 224),
    ),
    "STAtten-2-256, CIFAR-10": Published(
        "Intelligent-Computing-Lab-Yale/STAtten", "model/spikeformer.py:sdt", (3, 32, 32), {**_SDT, "T": 4}
    ),
    "SpikingResformer-CIFAR": Published(
        "xyshi2000/SpikingResformer",
        "models/spikingresformer.py:spikingresformer_cifar",
        (3, 32, 32),
        {"num_classes": 10, "T": 4},
        "spikingjelly.activation_based",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("--python", action="append", help="an interpreter with spikeattn's packages; may be repeated")
    parser.add_argument("--only", choices=NETWORKS, action="append", help="a network; may be repeated")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--child", choices=NETWORKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps({"ran": ran_on()} | compared(args.clones, NETWORKS[args.child])))
        return
    rows = []
    for python in args.python or [sys.executable]:
        for name in args.only or NETWORKS:
            if not folder(args.clones, NETWORKS[name]).is_dir():
                print(f"left out: {name}: no clone at {folder(args.clones, NETWORKS[name])}", file=sys.stderr)
                continue
            rows.append({"network": name, **in_child(python, args.clones, name)})
            print(json.dumps(rows[-1]), file=sys.stderr)
    args.page.write_text(page(rows))
    sys.exit(any("failed" in row or row.get("exact") is False for row in rows))


def folder(clones: Path, network: Published) -> Path:
    return clones / network.repository.replace("/", "+")


def in_child(python: str, clones: Path, name: str) -> dict[str, Any]:
    """One network in a process of its own: published files have the same names, `model.py` and `module`."""
    command = [python, Path(__file__), clones.resolve(), "--child", name]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    told = subprocess.run(command, env=env, capture_output=True, text=True)
    if told.returncode:
        return {"ran": [], "failed": told.stderr.strip().rpartition("\n")[2]}
    return json.loads(told.stdout.strip().rpartition("\n")[2])


def ran_on() -> list[str]:
    """Versions of Python, torch, SpikingJelly and timm."""
    return [".".join(map(str, sys.version_info[:3])), *(version(name) for name in ("torch", "spikingjelly", "timm"))]


def compared(clones: Path, network: Published) -> dict[str, Any]:
    """Counts of spikeattn beside those of brute force."""
    import spikeattn as sa
    from spikeattn.tracing.neurons import is_spiking_neuron
    from tests.counting import brute_force

    if network.package and not find_spec(network.package):
        return {"left_out": f"written for {network.package}, which this SpikingJelly does not have"}
    torch.manual_seed(0)  # of what the factory draws and `calibrated` keeps: biases, parameters of its own
    model = sa.load_model(f"{folder(clones, network)}/{network.address}", **network.arguments)
    images = brute_force.pictures(IMAGES, *network.shape)
    calibrated(model, images)
    begun = time.monotonic()
    profile = sa.profile(model, images.split(1))
    seconds = time.monotonic() - begun
    found = brute_force.amounts(profile)
    # A still image is charged once, though the code repeats it: its first layer ran at every step in the oracle.
    once: list[int] = []
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    handle = first.register_forward_hook(lambda m, args, out: once.append(out.shape[-1] * out.shape[-2]))
    expected = brute_force.by_brute_force(model, images, None, is_spiking_neuron, lambda weight: 1.0)
    handle.remove()
    repeated = first.weight.numel() * once[0] * (profile.time_steps - 1)
    return {
        "commit": subprocess.check_output(
            ["git", "-C", folder(clones, network), "rev-parse", "--short=10", "HEAD"], text=True
        ).strip(),
        "T": profile.time_steps,
        "sops": found["sop"],
        "macs": found["mac"],
        "exact": found["sop"] == [s for s, _ in expected] and found["mac"] == [m - repeated for _, m in expected],
        "expected": [[s, m - repeated] for s, m in expected],
        "uncounted": [str(each) for each in profile.ledger.uncounted],
        "seconds": round(seconds, 1),
    }


def calibrated(model: nn.Module, images: Tensor) -> None:
    """Weights k/64 and running statistics of these images, so that every layer fires as in a network in training."""
    from spikeattn.tracing.neurons import reset

    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv1d, nn.Linear)):
            bound = max(1, round(128 / layer.weight[0].numel() ** 0.5))
            layer.weight.data = torch.randint(-bound, bound + 1, layer.weight.shape, generator=generator) / 64
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = None  # the average of what was seen, not a tenth of it
    model.train()
    with torch.no_grad():
        model(images)
    model.eval()
    reset(model)


def page(rows: list[dict[str, Any]]) -> str:
    """reports/published/code.md."""
    lines = [
        "# Published code, unedited",
        "",
        f"Written by `python scripts/published_code.py CLONES` (see there): {IMAGES} random images of values k/16, "
        "weights k/64 and running statistics of these images. SOPs and MACs of every image beside brute force, under "
        "several versions. The counts say nothing about trained weights.",
        "",
        "| network | commit | Python | torch | SpikingJelly | timm | T | SOPs of the first image | MACs | equal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: list(NETWORKS).index(row["network"])):
        if "exact" in row:
            counts = [row["T"], f"{row['sops'][0]:,}", f"{row['macs'][0]:,}", "yes" if row["exact"] else "**no**"]
        else:
            counts = ["", "", "", row.get("left_out") or f"**fails**: {row['failed']}"]
        shown = [row["network"], row.get("commit", ""), *(row["ran"] or [""] * 4), *counts]
        lines.append("| " + " | ".join(map(str, shown)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
