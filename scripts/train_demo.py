"""Train the demo model, sdt_digits, on scikit-learn's handwritten digits: some minutes on one CPU core.

    python scripts/train_demo.py --epochs 40 --seed 0 --threads 1

The weights after the last epoch are written, with a card in their metadata; the test split is looked at once, at the
end. The same command on the same machine and the same versions gives the same weights.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save
from spikingjelly.activation_based import functional
from torch import nn
from torch.nn.functional import pad

import spikeattn as sa
from spikeattn.energy.statistics import wilson_interval
from spikeattn.models.checkpoints import SHIPPED

NAME = "sdt_digits"
BATCH, PEAK_RATE, WARM_UP, WEIGHT_DECAY, SMOOTHING = 64, 3e-3, 0.1, 0.05, 0.1


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Every image moved by -1, 0 or 1 pixel in each direction at random, zeros coming in: [B, C, H, W] -> same."""
    B, _, H, W = images.shape
    windows = pad(images, (1, 1, 1, 1)).unfold(2, H, 1).unfold(3, W, 1)  # [B, C, 3, 3, H, W]
    down, right = torch.randint(3, (2, B))
    return windows[torch.arange(B), :, down, right]


def train(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int, peak_rate: float = PEAK_RATE
) -> None:
    """AdamW, a warm-up and a cosine schedule, SpikingJelly's default surrogate gradient (sigmoid)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, peak_rate, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak_rate, steps, pct_start=WARM_UP)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    model.train()
    start = time.monotonic()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = loss_of(model(shifted(images[batch])), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            functional.reset_net(model)
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1:3d}/{epochs}  loss {total / len(images):.4f}  {time.monotonic() - start:5.0f} s")
    model.eval()


def evaluate(model: nn.Module) -> sa.Profile:
    """The test split through the model, with every spike counted."""
    return sa.profile(model, sa.make_loader(sa.open_dataset("digits", model)))


def card(model: nn.Module, right: int, n: int, args: argparse.Namespace) -> dict[str, str]:
    """What a reader must know about the weights; safetensors keeps strings only."""
    accuracy = wilson_interval(right, n)
    return {
        "model": NAME,
        "architecture": json.dumps(model.config),
        "data": "scikit-learn digits (UCI Optical Recognition of Handwritten Digits), 1x16x16, x/16",
        "split": "numpy RandomState(0).permutation(1797): first 1437 train, other 360 test",
        "augmentation": "shifts of -1, 0 or 1 pixel",
        "seed": str(args.seed),
        "epochs": str(args.epochs),
        "selection": "last epoch; the test split was not used for any choice",
        "optimiser": (
            f"AdamW, batch {BATCH}, peak learning rate {PEAK_RATE}, weight decay {WEIGHT_DECAY}, label smoothing "
            f"{SMOOTHING}, OneCycleLR (cosine, warm-up over {WARM_UP:.0%} of the steps), sigmoid surrogate gradient"
        ),
        "test_accuracy": f"{accuracy.value:.4f}",
        "test_correct": str(right),
        "test_images": str(n),
        "test_accuracy_wilson_95": f"[{accuracy.low:.4f}, {accuracy.high:.4f}]",
        "torch": torch.__version__,
        "spikingjelly": version("spikingjelly"),
        "command": f"python scripts/train_demo.py --epochs {args.epochs} --seed {args.seed} --threads {args.threads}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "licence": "MIT",
    }


def correct(profile: sa.Profile) -> tuple[int, int]:
    """Images classified right after the last time step, and all images."""
    rows = profile.counts.rows
    return int((rows[f"pred_{profile.time_steps}"] == rows["label"]).sum()), len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model sdt_digits on scikit-learn's digits.")
    default = SHIPPED / f"{NAME}.safetensors"
    parser.add_argument("--out", type=Path, default=default, help="weights file (default: the one the package ships)")
    parser.add_argument("--epochs", type=int, default=40, help="default: 40")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and shifts (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; their number changes sums (default: 1)")
    args = parser.parse_args()
    if min(args.epochs, args.threads) < 1:
        parser.error("--epochs and --threads take whole numbers of at least 1")

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = sa.create_model(NAME)
    digits = sa.open_dataset("digits", model, split="train")
    train(model, digits.images, digits.labels, args.epochs)

    right, n = correct(evaluate(model))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_name(args.out.name + ".partial")
    partial.write_bytes(save(model.state_dict(), metadata=card(model, right, n, args)))
    os.replace(partial, args.out)

    profile = evaluate(sa.create_model(NAME, checkpoint=args.out))
    if correct(profile) != (right, n):
        raise SystemExit("error: the written weights classify otherwise than the trained model")
    neurons = [tensor.name for tensor in profile.ledger.tensors if tensor.maker == "neuron"]
    rates = profile.rates().pivot(index="tensor", columns="t", values="nonzero_rate").loc[neurons]
    print(rates.to_string(float_format="{:.4f}".format))
    accuracy = wilson_interval(right, n)
    print(f"{args.out.name}: {args.out.stat().st_size:,} bytes")
    print(f"test accuracy {accuracy.value:.4f} ({right}/{n}), Wilson 95 % [{accuracy.low:.4f}, {accuracy.high:.4f}]")


if __name__ == "__main__":
    main()
