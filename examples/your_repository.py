"""Your own spiking transformer, from its file to the full report: rates, structure, energy, its twin, where it looks.

    python examples/your_repository.py --epochs 15

This file is the repository: `build` below is the factory, and nothing in the network is named after what it does.
Writes mine.pt (weights), names.toml (the structure, to correct), the run to runs/mine and the page to report/. On the
command line the last part is

    spikeattn report --model your_repository.py:build --model-arg depth=2 --checkpoint mine.pt --data digits \\
        --limit 100 --attend 2 --out report
"""

from __future__ import annotations

import argparse

import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import spikeattn as sa


def spikes() -> nn.Module:
    return neuron.LIFNode(v_threshold=0.2, detach_reset=True, step_mode="m")


class Mixer(nn.Module):
    """Spiking attention a (b^T c) of heads, and two layers behind it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.s = nn.ModuleList([spikes() for _ in range(7)])
        self.w = nn.ModuleList([nn.Linear(dim, dim) for _ in range(4)])
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:  # [T, B, N, D]
        x0 = self.s[0](x)
        a, b, c = (
            s(w(x0)).unflatten(-1, (self.heads, -1)).transpose(2, 3)
            for s, w in zip(self.s[1:4], self.w[:3], strict=True)
        )
        mixed = (a @ (b.transpose(-1, -2) @ c) * 0.125).transpose(2, 3).flatten(3)
        x = x + self.w[3](self.s[4](mixed))
        return x + self.down(self.s[6](self.up(self.s[5](x))))


class Net(nn.Module):
    """Digits of 16 x 16 pixels as 8 x 8 tokens, `depth` mixers, a classifier; T repetitions of a still image."""

    def __init__(self, depth: int, dim: int, heads: int, T: int) -> None:
        super().__init__()
        self.T, self.cut = T, nn.Conv2d(1, dim, 4, stride=2, padding=1)
        self.place = nn.Parameter(0.1 * torch.randn(64, dim))
        self.body = nn.Sequential(*[Mixer(dim, heads) for _ in range(depth)])
        self.last, self.out = spikes(), nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:  # [B, 1, 16, 16] -> [B, 10]
        tokens = self.cut(images).flatten(2).transpose(1, 2) + self.place
        return self.out(self.last(self.body(tokens.expand(self.T, -1, -1, -1)))).mean((0, 2))


def build(depth: int = 2, dim: int = 32, heads: int = 4, T: int = 4) -> Net:
    """The network; what --model FILE.py:build calls."""
    return Net(depth, dim, heads, T)


def train(epochs: int, images: int) -> None:
    torch.manual_seed(0)
    net = build()
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in sa.make_loader(sa.open_dataset("digits", split="train"), batch_size=64, limit=images):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(batch.images), batch.labels).backward()
            optimiser.step()
            functional.reset_net(net)
    torch.save(net.state_dict(), "mine.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--images", type=int, default=1437, help="of the training split")
    args = parser.parse_args()
    train(args.epochs, args.images)

    model = sa.load_model(f"{__file__}:build", checkpoint="mine.pt", depth=2)
    dataset = sa.open_dataset("digits", split="test")
    loader = sa.make_loader(dataset, batch_size=50, limit=100)
    profile = sa.profile(model, loader, out="runs/mine")
    print(profile.structure.table().to_string(index=False, na_rep="-"))
    profile.structure.write_names("names.toml", force=True)
    print(profile.energy().to_markdown(index=False))
    print(f"\n{sa.compare(profile).sentences[0]}")
    images = next(iter(loader)).images[:2]
    attention = sa.attend(model, images, "pixel", 100, "attention", layer="all")
    print(sa.report(profile, attention=attention, images=images, out="report").page)


if __name__ == "__main__":
    main()
