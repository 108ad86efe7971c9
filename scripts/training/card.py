"""What a reader must know about trained weights, written into their file; and the test that the card reports."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.models import implementation_in_use
from spikeattn.stats.intervals import wilson_interval
from training.run import Run, settings

SELECTION = "last epoch; the test split was not used for any choice"


def write_weights(run: Run, args: argparse.Namespace) -> dict[str, str]:
    """Write the weights with their card, and return the card.

    The card's accuracy is that of the file: its weights, rounded to float16 with --half, in float32 arithmetic.
    """
    model = run.trained.eval()
    if args.half:
        model.load_state_dict({key: _halved(tensor) for key, tensor in model.state_dict().items()})
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    right, n, rate = measure(model, args)
    card = card_of(run, args, right, n, rate)
    state = {key: tensor.cpu().contiguous() for key, tensor in model.state_dict().items()}
    if args.half:
        state = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    partial = Path(f"{args.out}.partial")
    partial.write_bytes(save(state, metadata=card))
    os.replace(partial, args.out)
    return card


def measure(model: nn.Module, args: argparse.Namespace) -> tuple[int, int, dict[str, float]]:
    """Test images classified right, their number, and the firing rates over all of them (none without spikes)."""
    loader = sa.make_loader(sa.open_dataset(args.data, model, split="test"), 100, sample=args.limit)
    if not args.model.startswith("sdt_"):
        return *_right(model, loader), {}
    profile = sa.profile(model, loader)
    rows, table = profile.counts.rows, profile.rates()
    right = int((rows[f"pred_{profile.time_steps}"] == rows["label"]).sum())
    mean = table[table["t"].astype(str) == "mean"].set_index("tensor")["nonzero_rate"]
    return right, len(rows), mean.drop("input").to_dict()


@torch.no_grad()
def _right(model: nn.Module, loader: torch.utils.data.DataLoader) -> tuple[int, int]:
    device, right, n = next(model.parameters()).device, 0, 0
    for batch in loader:
        right += int((model(batch.images.to(device)).argmax(1).cpu() == batch.labels).sum())
        n += len(batch.labels)
    return right, n


def card_of(run: Run, args: argparse.Namespace, right: int, n: int, rate: dict[str, float]) -> dict[str, str]:
    """Strings only, as safetensors wants them."""
    accuracy, data = wilson_interval(right, n), sa.open_dataset(args.data, run.model, split="test")
    frame = pd.DataFrame(run.rows)
    return {
        "model": args.model,
        "architecture": json.dumps(run.model.config),
        "data": f"{data.name}: {data.preparation()['transform']}",
        "split": f"train -> test, {len(run.loader.dataset)} training samples, incomplete batches left out",
        "augmentation": augmentation(args),
        "seed": str(args.seed),
        "epochs": str(run.epoch),
        "selection": SELECTION,
        "optimiser": (
            f"timm {args.opt}, batch {args.batch_size}, peak learning rate {args.lr:g}, weight decay "
            f"{args.weight_decay:g}, {args.sched} schedule, {args.warmup_epochs} warm-up epochs, label smoothing "
            f"{args.smoothing:g}{f', average of weights {args.ema:g}' if args.ema else ''}, {args.precision}"
        ),
        "settings": json.dumps(settings(args) | {"data": without_path(args.data)}),
        "test_accuracy": f"{accuracy.value:.4f}",
        "test_correct": str(right),
        "test_images": str(n),
        "test_accuracy_wilson_95": f"[{accuracy.low:.4f}, {accuracy.high:.4f}]",
        "mean_firing_rates": json.dumps({name: round(value, 5) for name, value in rate.items()}),
        "training_seconds": str(round(float(frame["seconds"].sum()))),
        "device": torch.cuda.get_device_name() if run.device.type == "cuda" else "CPU",
        "neurons": implementation_in_use(run.device) if run.spiking else "none",
        "torch": torch.__version__,
        "timm": timm.__version__,
        "spikingjelly": version("spikingjelly"),
        "command": f"python scripts/train.py {shlex.join(map(without_path, sys.argv[1:]))}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "licence": "MIT",
    }


def augmentation(args: argparse.Namespace) -> str:
    parts = [f"shifts of up to {args.shift} pixels"] if args.shift else []
    if args.data.startswith("cifar10:"):
        parts += [f"mirrored with probability {args.hflip:g}", f"RandAugment {args.auto_augment}"]
        parts += [f"random erasing {args.reprob:g}"]
    if args.mixup or args.cutmix:
        parts += [f"Mixup {args.mixup:g} and CutMix {args.cutmix:g} in {args.mixup_prob:.0%} of the batches"]
        parts += [f"neither in the last {args.plain_epochs} epochs"] if args.plain_epochs else []
    return ", ".join(parts) or "none"


def without_path(word: str) -> str:
    """A word of the command without the folders of this machine: NAME:PATH for data, a file's name for a file."""
    name, colon, path = word.partition(":")
    return f"{name}:PATH" if colon and path else word.rpartition("/")[2]


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half().float() if tensor.is_floating_point() else tensor
