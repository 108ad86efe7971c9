"""Firing rates, SOPs and energy of every epoch, in a loop of your own: into a csv file and to TensorBoard.

    python examples/log_while_training.py --epochs 3
    tensorboard --logdir runs

Writes rates.csv, dead_neurons.csv and, where TensorBoard is installed, runs/digits.
"""

from __future__ import annotations

import argparse

import torch
from spikingjelly.activation_based import functional
from torch import nn

import spikeattn as sa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=1437, help="of the training split")
    args = parser.parse_args()
    torch.manual_seed(0)
    net = sa.create_model("sdt_digits")
    train, test = (sa.open_dataset("digits", net, split=split) for split in ("train", "test"))
    batches, unseen = (sa.make_loader(data, batch_size=64, limit=args.images) for data in (train, test))
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    training, testing = sa.FiringRate(net), sa.FiringRate(net, per_layer=True)
    writer = writer_of("runs/digits")
    for epoch in range(args.epochs):
        net.train()
        with training:  # the passes of the loop itself are counted: no second one
            for batch in batches:
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(batch.images), batch.labels).backward()
                optimiser.step()
                functional.reset_net(net)
        net.eval()
        with testing, torch.no_grad():
            for batch in unseen:
                net(batch.images)
                functional.reset_net(net)
        for prefix, rate in (("train/", training), ("test/", testing)):
            if writer is not None:
                rate.log(writer, epoch, prefix)
        testing.log("rates.csv", epoch)
        told, layers = testing.compute(), testing.epoch().layers()
        print(
            f"epoch {epoch}: mean firing rate {float(told['mean_rate']):.4f}, {float(told['sops_per_image']):,.0f} "
            f"SOPs and {float(told['energy_mj']) * 1e3:.3f} µJ per image, dead channels {layers['dead_channels'].sum()}"
        )
        training.reset()
        if epoch + 1 < args.epochs:
            testing.reset()
    layers.to_csv("dead_neurons.csv", index=False)


def writer_of(folder: str) -> object | None:
    """A SummaryWriter, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder)


if __name__ == "__main__":
    main()
