"""Firing rates, SOPs and energy of every epoch, by a trainer of Lightning: whatever logger it has gets them.

    pip install 'spikeattn[training]'
    python examples/lightning_monitor.py --epochs 3

Writes logs/digits/version_0/metrics.csv, and dead_neurons.csv from the last epoch.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from spikingjelly.activation_based import functional
from torch import Tensor, nn

import spikeattn as sa


class Digits(LightningModule):
    """The small Spike-driven Transformer, trained as any other network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = sa.create_model("sdt_digits")

    def loss(self, batch: Any) -> Tensor:
        functional.reset_net(self.net)
        return nn.functional.cross_entropy(self.net(batch.images), batch.labels)

    def training_step(self, batch: Any, number: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("val/loss", self.loss(batch), batch_size=len(batch.labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=1437, help="of each split, at most")
    args = parser.parse_args()
    torch.manual_seed(0)
    digits, monitor = Digits(), sa.SpikeMonitor(per_layer=True)
    train, test = (
        sa.make_loader(sa.open_dataset("digits", digits.net, split=split), batch_size=64, limit=args.images)
        for split in ("train", "test")
    )
    trainer = Trainer(
        max_epochs=args.epochs, accelerator="cpu", devices=1, callbacks=[monitor], logger=CSVLogger("logs", "digits"),
        log_every_n_steps=1, enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(digits, train, test)
    for name in ("train/mean_rate", "val/mean_rate", "val/sops_per_image", "val/energy_mj"):
        print(f"{name} {float(trainer.callback_metrics[name]):.6g}")
    monitor.epoch("val").layers().to_csv("dead_neurons.csv", index=False)


if __name__ == "__main__":
    main()
