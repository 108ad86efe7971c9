"""A small spiking language model: trained for a minute on text that ships with Python, then what a token of it costs.

    python examples/spiking_language_model.py --steps 700

The text is the language reference that `help()` shows (pydoc_data.topics, 0.5 million characters, under Python's own
licence); a token is a character, and what the run counts as an "image" is a sequence of 32 of them. The network has no
classes, so the run holds no accuracy and says why. Writes the run to runs/language.
"""

from __future__ import annotations

import argparse
import math
from pydoc_data.topics import topics

import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import spikeattn as sa

T, LENGTH = 4, 32  # time steps, characters of a sequence


def spikes() -> nn.Module:
    return neuron.LIFNode(v_threshold=0.5, detach_reset=True, step_mode="m")


class Block(nn.Module):
    """Causal attention of spikes, (q k^T) v without a softmax, and two layers; every layer receives spikes."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, 0.125
        self.lif, self.q_lif, self.k_lif, self.v_lif, self.sum_lif, self.up_lif, self.down_lif = (
            spikes() for _ in range(7)
        )
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(2, 3)  # [T, B, L, D] -> [T, B, heads, L, d]

    def forward(self, x: Tensor) -> Tensor:  # [T, B, L, D]
        s = self.lif(x)
        q, k, v = (self.split(f(w(s))) for f, w in ((self.q_lif, self.q), (self.k_lif, self.k), (self.v_lif, self.v)))
        scores = (q @ k.transpose(-1, -2)).tril()  # no character sees those behind it
        x = x + self.out(self.sum_lif((scores @ v * self.scale).transpose(2, 3).flatten(3)))
        return x + self.down(self.down_lif(self.up(self.up_lif(x))))


class LanguageModel(nn.Module):
    """[B, L] numbers of characters -> [B, L, characters]: logits of the next one at every place."""

    def __init__(self, characters: int, dim: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(characters, dim), nn.Parameter(0.1 * torch.randn(LENGTH, dim))
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)])
        self.lif, self.head = spikes(), nn.Linear(dim, characters)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens) + self.places[: tokens.shape[1]]
        x = self.blocks(x.expand(T, *x.shape))  # the same sequence at every time step
        return self.head(self.lif(x)).mean(0)


def sequences(text: Tensor, number: int, seed: int) -> Tensor:
    """[number, LENGTH + 1] from random places of a text."""
    starts = torch.randint(len(text) - LENGTH - 1, (number, 1), generator=torch.Generator().manual_seed(seed))
    return text[starts + torch.arange(LENGTH + 1)]


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    """Cross-entropy of the next character, in nats."""
    functional.reset_net(model)
    return nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=700, help="of training, 16 sequences each")
    parser.add_argument("--sequences", type=int, default=64, help="that are profiled, of text that it was not shown")
    args = parser.parse_args()
    torch.manual_seed(0)
    text = "\n".join(topics[name] for name in sorted(topics))
    numbers = {character: i for i, character in enumerate(sorted(set(text)))}
    encoded = torch.tensor([numbers[character] for character in text])
    train, test = encoded.split([len(encoded) * 9 // 10, len(encoded) - len(encoded) * 9 // 10])
    held = sequences(test, args.sequences, seed=0)

    model = LanguageModel(len(numbers))
    print(f"{len(text):,} characters, {len(numbers)} different; {sum(p.numel() for p in model.parameters()):,} weights")
    with torch.no_grad():
        print(f"before training {loss_of(model, held) / math.log(2):.2f} bits per character")
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=args.steps)
    for step in range(args.steps):
        optimiser.zero_grad()
        loss_of(model, sequences(train, 16, seed=step + 1)).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        print(f"after {args.steps} steps {loss_of(model, held) / math.log(2):.2f} bits per character")
    functional.reset_net(model)

    batches = [(batch[:, :-1], batch[:, 1:]) for batch in held.split(16)]
    profile = sa.profile(model, batches, out="runs/language")
    print(f"accuracy: {profile.no_accuracy}")
    rates = profile.rates()
    neurons = rates[(rates["t"] == "mean") & (rates["kind"] != "real")]
    print(neurons[["tensor", "part", "block", "nonzero_rate", "ci_low", "ci_high"]].to_markdown(index=False))
    summary, energy = profile.summary(), profile.energy().total
    low, high = (limit / LENGTH * 1e6 for limit in (energy.low, energy.high))
    print(f"{summary['sops_per_image'] / LENGTH:,.0f} SOPs per token")
    print(f"energy {energy.value / LENGTH * 1e6:.1f} nJ [{low:.1f}, {high:.1f}] per token (arithmetic only)")
    print(sa.compare(profile).sentences[0])


if __name__ == "__main__":
    main()
