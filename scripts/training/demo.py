"""The recipe of the small models that the package ships for scikit-learn's digits: options, training, card, file.

The weights after the last epoch are written, with a card in their metadata; the test split is looked at once, at the
end. The same command on the same machine and the same versions gives the same weights.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.nn.functional import pad

from spikeattn.models.checkpoints import SHIPPED
from spikeattn.stats.intervals import wilson_interval

PEAK_RATE = 3e-3  # of the Spike-driven Transformers
BATCH, WARM_UP, WEIGHT_DECAY, SMOOTHING = 64, 0.1, 0.05, 0.1


def options(name: str, epochs: int) -> argparse.Namespace:
    """Options of the command line; the number of threads and the seed are set with them."""
    parser = argparse.ArgumentParser(description=f"Train the demo model {name} on scikit-learn's digits.")
    default = SHIPPED / f"{name}.safetensors"
    parser.add_argument("--out", type=Path, default=default, help="weights file (default: the one the package ships)")
    parser.add_argument("--epochs", type=int, default=epochs, help=f"default: {epochs}")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and shifts (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; their number changes sums (default: 1)")
    args = parser.parse_args()
    if min(args.epochs, args.threads) < 1:
        parser.error("--epochs and --threads take whole numbers of at least 1")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args


def shifted(images: Tensor) -> Tensor:
    """Every image moved by -1, 0 or 1 pixel in each direction at random, zeros coming in: [B, C, H, W] -> same."""
    B, _, H, W = images.shape
    windows = pad(images, (1, 1, 1, 1)).unfold(2, H, 1).unfold(3, W, 1)  # [B, C, 3, 3, H, W]
    down, right = torch.randint(3, (2, B))
    return windows[torch.arange(B), :, down, right]


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    peak_rate: float = PEAK_RATE,
    loss_of: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> None:
    """AdamW, a warm-up and a cosine schedule, SpikingJelly's default surrogate gradient (sigmoid).

    loss_of: of the images and labels of a batch; by default the cross entropy of shifted images.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, peak_rate, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak_rate, steps, pct_start=WARM_UP)
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    model.train()
    start = time.monotonic()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(BATCH):
            if loss_of is None:
                loss = cross_entropy(model(shifted(images[batch])), labels[batch])
            else:
                loss = loss_of(images[batch], labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            functional.reset_net(model)
            total += loss.item() * len(batch)
        mean, seconds = total / len(images), time.monotonic() - start
        print(f"epoch {epoch + 1:3d}/{epochs}  loss {mean:.4f}  {seconds:5.0f} s", flush=True)
    model.eval()


def card(
    args: argparse.Namespace, script: str, name: str, config: dict[str, Any], peak_rate: float, right: int, n: int,
    **more: str,
) -> dict[str, str]:  # fmt: skip
    """What a reader must know about the weights; safetensors keeps strings only. `more` adds to it and replaces."""
    accuracy = wilson_interval(right, n)
    return {
        "model": name,
        "architecture": json.dumps(config),
        "data": "scikit-learn digits (UCI Optical Recognition of Handwritten Digits), 1x16x16, x/16",
        "split": "numpy RandomState(0).permutation(1797): first 1437 train, other 360 test",
        "augmentation": "shifts of -1, 0 or 1 pixel",
        "seed": str(args.seed),
        "epochs": str(args.epochs),
        "selection": "last epoch; the test split was not used for any choice",
        "optimiser": (
            f"AdamW, batch {BATCH}, peak learning rate {peak_rate}, weight decay {WEIGHT_DECAY}, label smoothing "
            f"{SMOOTHING}, OneCycleLR (cosine, warm-up over {WARM_UP:.0%} of the steps)"
        ),
        "test_accuracy": f"{accuracy.value:.4f}",
        "test_correct": str(right),
        "test_images": str(n),
        "test_accuracy_wilson_95": f"[{accuracy.low:.4f}, {accuracy.high:.4f}]",
        "torch": torch.__version__,
        "command": f"python scripts/{script} --epochs {args.epochs} --seed {args.seed} --threads {args.threads}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "licence": "MIT",
    } | more


def write(out: Path, model: nn.Module, metadata: dict[str, str]) -> None:
    """The weights file, all or nothing; its size and the card's accuracy are printed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_bytes(save(model.state_dict(), metadata=metadata))
    os.replace(partial, out)
    right, n, interval = (metadata[key] for key in ("test_correct", "test_images", "test_accuracy_wilson_95"))
    print(f"{out.name}: {out.stat().st_size:,} bytes")
    print(f"test accuracy {metadata['test_accuracy']} ({right}/{n}), Wilson 95 % {interval}")
