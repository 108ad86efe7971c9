"""Train on the operations that the paper will print: digits at three strengths of `sa.spike_penalty`.

    python examples/spike_penalty.py --epochs 10

Writes spike_penalty.csv, .md, .svg and .png: accuracy, SOPs and energy of each, with intervals over the test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.stats.intervals import mean_intervals

T, BATCH = 4, 64


class Net(nn.Module):
    """Two convolutions and a classifier on T = 4 repetitions of a still image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            layer.Conv2d(1, 16, 3, padding=1), layer.BatchNorm2d(16), lif(), layer.MaxPool2d(2),
            layer.Conv2d(16, 32, 3, padding=1), layer.BatchNorm2d(32), lif(), layer.MaxPool2d(2),
            layer.Flatten(), layer.Linear(32 * 4 * 4, 10),
        )  # fmt: skip
        functional.set_step_mode(self, "m")

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images.expand(T, *images.shape)).mean(0)  # [T, B, 10] -> [B, 10]


def lif() -> nn.Module:
    return neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True)


def train(net: Net, strength: float, epochs: int, images: Tensor, labels: Tensor) -> tuple[list[float], sa.Profile]:
    """The mean penalty of every epoch, and the counts of the last one, in training mode."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    generator, shares = torch.Generator().manual_seed(0), []
    with sa.record(net.train()) as rec:  # once, around the loop: the first batch traces the network
        for _ in range(epochs):
            rec.reset()
            penalties = []
            for rows in torch.randperm(len(images), generator=generator).split(BATCH):
                logits = net(images[rows])
                penalty = sa.spike_penalty(rec, relative=True)  # SOPs / those of a network that always fires
                loss = nn.functional.cross_entropy(logits, labels[rows]) + strength * penalty
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                functional.reset_net(net)
                penalties.append(penalty.item())
            shares.append(sum(penalties) / len(penalties))
        return shares, rec.profile()


def row_of(strength: float, profile: sa.Profile, training: sa.Profile) -> dict[str, float]:
    sops = profile.operations(per_image=True).groupby("image")["sops"].sum()
    counted, energy, last = mean_intervals(sops.to_numpy()[:, None])[0], profile.energy().total, profile.over_time()
    step = training.training_energy("adamw", BATCH)
    return {
        "strength": strength,
        **{f"accuracy{end}": last[f"accuracy{end}"].iloc[-1] for end in ("", "_low", "_high")},
        **{"sops": counted.value, "sops_low": counted.low, "sops_high": counted.high},
        **{"energy_uj": energy.value * 1e3, "energy_low": energy.low * 1e3, "energy_high": energy.high * 1e3},
        "training_step_uj": step.total.value * 1e3,
    }


def as_markdown(table: pd.DataFrame, n_images: int, epochs: int) -> str:
    shown = pd.DataFrame(
        {
            "strength": table["strength"].map("{:g}".format),
            "accuracy": [f"{r.accuracy:.1%} [{r.accuracy_low:.1%}, {r.accuracy_high:.1%}]" for r in table.itertuples()],
            "SOPs per image": [f"{r.sops:,.0f} [{r.sops_low:,.0f}, {r.sops_high:,.0f}]" for r in table.itertuples()],
            "energy (µJ)": [f"{r.energy_uj:.3f} [{r.energy_low:.3f}, {r.energy_high:.3f}]" for r in table.itertuples()],
            "training step (µJ per image)": table["training_step_uj"].map("{:.2f}".format),
        }
    )
    said = (
        f"{n_images} test digits, T = {T}, {epochs} epochs, one training per strength: intervals are 95 % over images "
        "and say nothing about another seed. The loss is cross-entropy + strength x `sa.spike_penalty(record, "
        "relative=True)`; energies are arithmetic, convention `exact`, Horowitz 45 nm fp32; the training step "
        "(`bptt-spikes`, AdamW) has the firing rates of the last epoch."
    )
    return f"# Accuracy against SOPs: `examples/spike_penalty.py`\n\n{said}\n\n{shown.to_markdown(index=False)}\n"


def draw(table: pd.DataFrame, shares: dict[float, list[float]]) -> None:
    plt.rcParams.update({"svg.hashsalt": "spikeattn", "svg.fonttype": "none"})
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0), layout="constrained")
    for colour, row in zip(("#15202b", "#4477aa", "#ee6677"), table.itertuples(), strict=True):
        label = f"strength {row.strength:g}" if row.strength else "no penalty"
        left.errorbar(
            row.sops / 1e3, row.accuracy, fmt="o", color=colour, capsize=3, label=label,
            xerr=[[(row.sops - row.sops_low) / 1e3], [(row.sops_high - row.sops) / 1e3]],
            yerr=[[row.accuracy - row.accuracy_low], [row.accuracy_high - row.accuracy]],
        )  # fmt: skip
        right.plot(range(1, len(shares[row.strength]) + 1), shares[row.strength], color=colour, label=label)
    left.set(xlabel="SOPs per image (thousand)", ylabel="Accuracy, 95 % over images")
    left.set_xlim(left=0)
    left.yaxis.set_major_formatter("{x:.0%}")
    right.set(xlabel="Epoch", ylabel="SOPs / dense, in training", ylim=(0, None))
    right.yaxis.set_major_formatter("{x:.0%}")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#d5dae0", linewidth=0.7)
    figure.savefig("spike_penalty.svg", metadata={"Date": None})
    figure.savefig("spike_penalty.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=1437, help="of the training split")
    parser.add_argument("--strengths", type=float, nargs=2, default=(0.2, 2.0))
    args = parser.parse_args()
    digits, test = (sa.open_dataset("digits", split=split) for split in ("train", "test"))
    rows, shares, baseline = [], {}, None
    for strength in (0.0, *args.strengths):
        net = Net()
        shares[strength], training = train(
            net, strength, args.epochs, digits.images[: args.images], digits.labels[: args.images]
        )
        profile = sa.profile(net.eval(), sa.make_loader(test, batch_size=60))
        functional.reset_net(net)
        rows.append(row_of(strength, profile, training))
        said = f"strength {strength:g}: accuracy {rows[-1]['accuracy']:.3f}, {rows[-1]['sops']:,.0f} SOPs, energy "
        print(f"{said}{profile.energy().total}")
        baseline = baseline or profile
        if strength:
            print(f"  without penalty / with: {sa.compare(profile, baseline).total.value:.2f} times the energy")
    table = pd.DataFrame(rows)
    table.to_csv("spike_penalty.csv", index=False, float_format="%.6g")
    Path("spike_penalty.md").write_text(as_markdown(table, profile.n_images, args.epochs), encoding="utf-8")
    draw(table, shares)


if __name__ == "__main__":
    main()
