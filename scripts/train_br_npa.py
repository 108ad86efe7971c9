"""Fine-tune the digits SDT with global average pooling and with BR-NPA, and compare them: minutes on one CPU core.

    python scripts/train_br_npa.py --epochs 2 --seed 0

Both start from the shipped weights and see the same batches, shifts and number of steps. The test split is looked at
once, after the last epoch. Writes reports/br_npa/br_npa.csv and br_npa.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training.demo import train

import spikeattn as sa
from spikeattn.attention import faithfulness
from spikeattn.stats.intervals import wilson_interval
from spikeattn.storage import csv_text
from spikeattn.tracing.neurons import reset


def norm_map(model: nn.Module, images: Tensor) -> Tensor:
    """Length of every token's firing-rate vector, the map that needs no method: [B, h, w]."""
    return sa.br_npa.explain(sa.br_npa.attach(model), images).norms


def random_map(images: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.rand(len(images), *size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor, batch: int = 60) -> Tensor:
    parts = []
    for part in images.split(batch):
        reset(model)
        parts.append(model(part))
    reset(model)
    return torch.cat(parts)


def seconds_per_image(model: nn.Module, images: Tensor, repeats: int = 5) -> float:
    """Fastest of some passes over one batch, per image."""
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        logits_of(model, images)
        spent.append(time.perf_counter() - start)
    return min(spent) / len(images)


class Allocated(TorchDispatchMode):
    """Bytes of every new tensor that operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.seen, self.kept = 0, set(), []  # kept alive, so that no address comes twice

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen |= {x.untyped_storage().data_ptr() for x in tree_leaves(args) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in self.seen:
                self.bytes += x.untyped_storage().nbytes()
                self.kept.append(x)
        return out


@torch.no_grad()
def allocated_by(pool: nn.Module, features: Tensor) -> int:
    """Bytes of all tensors that a pooling makes for one image."""
    with Allocated() as count:
        pool(features[:1])
    return count.bytes


def measure(
    name: str, model: nn.Module, maps: dict[str, Tensor], images: Tensor, labels: Tensor, steps: int
) -> list[dict]:
    """One row per kind of map of the first images: accuracy of the model on all, faithfulness of the map for it."""
    right = int((logits_of(model, images).argmax(1) == labels).sum())
    interval = wilson_interval(right, len(labels))
    common = {"head": name, "correct": right, "images": len(labels), "accuracy": interval.value}
    common |= {"accuracy_low": interval.low, "accuracy_high": interval.high}
    common["ms_per_image"] = 1000 * seconds_per_image(model, images[:60])
    rows = []
    for kind, saliency in maps.items():
        shown = images[: len(saliency)]
        dauc = faithfulness.deletion(model, shown, saliency, fill="zero", steps=steps).auc
        iauc = faithfulness.insertion(model, shown, saliency, fill="blur", steps=steps).auc
        row = common | {"map": kind, "dauc": dauc.mean(), "dauc_se": dauc.std(ddof=1) / np.sqrt(len(dauc))}
        row |= {"iauc": iauc.mean(), "iauc_se": iauc.std(ddof=1) / np.sqrt(len(iauc))}
        rows.append(row | {"gini": faithfulness.gini(saliency).mean()})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="BR-NPA against global average pooling on scikit-learn's digits.")
    parser.add_argument("--epochs", type=int, default=2, help="of each of the two (default: 2)")
    parser.add_argument("--maps", type=int, default=3, help="vectors per image, K (default: 3)")
    parser.add_argument("--images", type=int, default=60, help="test images for the curves (default: 60)")
    parser.add_argument("--steps", type=int, default=16, help="points of a curve after the first (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and shifts (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("reports/br_npa"), help="default: reports/br_npa")
    args = parser.parse_args()
    if min(args.epochs, args.maps, args.images, args.steps) < 1:
        parser.error("--epochs, --maps, --images and --steps take whole numbers of at least 1")

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    average = sa.create_model("sdt_digits", pretrained=True)
    ours = sa.br_npa.attach(average, args.maps)
    digits = sa.open_dataset("digits", average, split="train")
    seconds = {}
    for name, model in (("average", average), ("br_npa", ours)):
        torch.manual_seed(args.seed)
        start = time.perf_counter()
        train(model, digits.images, digits.labels, args.epochs)
        seconds[name] = time.perf_counter() - start

    test = sa.open_dataset("digits", average)
    images = test.images[: args.images]
    every = (test.images, test.labels, args.steps)
    found = sa.br_npa.explain(ours, images)
    noise = random_map(images, found.norms.shape[1:])
    rows = measure("average", average, {"norm": norm_map(average, images), "random": noise}, *every)
    rows += measure("br_npa", ours, {"maps": found.saliency, "norm": found.norms, "random": noise}, *every)
    table = pd.DataFrame(rows)
    table["train_seconds"] = table["head"].map(seconds)

    tokens, channels = found.norms[0].numel(), average.config["embed_dim"]
    macs = sa.br_npa.head_macs(channels, tokens, args.maps, average.num_classes)
    sparsity = faithfulness.br_npa_sparsity(found.maps, found.norms)
    features = torch.rand(1, channels, *found.norms.shape[1:])
    memory = {
        "br_npa": allocated_by(ours.pool, features),
        "average": allocated_by(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), features),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    csv_text.save(table, args.out / "br_npa.csv", "%.5f")
    (args.out / "br_npa.md").write_text(page(args, table, macs, sparsity, memory, found, tokens), encoding="utf-8")


def page(args, table, macs, sparsity, memory, found, tokens) -> str:
    accuracy = "{0.accuracy:.4f} [{0.accuracy_low:.4f}, {0.accuracy_high:.4f}]"
    curves = "{0.dauc:.3f} ± {0.dauc_se:.3f} | {0.iauc:.3f} ± {0.iauc_se:.3f} | {0.gini:.3f}"
    cells = "| {0.head} | " + accuracy + " | {0.ms_per_image:.2f} | {0.train_seconds:.0f} | {0.map} | " + curves + " |"
    alike = int((found.maps.diff(dim=1).abs().amax((1, 2, 3)) < 1e-6).sum())
    lines = [
        "# BR-NPA against global average pooling on scikit-learn's digits",
        "",
        f"`python scripts/train_br_npa.py --epochs {args.epochs} --maps {args.maps} --images {args.images} "
        f"--steps {args.steps} --seed {args.seed}`, one CPU thread, torch {torch.__version__}.",
        "",
        f"Both are fine-tuned for {args.epochs} epochs from the shipped weights of sdt_digits (SDT-2-64, T=4, {tokens} "
        "tokens), which were trained with average pooling: one seed, a start that favours average pooling. Accuracy "
        "on all test images with its Wilson 95 % interval. DAUC (delete to zero, low is good) and IAUC (reveal from a "
        f"blur, high is good) on {args.images} of them in {args.steps} steps, for the model's own prediction, with the "
        "standard error over images.",
        "",
        "| head | accuracy | ms per image | training, s | map | DAUC | IAUC | Gini |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(cells.format(row) for row in table.itertuples()),
        "",
        f"BR-NPA's sparsity (lower is sparser): {sparsity.mean():.3f} over the {args.maps} maps; silent images: "
        f"{int(found.silent.sum())}; images whose maps are all alike: {alike}.",
        "",
        f"MACs of the BR-NPA head per image: {macs['total']:,} (norms {macs['norms']:,}, cosines {macs['cosines']:,}, "
        f"sums {macs['sums']:,}, linear {macs['linear']:,}), real multiply-accumulates on firing rates, once an image.",
        "",
        f"Memory the pooling allocates for one image, in all: {memory['br_npa']:,} bytes; average pooling "
        f"{memory['average']:,} bytes.",
        "",
        "Average pooling has no map of its own: `norm` is the length of every token's firing-rate vector when its last "
        "LIF fires per token; `random` is one draw of noise; `maps` is the sum over the K maps of weight x norm. Times "
        "were taken while other programs ran. A difference below two standard errors shows nothing: where `maps` is no "
        "better than `random`, the maps are not shown to be faithful on these images.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
