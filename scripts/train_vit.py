"""Train the demo ViT, vit_digits, on scikit-learn's handwritten digits: some minutes on one CPU core.

    python scripts/train_vit.py --epochs 80 --seed 0 --threads 1

As `train_demo.py` does: the weights after the last epoch are written with a card, and the test split is looked at once.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from train_demo import BATCH, SMOOTHING, WARM_UP, WEIGHT_DECAY, train

import spikeattn as sa
from spikeattn.energy.statistics import wilson_interval
from spikeattn.models.checkpoints import SHIPPED
from spikeattn.models.vision import vit_digits

NAME = "vit_digits"
PEAK_RATE = 1e-3


@torch.no_grad()
def correct(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Images classified right."""
    return int((model.eval()(images).argmax(1) == labels).sum())


def card(model: nn.Module, right: int, n: int, args: argparse.Namespace) -> dict[str, str]:
    """What a reader must know about the weights; safetensors keeps strings only."""
    accuracy = wilson_interval(right, n)
    return {
        "model": NAME,
        "architecture": json.dumps(model.provenance["config"]),
        "data": "scikit-learn digits (UCI Optical Recognition of Handwritten Digits), 1x16x16, x/16",
        "split": "numpy RandomState(0).permutation(1797): first 1437 train, other 360 test",
        "augmentation": "shifts of -1, 0 or 1 pixel",
        "seed": str(args.seed),
        "epochs": str(args.epochs),
        "selection": "last epoch; the test split was not used for any choice",
        "optimiser": (
            f"AdamW, batch {BATCH}, peak learning rate {PEAK_RATE}, weight decay {WEIGHT_DECAY}, label smoothing "
            f"{SMOOTHING}, OneCycleLR (cosine, warm-up over {WARM_UP:.0%} of the steps)"
        ),
        "test_accuracy": f"{accuracy.value:.4f}",
        "test_correct": str(right),
        "test_images": str(n),
        "test_accuracy_wilson_95": f"[{accuracy.low:.4f}, {accuracy.high:.4f}]",
        "torch": torch.__version__,
        "command": f"python scripts/train_vit.py --epochs {args.epochs} --seed {args.seed} --threads {args.threads}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "licence": "MIT",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model vit_digits on scikit-learn's digits.")
    default = SHIPPED / f"{NAME}.safetensors"
    parser.add_argument("--out", type=Path, default=default, help="weights file (default: the one the package ships)")
    parser.add_argument("--epochs", type=int, default=80, help="default: 80")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and shifts (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; their number changes sums (default: 1)")
    args = parser.parse_args()
    if min(args.epochs, args.threads) < 1:
        parser.error("--epochs and --threads take whole numbers of at least 1")

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = vit_digits()
    train_split, test_split = (sa.open_dataset("digits", model, split=split) for split in ("train", "test"))
    train(model, train_split.images, train_split.labels, args.epochs, PEAK_RATE)

    right, n = correct(model, test_split.images, test_split.labels), len(test_split)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_name(args.out.name + ".partial")
    partial.write_bytes(save(model.state_dict(), metadata=card(model, right, n, args)))
    os.replace(partial, args.out)
    accuracy = wilson_interval(right, n)
    print(f"{args.out.name}: {args.out.stat().st_size:,} bytes")
    print(f"test accuracy {accuracy.value:.4f} ({right}/{n}), Wilson 95 % [{accuracy.low:.4f}, {accuracy.high:.4f}]")


if __name__ == "__main__":
    main()
