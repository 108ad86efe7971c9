"""Fine-tune the digits SDT with global average pooling and with BR-NPA, and compare them: minutes on one CPU core.

    python scripts/train_br_npa.py --epochs 2 --seed 0

Both start from the shipped weights and see the same batches, shifts and number of steps; beside them stand the shipped
model as it is and BR-NPA attached to it without training, the controls that tell the pooling from the fine-tuning. The
test split is looked at once per model, after the last epoch. Writes reports/br_npa/br_npa.csv and br_npa.md, whose
words follow from the table (`br_npa_page.py`).
"""

from __future__ import annotations

import argparse
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from br_npa_page import AVERAGE, BR_NPA, SHIPPED, UNTRAINED, page
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
    shipped, untrained = deepcopy(average), deepcopy(ours)
    seconds = {SHIPPED: 0.0, UNTRAINED: 0.0}
    for name, model in ((AVERAGE, average), (BR_NPA, ours)):
        torch.manual_seed(args.seed)
        start = time.perf_counter()
        train(model, digits.images, digits.labels, args.epochs)
        seconds[name] = time.perf_counter() - start

    test = sa.open_dataset("digits", average)
    images = test.images[: args.images]
    every = (test.images, test.labels, args.steps)
    found = sa.br_npa.explain(ours, images)
    noise = random_map(images, found.norms.shape[1:])
    rows = []
    for name, model in ((SHIPPED, shipped), (AVERAGE, average)):
        rows += measure(name, model, {"norm": norm_map(model, images), "random": noise}, *every)
    for name, model in ((UNTRAINED, untrained), (BR_NPA, ours)):
        explained = sa.br_npa.explain(model, images)
        maps = {"maps": explained.saliency, "norm": explained.norms, "random": noise}
        rows += measure(name, model, maps, *every)
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


if __name__ == "__main__":
    main()
