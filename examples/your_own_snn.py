"""Your own spiking network: firing rates per epoch while it trains, then its energy.

    python examples/your_own_snn.py --epochs 3

Writes rates_per_epoch.csv, and the run's counts to runs/mine.
"""

from __future__ import annotations

import argparse

import pandas as pd
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import spikeattn as sa

T = 4


class Net(nn.Module):
    """Two convolutions and a classifier on T = 4 repetitions of a still image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            layer.Conv2d(1, 16, 3, padding=1), layer.BatchNorm2d(16), neuron.LIFNode(), layer.MaxPool2d(2),
            layer.Conv2d(16, 32, 3, padding=1), layer.BatchNorm2d(32), neuron.LIFNode(), layer.MaxPool2d(2),
            layer.Flatten(), layer.Linear(32 * 4 * 4, 10),
        )  # fmt: skip
        functional.set_step_mode(self, "m")

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images.expand(T, *images.shape)).mean(0)  # [T, B, 10] -> [B, 10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=1437, help="of the training split")
    args = parser.parse_args()
    torch.manual_seed(0)
    net = Net()
    train, test = (sa.open_dataset("digits", split=split) for split in ("train", "test"))
    batches = sa.make_loader(train, batch_size=64, limit=args.images)
    probe = next(iter(sa.make_loader(test, batch_size=64, limit=64))).images
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    rates = []
    for epoch in range(args.epochs):
        net.train()
        for batch in batches:
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(batch.images), batch.labels).backward()
            optimiser.step()
            functional.reset_net(net)
        net.eval()
        with torch.no_grad(), sa.record(net) as rec:
            net(probe)
        functional.reset_net(net)
        sums = rec.counts().groupby("tensor", sort=False)[["nonzero", "elements"]].sum()
        rates.append((sums["nonzero"] / sums["elements"]).rename(epoch + 1))
    pd.DataFrame(rates).rename_axis("epoch").to_csv("rates_per_epoch.csv")

    profile = sa.profile(net, sa.make_loader(test, batch_size=60, limit=120), out="runs/mine")
    print(profile.energy().to_markdown(index=False))
    print(f"accuracy {profile.over_time()['accuracy'].iloc[-1]:.3f}, energy {profile.energy().total}")


if __name__ == "__main__":
    main()
