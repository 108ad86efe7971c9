"""One training run: timm's optimiser and schedule, a log per epoch, and checkpoints to resume from."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import BaseNode
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.storage import csv_text
from training.data import Training, loader_of, mixup_of, seed_of, test_tensors
from training.lif import written_out

BORN = time.monotonic()  # of the process, but for its first imports: a time budget counts from here
FREE = {"minutes", "stop_after", "plain_epochs", "test_every", "resume", "workers", "threads", "device"}
FREE |= {"out", "log", "state", "half"}
RECORDED = 64  # test images of which the firing rates are logged after every epoch
RESERVE = 35.0  # seconds of a time budget kept for the last evaluation and the files


class Run:
    """The state of a training: model, optimiser, average of weights, epoch, and what was logged."""

    def __init__(self, model: nn.Module, args: argparse.Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.spiking = args.model.startswith("sdt_")
        training = Training(sa.open_dataset(args.data, model, split="train"), args)
        self.loader = loader_of(training, args)
        if not len(self.loader):
            raise sa.SpikeattnError(f"{len(training)} training samples are fewer than --batch-size {args.batch_size}")
        half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(args.precision)
        images, labels = test_tensors(args.data, model, args.limit)
        self.test_images, self.test_labels = images.to(self.device), labels.to(self.device)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        if half is not None:
            keep_potentials_in_float32(self.model)
        self.mixup = mixup_of(args, model.num_classes)
        self.loss_of = nn.CrossEntropyLoss(label_smoothing=args.smoothing)
        self.soft_loss_of = nn.CrossEntropyLoss()  # Mixup smooths the labels itself
        self.optimiser = create_optimizer_v2(self.model, args.opt, args.lr, args.weight_decay)
        self.autocast = {"device_type": self.device.type, "dtype": half or torch.bfloat16, "enabled": half is not None}
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=args.precision == "fp16")
        self.average = ModelEmaV3(self.model, args.ema) if args.ema else None
        self.epochs, self.epoch, self.rows, self.seconds = args.epochs or 10**4, 0, [], []
        self.fast = torch.compile(self.model) if args.compile else self.model

    @property
    def trained(self) -> nn.Module:
        """The weights that are evaluated and written: the model's, or their average."""
        return self.average.module if self.average else self.model

    def train(self) -> bool:
        """Run the remaining epochs; False where --stop-after ended them early. A checkpoint is kept after each."""
        while self.epoch < self.epochs:
            start = time.monotonic()
            # On a CPU the gradient written out takes half of the time, at the same spikes.
            with written_out(self.model) if self.spiking and self.device.type == "cpu" else nullcontext():
                loss, rate = self._train_epoch()
            self.epoch += 1
            tested = self.epoch % self.args.test_every == 0 or self.epoch >= self.epochs
            right = self._right() if tested else None
            self.seconds.append(time.monotonic() - start)
            self._log(loss, rate, right)
            if self.args.minutes and len(self.seconds) > 1:
                self._fit_epochs()
            self._save()
            if self.args.stop_after and self._left(self.args.stop_after) < 1.5 * self.seconds[-1]:
                break
        return self.epoch >= self.epochs

    def _train_epoch(self) -> tuple[float, float]:
        """One pass over the training set: mean loss and the last learning rate."""
        per_epoch, args = len(self.loader), self.args
        schedule, _ = create_scheduler_v2(
            self.optimiser,
            args.sched,
            num_epochs=self.epochs,
            min_lr=args.min_lr,
            warmup_lr=args.lr / 100,
            warmup_epochs=args.warmup_epochs,
            step_on_epochs=False,
            updates_per_epoch=per_epoch,
        )
        self.model.train()
        self.loader.batch_sampler.epoch = self.epoch
        mixup = self.mixup if self.epoch < self.epochs - args.plain_epochs else None
        total = torch.zeros((), device=self.device)
        for step, (images, labels) in enumerate(self.loader):
            done = self.epoch * per_epoch + step
            schedule.step_update(done)
            images = images.to(self.device, non_blocking=True)
            targets = labels.to(self.device, non_blocking=True)
            if mixup:
                seed_of(args.seed, done)
                images, targets = mixup(images, targets)
            with torch.autocast(**self.autocast):
                logits = self.fast(images)
            loss = (self.soft_loss_of if mixup else self.loss_of)(logits.float(), targets)
            self.optimiser.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimiser)
            self.scaler.update()
            functional.reset_net(self.model)
            if self.average:
                self.average.update(self.model, step=done)
            total += loss.detach()
        rate = self.optimiser.param_groups[0]["lr"]
        return float(total) / per_epoch, rate

    @torch.no_grad()
    def _right(self) -> int:
        """Test images classified right, in the precision of the training."""
        self.trained.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        for images, labels in zip(self.test_images.split(500), self.test_labels.split(500), strict=True):
            with torch.autocast(**self.autocast):
                right += (self.trained(images).argmax(1) == labels).sum()
            functional.reset_net(self.trained)
        return int(right)

    def _log(self, loss: float, rate: float, right: int | None) -> None:
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "of": self.epochs if self.epochs < 10**4 else "",
            "train_loss": round(loss, 5),
            "learning_rate": f"{rate:.4g}",
            "test_accuracy": "" if right is None else right / len(self.test_labels),
            "seconds": round(self.seconds[-1], 2),
        }
        if self.spiking:
            row |= rates(self.trained, self.test_images[:RECORDED])
        self.rows.append(row)
        frame = pd.DataFrame(self.rows)
        csv_text.save(frame, self.args.log, "%.5g")
        print("  ".join(f"{key} {value}" for key, value in list(row.items())[:6]), flush=True)

    def _fit_epochs(self) -> None:
        """As many epochs as --minutes leave time for, judged by the last ones; the schedule ends with them."""
        once = statistics.median(self.seconds[-5:])
        self.epochs = self.epoch + max(int((self._left(self.args.minutes) - RESERVE) / once), 0)

    def _left(self, minutes: float) -> float:
        return minutes * 60 - (time.monotonic() - BORN)

    def _save(self) -> None:
        state = {
            "state_dict": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "progress": {"epoch": self.epoch, "epochs": self.epochs, "rows": self.rows},
            "settings": settings(self.args),
        }
        partial = Path(f"{self.args.state}.partial")
        torch.save(state, partial)
        os.replace(partial, self.args.state)

    def resume(self, file: Path) -> None:
        """Go on from a checkpoint of the same settings, with the optimiser as it was left."""
        try:
            state = torch.load(file, map_location=self.device, weights_only=True)
            then, now = state["settings"], settings(self.args)
        except (OSError, KeyError, RuntimeError) as error:
            raise sa.SpikeattnError(f"--resume {file}: not a checkpoint of this script ({error})") from error
        if differ := [f"{key} {then.get(key)!r} there, {now[key]!r} here" for key in now if then.get(key) != now[key]]:
            raise sa.SpikeattnError(f"--resume {file}: other settings ({'; '.join(differ)}); give the same ones")
        self.model.load_state_dict(state["state_dict"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        progress = state["progress"]
        self.epoch, self.rows = progress["epoch"], progress["rows"]
        if self.args.epochs is None:
            self.epochs = progress["epochs"]


def keep_potentials_in_float32(model: nn.Module) -> None:
    """Membrane potentials in float32 whatever the input's type, as SpikingJelly's Triton kernels want them.

    Left alone, a neuron takes the type of its input for its potential, and half precision there has no Triton kernel.
    """

    def states_of(inputs: tuple[Tensor, ...], states: tuple[Any, ...], step_mode: str) -> tuple[Any, ...]:
        x, v = inputs[0][0] if step_mode == "m" else inputs[0], states[0]
        fresh = torch.full_like(x, v, dtype=torch.float32) if isinstance(v, float) else v
        return fresh, *states[1:]

    for module in model.modules():
        if isinstance(module, BaseNode):
            module.materialize_states = states_of


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The options that decide what is learned; a resumed run must have the same."""
    return {key: value for key, value in sorted(vars(args).items()) if key not in FREE}


def rates(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Firing rate of every spike tensor over images and time steps, recorded in eval mode and full precision."""
    functional.reset_net(model)
    model.eval()
    with torch.no_grad(), sa.record(model) as recording:
        model(images)
    functional.reset_net(model)
    sums = recording.counts().groupby("tensor", sort=False)[["nonzero", "elements"]].sum()
    return (sums["nonzero"] / sums["elements"]).drop("input").to_dict()
