"""A learned gate threshold per channel ("spiking SVDA") beside the plain Spike-driven Transformer, on digits.

    python scripts/train_spiking_svda.py --epochs 20 --seeds 5 --threads 1

Both models of a seed start as the same function (sigma = 1), see the same batches and have the same budget: the recipe
of `training/demo.py`, last epoch, test split looked at once per model. Written to reports/svda after every model:
spiking_svda.csv and spiking_svda.md, whose conclusion follows from the table by rule.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from svda_page import CLEAR, difference, markdown
from torch import nn
from training.demo import BATCH, PEAK_RATE, WEIGHT_DECAY, train
from training.lif import written_out

import spikeattn as sa
from spikeattn.data.digits import Digits
from spikeattn.models.variants import spiking_svda
from spikeattn.storage import csv_text, files
from spikeattn.tracing.neurons import reset

# Smaller than sdt_digits (D=64, 8x8 tokens), so that ten trainings take minutes.
SDT = {"embed_dim": 32, "num_heads": 4, "pooling_stat": "1100"}
PLAIN, SCALED = "plain", "sigma per channel"


def build(name: str, seed: int) -> nn.Module:
    """The Spike-driven Transformer of this seed, or its copy whose gates have a sigma per channel."""
    torch.manual_seed(seed)
    model = sa.create_model("sdt_digits", **SDT)
    return spiking_svda.convert(model) if name == SCALED else model


@torch.no_grad()
def correct(model: nn.Module, digits: Digits) -> int:
    """Images classified right."""
    reset(model)
    right = int((model(digits.images).argmax(1) == digits.labels).sum())
    reset(model)
    return right


def sigmas(model: nn.Module) -> dict[str, float]:
    """The smallest, the middle and the largest sigma of all gates; nothing of a model without."""
    scales = [module.sigma() for module in model.modules() if isinstance(module, spiking_svda.ChannelScale)]
    if not scales:
        return {}
    sigma = torch.cat(scales).detach()
    return {"sigma_min": float(sigma.min()), "sigma_median": float(sigma.median()), "sigma_max": float(sigma.max())}


def run(name: str, seed: int, epochs: int, train_set: Digits, test_set: Digits) -> dict[str, object]:
    """One training, as a row of the table."""
    model = build(name, seed)
    torch.manual_seed(1000 + seed)  # order and shifts: the same for both models of a seed
    start = time.monotonic()
    with written_out(model):
        train(model, train_set.images, train_set.labels, epochs)
    seconds, right, n = time.monotonic() - start, correct(model, test_set), len(test_set)
    row = {"model": name, "seed": seed, "accuracy": right / n, "correct": right, "test_images": n}
    row["parameters"] = sum(p.numel() for p in model.parameters())
    return row | {"seconds": round(seconds, 1)} | sigmas(model)


def conclusion(table: pd.DataFrame) -> str:
    """What the accuracies and sigmas say, in sentences.

    table: rows of `run`, both models of every seed.
    """
    points, error = difference(table, SCALED, PLAIN)
    seeds = table.pivot(index="seed", columns="model", values="accuracy")
    each = ", ".join(f"{100 * d:+.1f}" for d in seeds[SCALED] - seeds[PLAIN])
    end = table[table["model"] == SCALED]
    numbers = (
        f"A sigma per channel against none: {points:+.1f} points (standard error {error:.1f}, the larger "
        f"of that of the test images and that between seeds); by seed {each}. Sigma started at 1 and ended between "
        f"{end['sigma_min'].min():.2f} and {end['sigma_max'].max():.2f}, its median by seed between "
        f"{end['sigma_median'].min():.2f} and {end['sigma_median'].max():.2f}."
    )
    if abs(points) < CLEAR * error or points == 0:
        return f"{numbers} **No effect on the accuracy is shown.**"
    return f"{numbers} **The accuracy is {'higher' if points > 0 else 'lower'} with it, here.**"


def page(table: pd.DataFrame, command: str) -> str:
    """spiking_svda.md."""
    by_model = table.groupby("model", sort=False)
    overview = by_model["accuracy"].agg(["mean", "min", "max", "count"]).rename(columns={"count": "seeds"})
    overview["parameters"], overview["seconds"] = by_model["parameters"].first(), by_model["seconds"].mean().round()
    overview["seconds"] = overview["seconds"].astype(int)
    model = sa.create_model("sdt_digits", **SDT).config
    side, n = model["img_size"] // 2 ** model["pooling_stat"].count("1"), int(table["test_images"].iloc[0])
    return f"""# A gate threshold per channel ("spiking SVDA") beside the plain Spike-driven Transformer

Written by `{command}` with torch {torch.__version__}.

`spikeattn.models.variants.spiking_svda` multiplies the votes of every channel by a learned sigma > 0 before the gate's
neuron, which is a threshold theta / sigma for each channel. It is not SVDA: neither q nor k is normalised, there is no
softmax and no spectrum of directions.

Spike-driven Transformer with {model["depth"]} blocks, D = {model["embed_dim"]}, {model["num_heads"]} heads,
{side}x{side} tokens, T = {model["time_steps"]}, on scikit-learn's digits at 16x16. Both models of a seed start as the
same function and see the same batches; AdamW, peak rate {PEAK_RATE}, weight decay {WEIGHT_DECAY}, batch {BATCH}, last
epoch, {n} test images looked at once per model; sigma learns at the rate of the weights.

{markdown(overview.reset_index(), 4)}

{conclusion(table)}

mean, min and max over seeds. A difference counts from {CLEAR} standard errors. One small data set, one size, one
learning rate: elsewhere it may be otherwise. Seconds are of training, on a machine with other work.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="A learned gate threshold per channel against none, on digits.")
    default = Path(__file__).resolve().parents[1] / "reports" / "svda"
    parser.add_argument("--out", type=Path, default=default, help="folder of the report (default: reports/svda)")
    parser.add_argument("--epochs", type=int, default=20, help="default: 20")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; their number changes sums (default: 1)")
    args = parser.parse_args()
    if min(args.epochs, args.seeds, args.threads) < 1:
        parser.error("--epochs, --seeds and --threads take whole numbers of at least 1")
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    train_set, test_set = (sa.open_dataset("digits", split=split) for split in ("train", "test"))
    rows: list[dict[str, object]] = []
    for seed in range(args.seeds):
        for name in (PLAIN, SCALED):
            rows.append(run(name, seed, args.epochs, train_set, test_set))
            csv_text.save(pd.DataFrame(rows), args.out / "spiking_svda.csv", "%.5g")
            print(f"{name}, seed {seed}: {rows[-1]['correct']}/{rows[-1]['test_images']} right", flush=True)
        command = f"python scripts/train_spiking_svda.py --epochs {args.epochs} --seeds {seed + 1}"
        files.write(args.out / "spiking_svda.md", page(pd.DataFrame(rows), f"{command} --threads {args.threads}"))


if __name__ == "__main__":
    main()
